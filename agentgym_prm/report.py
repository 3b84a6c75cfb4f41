"""A run as one HTML page: success with intervals, learning curves, quality of the step scorer, episodes to read.

The page is a single file that loads nothing: style, charts (``charts.py``) and data are in it. Whatever part of a run
exists is shown: a finished pipeline, one that was interrupted, or an evaluation alone. The same files give the same
bytes. Left out: the episodes of stages that make training data (``demonstrations``, ``rollout``), which nobody judged.
"""

import json
import math
import re
import sys
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Final

from agentgym_prm.charts import (
    Bin,
    Panel,
    Series,
    interval_bar,
    interval_chart,
    line_chart,
    panel_chart,
    reliability_diagram,
)
from agentgym_prm.errors import StoreError, UsageError, needs_extra
from agentgym_prm.evaluate import EpisodeResult, EvalReport, PairedDifference, paired_difference, summarise
from agentgym_prm.store import read_trajectories
from agentgym_prm.types import INJECTED, PARSE_ERROR, Action, InfoKey, Step, Trajectory

STAGES: Final = ("demonstrations", "sft", "rollout", "targets", "prm", "policy", "eval")
"""Folders of a pipeline's stages, in the order in which they run; from ``rollout`` to ``policy`` is an iteration."""
BASELINE: Final = "sft"
"""The agent that the others are compared with, if it was evaluated."""
MAIN_SCORER: Final = "prm"
EPISODES: Final = 12
"""Episodes of each agent that can be read on the page."""
_EPISODE_CHARACTERS: Final = 2_400_000
"""What the episodes of all agents may take on the page."""
_TEXT_CHARACTERS: Final = 3000
"""Longer texts of an episode are cut."""
_SETTING_CHARACTERS: Final = 300
_NOT_SCORERS: Final = {INJECTED, PARSE_ERROR, "choice_logprob"}
"""Keys of ``Action.scores`` that are no judgement of the step."""
_CURVES: Final = {"loss": "loss", "accuracy": "accuracy"}
"""Metrics of training by steps that are drawn: those whose names contain the key, together in one chart."""
_SUCCESS: Final = "eval/success_rate"
_UPDATE_CURVES: Final = (
    ("success", "share of games won", {"rollout/success_rate": "training batch", _SUCCESS: "held-out games"}),
    ("steps of an episode", "steps", {"rollout/mean_steps": "training batch", "eval/mean_steps": "held-out games"}),
    ("divergence", "nats a token", {"policy/kl": "from the start", "policy/approx_kl": "in an update"}),
    ("entropy", "nats a token", {"policy/entropy": "entropy"}),
    ("clipped share", "share of tokens", {"policy/clip_fraction": "clipped"}),
    ("sampler and trainer", "log-probability gap", {"sampler/logprob_gap": "mean", "sampler/logprob_gap_max": "most"}),
    ("preferences", "share of pairs", {"dpo/accuracy": "told right", "dpo/pairs_share": "histories with a pair"}),
    ("preference margin", "log ratio", {"dpo/margin": "chosen less rejected"}),
    ("loss", "loss", {"train/loss": "policy", "value/loss": "values"}),
    ("gradient", "norm", {"train/grad_norm": "norm before clipping"}),
)
"""Metrics of training by updates that are drawn: heading, axis, and the curves' names."""
_REWARD: Final = "reward/"
_JUDGED: Final = ("reward/prm_mean", "reward/prm_best")
"""Mean scores of what a policy samples, which nobody is paid for."""
_SUM_IS_SHOWN: Final = 3
"""Outcome, one term and the sum of terms; with more the sum is drawn too."""
_NOT_JUDGES: Final = {_SUCCESS, "eval/success_low", "eval/success_high", "eval/mean_steps", "eval/score"}
_ADVANTAGE: Final = "eval/advantage_"


def write_report(run_dir: str | Path, path: str | Path | None = None) -> Path:
    """Write one self-contained HTML page about a run.

    Args:
        run_dir: A pipeline's folder, finished or not, or that of ``agentgym-prm eval`` or ``rollout``.
        path: Where to write; by default ``run_dir/report.html``. Missing folders are made, an old page is replaced.

    Returns:
        The file written.

    Raises:
        UsageError: ``run_dir`` is no folder, or holds nothing to show.
        StoreError: A file of the run is damaged; a last line that a kill cut off is not damage.
        MissingDependencyError: Jinja is not installed.
    """
    run = Path(run_dir)
    if not run.is_dir():
        raise UsageError(f"{run} is not a folder: give the directory of a run")
    template = _template()
    agents = _agents(run)
    content = {
        "agents": agents,
        "task_types": sorted({result.task_type for agent in agents for result in agent.report.results}),
        "overview": _overview(agents) if len(agents) > 1 else "",
        "hacking": _hacking(run),
        "curves": _curves(run),
        "quality": _quality(run),
        "stages": _stages(run),
        "settings": _settings(run, agents),
    }
    if not any(content.values()):
        raise UsageError(
            f"{run} holds nothing to show: no config.json, metrics, results or trajectories of a run that has started"
        )
    page = template.render(
        name=run.resolve().name, episodes=_script_json(_viewer(agents)), most_episodes=EPISODES, **content
    )
    target = run / "report.html" if path is None else Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A lone surrogate has no UTF-8 form: it is shown as its code.
    target.write_bytes(page.encode("utf-8", "backslashreplace"))
    return target


def _template() -> Any:
    with needs_extra("train"):
        from jinja2 import Environment, StrictUndefined
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "percent": _percent,
        "points": _points,
        "number": _number,
        "score": _score_text,
        "duration": _duration,
    }
    source = files("agentgym_prm").joinpath("templates", "report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


# --- evaluated agents ---


@dataclass(frozen=True, slots=True)
class _Agent:
    """An evaluated agent; ``versus`` is its difference to the baseline, ``None`` if they share no seed."""

    name: str
    folder: Path
    report: EvalReport
    readable: tuple[Trajectory, ...]
    is_baseline: bool
    versus: PairedDifference | None

    @property
    def bar(self) -> str:
        """Success and its interval, drawn."""
        overall = self.report.overall
        return interval_bar(overall.success_low, overall.success, overall.success_high)

    def by_type(self) -> dict[str, Any]:
        """A summary for each task type that was played."""
        return {row.task_type: row for row in self.report.rows()[:-1]}


@dataclass(slots=True)
class _Readable:
    """The episodes of a stream that can be read on the page: those of the lowest seeds, lost and won."""

    lost: list[Trajectory] = field(default_factory=list)
    won: list[Trajectory] = field(default_factory=list)

    def watch(self, trajectories: Iterable[Trajectory]) -> Iterator[Trajectory]:
        """Pass episodes on, so that a long file is read once and never held."""
        for trajectory in trajectories:
            kept = self.won if EpisodeResult.of(trajectory).won else self.lost
            insort(kept, trajectory, key=lambda each: (each.seed, each.episode))
            del kept[EPISODES:]
            yield trajectory

    def chosen(self) -> tuple[Trajectory, ...]:
        """Lost and won ones by turns."""
        by_turns = chain.from_iterable(zip_longest(self.lost, self.won))
        return tuple(each for each in by_turns if each is not None)[:EPISODES]


def _agents(run: Path) -> list[_Agent]:
    """The agents that were evaluated, the baseline first."""
    read = {name: _read_agent(name, folder) for name, folder in _agent_folders(run).items()}
    known = {name: pair for name, pair in read.items() if pair is not None}
    if not known:
        return []
    baseline = BASELINE if BASELINE in known else next(iter(known))
    seeds = {result.seed for result in known[baseline][0].results}
    agents = []
    for name in sorted(known, key=lambda each: each != baseline):
        report, readable = known[name]
        comparable = name != baseline and any(result.seed in seeds for result in report.results)
        versus = paired_difference(report.results, known[baseline][0].results) if comparable else None
        agents.append(_Agent(name, report.run_dir or run, report, readable, name == baseline, versus))
    return agents


def _agent_folders(run: Path) -> dict[str, Path]:
    """Folders with trajectories of judged agents, by the agents' names.

    In the order in which a finished evaluation judged them, else by name; ``best_of_2`` comes before ``best_of_16``.
    """
    below_eval = [path.parent for path in run.glob("eval/*/trajectories.jsonl")]
    below_run = [path.parent for path in run.glob("*/trajectories.jsonl") if _is_evaluation(path.parent)]
    folders = {folder.name: folder for folder in below_eval or below_run}
    if not folders and (run / "trajectories.jsonl").exists():
        return {_agent_name(run): run}
    results = _mapping(_json_object(run / "eval" / "done.json").get("results"))
    places = {name.removeprefix("success_"): place for place, name in enumerate(results)}
    order = sorted(folders, key=lambda name: (places.get(name, len(places)), _natural(name)))
    return {name: folders[name] for name in order}


def _is_evaluation(folder: Path) -> bool:
    """Whether a folder directly below a run is an agent's and no stage's: only ``evaluate`` writes a summary."""
    return folder.name not in STAGES or (folder / "summary.csv").exists()


def _agent_name(folder: Path) -> str:
    settings = _json_object(folder / "config.json").get("settings")
    name = settings.get("agent") if isinstance(settings, dict) else None
    return name if isinstance(name, str) else folder.resolve().name


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text, int(digits or 0)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", name)]


def _read_agent(name: str, folder: Path) -> tuple[EvalReport, tuple[Trajectory, ...]] | None:
    """Results and readable episodes; ``None`` if the first episode has not ended yet."""
    path, readable = folder / "trajectories.jsonl", _Readable()
    trajectories = readable.watch(read_trajectories(path))
    first = next(trajectories, None)
    if first is None:
        return None
    try:
        return summarise(name, chain([first], trajectories), folder), readable.chosen()
    except StoreError:
        raise
    except ValueError as error:
        raise StoreError(f"{path}: {error}") from error


def _overview(agents: Sequence[_Agent]) -> str:
    """Success of all agents in one drawing."""
    rows = [(agent.name, agent.report.overall) for agent in agents]
    return interval_chart([(name, each.success_low, each.success, each.success_high) for name, each in rows])


# --- the training stages ---


@dataclass(frozen=True, slots=True)
class _Chart:
    """A drawing, its heading, and the names of its curves if it has several."""

    title: str
    svg: str
    legend: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Stage:
    """A finished stage; ``seconds`` is ``None`` where it was not noted."""

    name: str
    seconds: float | None
    results: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Quality:
    """Scorers with their figures, the main one first; charts; and what decided whether the scorer is good enough."""

    scorers: Mapping[str, Mapping[str, Any]]
    charts: tuple[_Chart, ...]
    gate: Mapping[str, str]


def _stages(run: Path) -> list[_Stage]:
    """Finished stages in the order in which they ran; a stage's own folder shows that stage."""
    paths = [*run.glob("done.json"), *run.glob("*/done.json"), *run.glob("iteration_*/*/done.json")]
    stages = []
    for path in sorted(paths, key=lambda path: _stage_place(run, path)):
        done = _json_object(path)
        place = path.parent.relative_to(run).as_posix()
        name = run.resolve().name if place == "." else place
        stages.append(_Stage(name, _finite(done.get("seconds")), _mapping(done.get("results"))))
    return stages


def _stage_place(run: Path, path: Path) -> tuple[int, int, str]:
    """By iteration, then by stage; what comes before and after the iterations stands around them."""
    *outer, _ = path.relative_to(run).parts
    known = [name for name in outer if name in STAGES]
    rank = STAGES.index(known[0]) if known else len(STAGES)
    numbers = [int(name.removeprefix("iteration_")) for name in outer if re.fullmatch("iteration_[0-9]+", name)]
    last = sys.maxsize if rank >= STAGES.index("eval") else 1
    return (numbers[0] if numbers else last, rank, path.as_posix())


def _curves(run: Path) -> list[_Chart]:
    """A chart for each file of metrics and kind of metric in it."""
    charts = []
    for path in sorted(run.rglob("metrics.jsonl"), key=lambda path: _stage_place(run, path)):
        lines = _json_lines(path)
        place = path.parent.relative_to(run).as_posix()
        by_updates = any("update" in line for line in lines)
        for title, svg, legend in _update_charts(lines) if by_updates else _step_charts(lines):
            charts.append(_Chart(title if place == "." else f"{place}: {title}", svg, legend))
    return charts


def _step_charts(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Heading, drawing and names of curves, of training that counts steps."""
    for kind, label in _CURVES.items():
        names = dict.fromkeys(name for line in lines for name in line if kind in name)
        series = [each for each in (_series(lines, name) for name in names) if each.points]
        if series:
            yield label, line_chart(series, "step", label), tuple(each.name for each in series)


def _update_charts(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The same of training that counts updates: success first, then what is paid, then how the training goes."""
    names = dict.fromkeys(name for line in lines for name in line if name.startswith(_REWARD))
    paid = {name: name.removeprefix(_REWARD) for name in names if name not in _JUDGED}
    if len(paid) <= _SUM_IS_SHOWN:
        paid.pop(f"{_REWARD}process", None)  # the sum of nothing, or of one term that is shown itself
    success, *others = _UPDATE_CURVES
    for title, label, curves in (success, ("reward of an episode", "reward", paid), *others):
        series = [_series(lines, name, shown, "update") for name, shown in curves.items()]
        series = [each for each in series if each.points]
        if series:
            within = (0.0, 1.0) if label == success[1] else ()
            svg = panel_chart([Panel(label, series, within)], "update")
            yield title, svg, tuple(each.name for each in series)


def _series(lines: Sequence[Mapping[str, Any]], name: str, shown: str = "", counter: str = "step") -> Series:
    """A metric against what its lines count; the held-out success has its interval as a band."""
    pairs = [(_finite(line.get(counter)), _finite(line.get(name))) for line in lines]
    points = sorted((step, value) for step, value in pairs if step is not None and value is not None)
    band = [
        (step, low, high)
        for step, low, high in (
            (_finite(line.get(counter)), _finite(line.get("eval/success_low")), _finite(line.get("eval/success_high")))
            for line in lines
        )
        if name == _SUCCESS and step is not None and low is not None and high is not None
    ]
    return Series(shown or name, points, sorted(band))


# --- success and reward together ---


@dataclass(frozen=True, slots=True)
class _Judged:
    """A policy as the development games found it: where in training, true success, and means of judges' scores."""

    iteration: int
    update: int
    success: float
    low: float
    high: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Hacking:
    """The chart of success above judges' scores, and its numbers.

    ``judges`` are the scores' names; ``samples`` is whether scores of what the policy samples are drawn, too.
    """

    svg: str
    judges: tuple[str, ...]
    samples: bool
    rows: tuple[_Judged, ...]


def _hacking(run: Path) -> _Hacking | None:
    """True success and what the reward models say of the same episodes, along all training against them.

    Iterations follow one another; the curves of scores break between them, as each has a reward model of its own.
    """
    folders = [run] if (run / "metrics.jsonl").is_file() else _policy_folders(run)
    logs = [(number, _json_lines(folder / "metrics.jsonl")) for number, folder in enumerate(folders, 1)]
    rows = [row for number, lines in logs for row in _judged(number, lines)]
    judges = tuple(dict.fromkeys(name for row in rows for name in row.scores))
    if not judges:
        return None
    starts, length = {}, 0
    for number, lines in logs:
        starts[number] = length
        length += max((int(_finite(line.get("update")) or 0) for line in lines), default=0)
    success = [(starts[row.iteration] + row.update, row) for row in rows]
    band = [(x, row.low, row.high) for x, row in success]
    panels = [Panel("held-out games won (share)", [Series("won", [(x, row.success) for x, row in success], band, 0)])]
    for label, chosen in (("score", False), ("advantage", True)):
        series = [
            each
            for judge in judges
            if judge.startswith(_ADVANTAGE) == chosen
            for each in _judge_series(judge, rows, starts)
        ]
        sampled = [] if chosen else list(_sampled_series(logs, starts))
        if series or sampled:
            panels.append(Panel(f"mean {label} by the reward model", [*series, *sampled]))
    marks = [float(start) for start in starts.values() if start]
    return _Hacking(
        panel_chart(panels, "update", marks), judges, bool(list(_sampled_series(logs, starts))), tuple(rows)
    )


def _policy_folders(run: Path) -> list[Path]:
    later = sorted(run.glob("iteration_*/policy"), key=lambda path: _natural(path.parent.name))
    return [path for path in (run / "policy", *later) if (path / "metrics.jsonl").is_file()]


def _judged(iteration: int, lines: Sequence[Mapping[str, Any]]) -> Iterator[_Judged]:
    for line in lines:
        numbers = [_finite(line.get(name)) for name in ("update", _SUCCESS, "eval/success_low", "eval/success_high")]
        update, success, low, high = numbers
        if update is None or success is None or low is None or high is None:
            continue
        scores = {name: _finite(line[name]) for name in line if name.startswith("eval/") and name not in _NOT_JUDGES}
        known = {name: score for name, score in scores.items() if score is not None}
        yield _Judged(iteration, int(update), success, low, high, known)


def _judge_series(judge: str, rows: Sequence[_Judged], starts: Mapping[int, int]) -> Iterator[Series]:
    name = judge.removeprefix("eval/")
    for iteration, start in starts.items():
        own = [row for row in rows if row.iteration == iteration and judge in row.scores]
        if own:
            yield Series(name, [(start + row.update, row.scores[judge]) for row in own], colour=1)


def _sampled_series(logs: Sequence[tuple[int, Any]], starts: Mapping[int, int]) -> Iterator[Series]:
    """What Online DPO maximises: the mean score of what the policy samples in the states that it trains on."""
    for iteration, lines in logs:
        points = _series(lines, _JUDGED[0], counter="update").points
        if points:
            yield Series("samples", [(starts[iteration] + x, y) for x, y in points], colour=2)


def _quality(run: Path) -> _Quality | None:
    record = _json_object(run / "prm" / "quality.json")
    if not record:
        return None
    scorers = {name: _mapping(figures) for name, figures in _mapping(record.get("scorers")).items()}
    scorers = {name: scorers[name] for name in sorted(scorers, key=lambda name: name != MAIN_SCORER)}
    charts = (_calibration(scorers), _deciles(scorers))
    gate = {name: _shown(value) for name, value in _mapping(record.get("gate")).items()}
    return _Quality(scorers, tuple(chart for chart in charts if chart is not None), gate)


def _calibration(scorers: Mapping[str, Mapping[str, Any]]) -> _Chart | None:
    """The main scorer's reliability diagram, or that of the first that has bins."""
    for name, figures in scorers.items():
        if bins := [each for each in map(_bin, _mappings(figures.get("bins"))) if each is not None]:
            return _Chart(f"Calibration of {name}", reliability_diagram(bins))
    return None


def _bin(record: Mapping[str, Any]) -> Bin | None:
    low, high, score, target = (_finite(record.get(key)) for key in ("low", "high", "mean_score", "mean_target"))
    count = int(_finite(record.get("count")) or 0)
    if low is None or high is None:
        return None
    if score is None or target is None:
        return Bin(low, high, 0, 0.0, 0.0)  # an empty bin has no means
    return Bin(low, high, count, score, target)


def _deciles(scorers: Mapping[str, Mapping[str, Any]]) -> _Chart | None:
    series = []
    for name, figures in scorers.items():
        pairs = [
            (_finite(each.get("decile")), _finite(each.get("mean_target")))
            for each in _mappings(figures.get("deciles"))
        ]
        if points := sorted((x, y) for x, y in pairs if x is not None and y is not None):
            series.append(Series(name, points))
    if not series:
        return None
    svg = line_chart(series, "decile of the score, 10 the highest", "mean target")
    return _Chart("Mean target by score decile", svg, tuple(each.name for each in series))


def _settings(run: Path, agents: Sequence[_Agent]) -> dict[str, dict[str, str]]:
    """Settings of the run and of each evaluation, flat, by title."""
    configs = {"run": run / "config.json"} | {
        f"evaluation of {agent.name}": agent.folder / "config.json" for agent in agents if agent.folder != run
    }
    flat = {title: dict(_flat(_json_object(path))) for title, path in configs.items()}
    return {title: rows for title, rows in flat.items() if rows}


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _shown(value)


# --- episodes to read ---


def _viewer(agents: Sequence[_Agent]) -> list[dict[str, Any]]:
    """What the page's script shows: for each agent its readable episodes, as many as fit into its share of the page."""
    share = _EPISODE_CHARACTERS // max(1, len(agents))
    viewer = []
    for agent in agents:
        episodes, free = [], share
        for episode in map(_episode, agent.readable):
            size = len(_script_json(episode))
            if size <= free:
                episodes.append(episode)
                free -= size
        low, high = _score_range(episodes)
        viewer.append(
            {"name": agent.name, "total": len(agent.report.results), "low": low, "high": high, "episodes": episodes}
        )
    return viewer


def _score_range(episodes: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """What the ends of the colour scale stand for: the lowest and the highest score that is shown."""
    steps = [step for episode in episodes for step in episode["steps"]]
    scores = [step["score"] for step in steps] + [other[2] for step in steps for other in step["others"]]
    known = [score for score in scores if score is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _episode(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "seed": trajectory.seed,
        "won": EpisodeResult.of(trajectory).won,
        "type": _cut(trajectory.task_type),
        "task": _cut(trajectory.task),
        "steps": [_step(step) for step in trajectory.steps],
        "end": _cut(trajectory.final_observation),
    }


def _step(step: Step) -> dict[str, Any]:
    action = step.action
    scorer = _scorer(action)
    drawn = Counter(candidate.command for candidate in action.candidates)
    return {
        "observation": _cut(step.observation),
        "reasoning": _cut(action.reasoning),
        "command": _cut(action.command),
        "scorer": scorer,
        "score": _score(action, scorer),
        "drawn": 1 + drawn[action.command],
        "others": _others(action, scorer, drawn),
        "outcome": _rounded(step.outcome_reward),
        "process": _rounded(step.process_reward),
        "notes": _notes(step),
    }


def _scorer(action: Action) -> str | None:
    """Which of the action's scores is the judgement of the step: the last one, as that decided."""
    names = [name for name in action.scores if name not in _NOT_SCORERS]
    return names[-1] if names else None


def _score(action: Action, scorer: str | None) -> float | None:
    return None if scorer is None else _rounded(action.scores.get(scorer))


def _others(action: Action, scorer: str | None, drawn: Mapping[str, int]) -> list[tuple[str, int, float | None]]:
    """The other commands that were considered, how often each was drawn, and its score; the best first."""
    scores: dict[str, float | None] = {}
    for candidate in action.candidates:
        score = _score(candidate, scorer)
        if candidate.command != action.command and (score is not None or candidate.command not in scores):
            scores[candidate.command] = score
    best_first = sorted(scores.items(), key=lambda pair: -math.inf if pair[1] is None else pair[1], reverse=True)
    return [(_cut(command), drawn[command], score) for command, score in best_first]


def _notes(step: Step) -> list[str]:
    known = {
        "not executed": not step.info.get(InfoKey.VALID_ACTION, True),
        "injected as noise": bool(step.action.scores.get(INJECTED)),
        "no command in the reply": bool(step.action.scores.get(PARSE_ERROR)),
    }
    return [note for note, holds in known.items() if holds]


def _cut(text: str) -> str:
    if len(text) <= _TEXT_CHARACTERS:
        return text
    return f"{text[:_TEXT_CHARACTERS]}… ({len(text) - _TEXT_CHARACTERS} more characters)"


def _script_json(value: Any) -> str:
    """JSON that can stand in a ``<script>``: without a ``<`` that could end it, and in ASCII."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# --- reading and showing values ---


def _json_object(path: Path) -> dict[str, Any]:
    """The object in a file; empty if there is no such file."""
    if not path.is_file():
        return {}
    return _parsed(path.read_bytes(), str(path))


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file, one a line; a last line that was cut off is left out."""
    lines = path.read_bytes().splitlines(keepends=True)
    return [_parsed(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.endswith(b"\n")]


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise StoreError(f"{where} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise StoreError(f"{where} must hold an object, got {record!r:.80}")
    return record


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [_mapping(each) for each in value] if isinstance(value, list) else []


def _finite(value: Any) -> float | None:
    """The value if it is a finite number: JSON written by Python may hold NaN."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _rounded(value: Any) -> float | None:
    finite = _finite(value)
    return None if finite is None else float(f"{finite:.4g}")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SETTING_CHARACTERS else f"{text[:_SETTING_CHARACTERS]}… ({len(text)} characters)"


def _number(value: Any) -> str:
    """Three decimals or four digits; text as it is.

    >>> _number(0.71234), _number(12), _number(31234.5), _number("yes"), _number(None), _number(0.00002)
    ('0.712', '12', '31234', 'yes', '–', '2e-05')
    """
    if isinstance(value, str | bool | int):
        return _shown(value)
    finite = _finite(value)
    if finite is None:
        return "–"
    if 0 < abs(finite) < 0.001:
        return f"{finite:.2g}"
    return f"{finite:.3f}" if abs(finite) < 1000 else f"{finite:.0f}"


def _score_text(value: float | None) -> str:
    """Four digits, as differences of scores are small.

    >>> _score_text(0.789534), _score_text(-0.0112781), _score_text(None)
    ('0.7895', '-0.01128', '–')
    """
    return "–" if value is None else f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    """A difference of shares in percentage points, with its sign.

    >>> _points(0.125), _points(-0.02), _points(0.0)
    ('+12.5', '−2.0', '0.0')
    """
    sign = "+" if share > 0 else "−" if share < 0 else ""
    return f"{sign}{100 * abs(share):.1f}"


def _duration(seconds: float | None) -> str:
    """Seconds as people read them.

    >>> _duration(4.25), _duration(75), _duration(3725), _duration(None)
    ('4.2 s', '1 min 15 s', '1 h 02 min', '–')
    """
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
