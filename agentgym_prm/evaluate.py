"""How good an agent is: success with its interval, steps, score and grounding, overall and for each task type; and how
much better than another one on the same episodes.

Only the environment's outcome counts here, never a process reward. The interval is Wilson's score interval at 95 %,
which stays inside [0, 1] and is honest for small samples and for success rates near the ends.
"""

import csv
import json
import math
import platform
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
from gymnasium.vector import AutoresetMode

from agentgym_prm.agents.core import Agent
from agentgym_prm.errors import StoreError
from agentgym_prm.rollout import stream
from agentgym_prm.store import read_trajectories
from agentgym_prm.types import Action, InfoKey, Trajectory
from agentgym_prm.version import __version__

ALL_TASKS: Final = "all"
_Z_95: Final = 1.959963984540054
_TOKENS: Final = ("prompt_tokens", "completion_tokens")
_REQUESTS: Final = "requests"
_COST: Final = "cost"


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """What counts of one episode."""

    task_type: str
    won: bool
    steps: int
    score: float
    grounding: float
    goal_condition_success_rate: float
    seed: int = 0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    requests: float = 0.0
    cost: float | None = None

    @classmethod
    def of(cls, trajectory: Trajectory) -> "EpisodeResult":
        """Read off a finished trajectory. ``grounding`` is the share of its commands that were executed.

        Tokens, requests to a server and their cost (US dollars) are those of the actions and of the candidates that
        were not taken, also where they came from a cache. ``cost`` is ``None`` if nothing was requested, or if a price
        is not known.
        """
        steps = trajectory.steps
        last = steps[-1].info
        won = trajectory.won
        valid = [bool(step.info.get(InfoKey.VALID_ACTION, True)) for step in steps]
        return cls(
            task_type=trajectory.task_type,
            won=won,
            steps=len(steps),
            score=float(last.get(InfoKey.SCORE, trajectory.outcome)),
            grounding=sum(valid) / len(valid),
            goal_condition_success_rate=float(last.get(InfoKey.GOAL_CONDITION_SUCCESS_RATE, won)),
            seed=trajectory.seed,
            **_usage(trajectory),
        )


def _usage(trajectory: Trajectory) -> dict[str, Any]:
    """What the replies of an episode took."""
    usages = [action.usage for step in trajectory.steps for action in _replies(step.action)]
    asked = [usage for usage in usages if _REQUESTS in usage]
    known = bool(asked) and all(_COST in usage for usage in asked)
    sums = {name: sum(usage.get(name, 0) for usage in usages) for name in (*_TOKENS, _REQUESTS)}
    return {**sums, _COST: sum(usage[_COST] for usage in asked) if known else None}


def _replies(action: Action) -> Iterator[Action]:
    """An action and those that were considered with it."""
    yield action
    for candidate in action.candidates:
        yield from _replies(candidate)


@dataclass(frozen=True, slots=True)
class Summary:
    """One row of a report: rates in [0, 1], steps in commands, means over episodes.

    ``mean_cost`` is in US dollars, ``None`` if that of an episode is not known.
    """

    task_type: str
    episodes: int
    won: int
    success: float
    success_low: float
    success_high: float
    mean_steps: float
    mean_score: float
    grounding: float
    goal_condition_success_rate: float
    mean_prompt_tokens: float
    mean_completion_tokens: float
    mean_requests: float
    mean_cost: float | None

    @classmethod
    def of(cls, task_type: str, results: Sequence[EpisodeResult]) -> "Summary":
        """Summarise at least one episode."""
        count, won = len(results), sum(result.won for result in results)
        low, high = wilson_interval(won, count)
        costs = [result.cost for result in results if result.cost is not None]
        return cls(
            task_type=task_type,
            episodes=count,
            won=won,
            success=won / count,
            success_low=low,
            success_high=high,
            mean_steps=sum(result.steps for result in results) / count,
            mean_score=sum(result.score for result in results) / count,
            grounding=sum(result.grounding for result in results) / count,
            goal_condition_success_rate=sum(result.goal_condition_success_rate for result in results) / count,
            mean_prompt_tokens=sum(result.prompt_tokens for result in results) / count,
            mean_completion_tokens=sum(result.completion_tokens for result in results) / count,
            mean_requests=sum(result.requests for result in results) / count,
            mean_cost=sum(costs) / count if len(costs) == count else None,
        )

    @property
    def usage(self) -> str:
        """What an episode took of a server, in words; empty if nothing was asked of one."""
        if not self.mean_requests:
            return ""
        cost = "cost unknown" if self.mean_cost is None else f"{self.mean_cost:.4f} USD"
        tokens = f"{self.mean_prompt_tokens:,.0f} + {self.mean_completion_tokens:,.0f} tokens"
        return f"{tokens}, {self.mean_requests:.1f} requests, {cost}"


def wilson_interval(successes: int, trials: int, z: float = _Z_95) -> tuple[float, float]:
    """Wilson's score interval for a proportion.

    Args:
        successes: In ``[0, trials]``.
        trials: At least 1.
        z: Normal quantile; the default gives 95 %.

    Returns:
        Lower and upper bound, in ``[0, 1]``.

    Raises:
        ValueError: Counts out of range.

    Source: E. B. Wilson, JASA 22 (1927), p. 209.

    >>> [round(bound, 4) for bound in wilson_interval(8, 10)]
    [0.4902, 0.9433]
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"need 0 <= successes <= trials and trials >= 1, got {successes} of {trials}")
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    margin = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At the ends the formula gives 0 and 1 up to rounding.
    return (0.0 if successes == 0 else centre - margin), (1.0 if successes == trials else centre + margin)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much more often one agent wins than another on the same episodes; see ``paired_difference``."""

    pairs: int
    only_a: int
    only_b: int
    difference: float
    low: float
    high: float
    p_value: float


def paired_difference(
    a: Sequence[Trajectory | EpisodeResult], b: Sequence[Trajectory | EpisodeResult]
) -> PairedDifference:
    """Success of ``a`` minus success of ``b`` on the seeds that both played.

    The k-th episode of a seed in ``a`` is paired with the k-th of that seed in ``b``; episodes without a partner do not
    count. The interval (95 %) is the normal approximation for the mean of the differences -1, 0 and 1. It is too narrow
    while few pairs differ, and has no width when none does; the p-value, McNemar's exact one (two-sided), is exact
    always.

    Args:
        a: Episodes of the one agent, on the same environment as ``b``.
        b: Episodes of the other.

    Returns:
        ``difference = (only_a - only_b) / pairs`` in [-1, 1], where ``only_a`` pairs were won by ``a`` alone.

    Raises:
        ValueError: No seed occurs in both.

    Source: R. G. Newcombe, Statistics in Medicine 17 (1998), p. 2635, method 1; Q. McNemar, Psychometrika 12 (1947).

    >>> won, lost = (EpisodeResult("heat", won, 1, 0.0, 1.0, 0.0) for won in (True, False))
    >>> paired = paired_difference([won, won, won, lost], [lost, lost, won, won])
    >>> (paired.only_a, paired.only_b, paired.difference, paired.p_value)
    (2, 1, 0.25, 1.0)
    """
    won_a, won_b = _won_by_seed(a), _won_by_seed(b)
    differences = [int(won_a[key]) - int(won_b[key]) for key in won_a if key in won_b]
    if not differences:
        raise ValueError("no seed occurs in both: there is nothing to pair")
    pairs, only_a, only_b = len(differences), differences.count(1), differences.count(-1)
    mean = (only_a - only_b) / pairs
    margin = _Z_95 * math.sqrt((only_a + only_b) / pairs - mean * mean) / math.sqrt(pairs)
    return PairedDifference(
        pairs=pairs,
        only_a=only_a,
        only_b=only_b,
        difference=mean,
        low=max(-1.0, mean - margin),
        high=min(1.0, mean + margin),
        p_value=_mcnemar(only_a, only_b),
    )


def _won_by_seed(episodes: Iterable[Trajectory | EpisodeResult]) -> dict[tuple[int, int], bool]:
    """Whether each episode was won, by its seed and how often that seed occurred before."""
    occurrences: Counter[int] = Counter()
    won = {}
    for episode in episodes:
        result = EpisodeResult.of(episode) if isinstance(episode, Trajectory) else episode
        won[result.seed, occurrences[result.seed]] = result.won
        occurrences[result.seed] += 1
    return won


def _mcnemar(only_a: int, only_b: int) -> float:
    """Probability of a split at least as uneven when either side is as likely."""
    discordant = only_a + only_b
    tail = sum(math.comb(discordant, count) for count in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / (1 << discordant))


@dataclass(frozen=True, slots=True)
class EvalReport:
    """Results of an evaluation, in episode order; ``run_dir`` is where its files are, if it wrote any.

    ``scores`` is what else was measured in the same episodes, by name, e.g. a mean score of a reward model. It never
    counts as success.
    """

    agent: str
    results: tuple[EpisodeResult, ...]
    run_dir: Path | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def overall(self) -> Summary:
        """All episodes together."""
        return Summary.of(ALL_TASKS, self.results)

    def rows(self) -> list[Summary]:
        """One summary for each task type, by name, and the overall one last."""
        by_type: defaultdict[str, list[EpisodeResult]] = defaultdict(list)
        for result in self.results:
            by_type[result.task_type].append(result)
        return [Summary.of(kind, by_type[kind]) for kind in sorted(by_type)] + [self.overall]

    def success_within(self, steps: int) -> float:
        """Share of episodes won in at most ``steps`` commands."""
        return sum(result.won and result.steps <= steps for result in self.results) / len(self.results)

    def write_csv(self, path: str | Path) -> None:
        """Write ``rows`` with a header line."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Summary)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in self.rows())

    def __str__(self) -> str:
        heading = f"{'task type':<32}{'episodes':>9}{'success':>9}  {'95 % interval':<16}"
        lines = [f"{heading}{'steps':>6}{'score':>7}{'grounding':>11}"]
        for row in self.rows():
            interval = f"[{row.success_low:6.1%}, {row.success_high:6.1%}]"
            lines.append(
                f"{row.task_type:<32}{row.episodes:>9}{row.success:>9.1%}  {interval:<16}"
                f"{row.mean_steps:>6.1f}{row.mean_score:>7.2f}{row.grounding:>11.1%}"
            )
        if usage := self.overall.usage:
            lines.append(f"an episode took {usage}")
        return "\n".join(lines)


def summarise(agent: str, trajectories: Iterable[Trajectory], run_dir: Path | None = None) -> EvalReport:
    """Report on finished trajectories.

    Raises:
        ValueError: There are none, or an episode occurs twice.
    """
    results: dict[int, EpisodeResult] = {}
    for trajectory in trajectories:
        if trajectory.episode in results:
            raise ValueError(f"episode {trajectory.episode} occurs twice: it would count twice")
        results[trajectory.episode] = EpisodeResult.of(trajectory)
    if not results:
        raise ValueError("no episodes to report on")
    return EvalReport(agent, tuple(results[episode] for episode in sorted(results)), run_dir)


def evaluate(
    agent: Agent,
    env_id: str,
    seeds: Sequence[int] | None = None,
    *,
    num_envs: int = 32,
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    settings: Mapping[str, Any] | None = None,
    **env_kwargs: Any,
) -> EvalReport:
    """Play one episode for each seed and report.

    Args:
        agent: Who is judged.
        env_id: A registered text environment, e.g. ``"agentgym_prm/ALFWorld-v0"``; one without a vector entry point is
            stepped by Gymnasium's ``SyncVectorEnv``.
        seeds: Which episodes; by default every task of the environment once.
        num_envs: Slots stepped together, at least 1; changes the speed, not the result.
        run_dir: Folder for ``config.json``, ``trajectories.jsonl`` and ``summary.csv``; ``None`` writes nothing.
            ``dated_run_dir`` makes a name.
        resume: Continue in an existing ``run_dir``.
        progress: Show a progress bar.
        settings: What else decides the result, e.g. the agent's seed: written to ``config.json``, checked on resume.
        **env_kwargs: Passed to the environment, e.g. ``split="valid_unseen"``.

    Raises:
        FileExistsError: ``run_dir`` has trajectories and ``resume`` is false.
        StoreError: ``run_dir`` belongs to another evaluation.
        ValueError: ``seeds`` is empty.
    """
    if seeds is not None:
        seeds = [int(seed) for seed in seeds]
        if not seeds:
            raise ValueError("seeds must name at least one episode")
        num_envs = min(num_envs, len(seeds))
    envs = playing_envs(agent, partial(make_envs, env_id, **env_kwargs), num_envs)
    try:
        if seeds is None:
            seeds = list(range(envs[0].unwrapped.envs[0].unwrapped.num_tasks))  # type: ignore[attr-defined]
        if run_dir is None:
            return summarise(agent.name, stream(agent, envs, seeds, progress=progress))
        folder = Path(run_dir)
        known = {"agent": agent.name, "env_id": env_id, "env": env_kwargs, "seeds": seeds}
        start_run(folder, {**known, **(settings or {})}, resume=resume)
        path = folder / "trajectories.jsonl"
        for _ in stream(agent, envs, seeds, path=path, resume=resume, progress=progress):
            pass
        report = summarise(agent.name, read_trajectories(path), folder)
        report.write_csv(folder / "summary.csv")
        return report
    finally:
        for each in envs:
            each.close()


def playing_envs(
    agent: Agent, make: Callable[[int], gym.vector.VectorEnv[Any, Any, Any]], num_envs: int
) -> list[gym.vector.VectorEnv[Any, Any, Any]]:
    """What ``agent`` plays ``num_envs`` games at a time in: one vector environment, or one for each if it waits.

    Args:
        agent: Who plays.
        make: Makes a vector environment of so many slots.
        num_envs: Slots in all.
    """
    return [make(1) for _ in range(num_envs)] if agent.waits else [make(num_envs)]


def make_envs(env_id: str, num_envs: int, **env_kwargs: Any) -> gym.vector.VectorEnv[Any, Any, Any]:
    """``num_envs`` copies of a registered text environment without autoreset, as ``collect`` needs them."""
    if gym.spec(env_id).vector_entry_point is not None:
        return gym.make_vec(env_id, num_envs=num_envs, **env_kwargs)
    vector_kwargs = {"autoreset_mode": AutoresetMode.DISABLED}
    return gym.make_vec(env_id, num_envs, vectorization_mode="sync", vector_kwargs=vector_kwargs, **env_kwargs)


def dated_run_dir(name: str, root: str | Path = "runs") -> Path:
    """``runs/2026-01-31_12-00-00_NAME``: a fresh name for a run directory."""
    return Path(root) / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}"


def start_run(folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Make a run directory with ``config.json``, or check that an existing one belongs to the same settings.

    Raises:
        FileExistsError: It exists and ``resume`` is false.
        StoreError: It was started with other settings; the message names the first that differs.
    """
    config = folder / "config.json"
    if config.exists():
        if not resume:
            raise FileExistsError(f"{folder} exists: resume it, or choose another run directory")
        _check_settings(folder, json.loads(json.dumps(settings)))
        return
    folder.mkdir(parents=True, exist_ok=True)
    temporary = config.with_suffix(".tmp")
    temporary.write_text(json.dumps({"settings": settings, **_provenance()}, indent=2) + "\n", encoding="utf-8")
    temporary.replace(config)


def _check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    try:
        before = json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder / 'config.json'} is damaged ({error!r}): start another run directory") from error
    for name, now in settings.items():
        then = before.get(name)
        if then == now:
            continue
        if isinstance(then, list) and isinstance(now, list):
            first = next(
                (i for i, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), min(len(then), len(now))
            )
            raise StoreError(
                f"{folder} was started with {len(then)} {name}, here are {len(now)}; number {first} differs first"
            )
        raise StoreError(f"{folder} was started with {name} = {then!r:.80}, not {now!r:.80}")


def _provenance() -> dict[str, Any]:
    """What is needed to trust a figure later: when, where, and with which versions it was made."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": {"agentgym_prm": __version__, **{name: version(name) for name in ("gymnasium", "numpy")}},
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {platform.system()}",
    }


def _commit() -> str | None:
    """The commit of this package's own checkout, with ``-dirty`` if files differ; ``None`` outside of one."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=root, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None  # installed somewhere inside another project's repository
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
