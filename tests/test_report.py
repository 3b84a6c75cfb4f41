import json
import re
import sys
from collections.abc import Iterable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from agentgym_prm.errors import MissingDependencyError, StoreError, UsageError
from agentgym_prm.evaluate import evaluate
from agentgym_prm.report import EPISODES, write_report
from agentgym_prm.store import TrajectoryWriter
from agentgym_prm.testing import ScriptedAgent, ScriptedEnv
from agentgym_prm.types import Action, Step, Trajectory

HOSTILE = """</script><script>alert(1)</script><!-- "quoted" 'single' & <b>bold</b> \ud800 日本語 🙂 \u2028 \x00"""
VOID = {"meta", "br"}


class Page(HTMLParser):
    """A page read strictly: every element is closed in order; the cells of each table and all texts are kept."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_bytes().decode("utf-8")
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
            return
        if self.open and self.open[-1] != "style":
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def agents(self) -> list[dict[str, Any]]:
        """What the viewer's script reads."""
        return json.loads(self.scripts[0])

    def row(self, first: str) -> list[str]:
        (row,) = [row for row in self.rows if row and row[0] == first]
        return row

    def headings(self) -> set[str]:
        return set(re.findall(r"<h2>(.*?)</h2>", self.source))


def report(run: Path) -> Page:
    return Page(write_report(run))


def trajectory(seed: int, won: bool, *, steps: Sequence[Step] = (), kind: str = "heat") -> Trajectory:
    steps = steps or (Step("you see a stove", (), Action("wait")),) * 3
    last = Step("almost", (), Action("finish"), float(won), terminated=True, info={"won": won, "valid_action": True})
    return Trajectory(f"task {seed}", seed, (*steps, last), "the end", f"id-{seed}", kind, seed)


def save(folder: Path, trajectories: Iterable[Trajectory]) -> Path:
    with TrajectoryWriter(folder / "trajectories.jsonl") as writer:
        for each in trajectories:
            writer.write(each)
    return folder


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def scorer_figures(slope: float) -> dict[str, Any]:
    return {
        "pairwise_accuracy": 0.5 + slope / 4,
        "pairwise_low": 0.4,
        "pairwise_high": 0.9,
        "pairs": 321,
        "auc": None,
        "bins": [
            {"low": 0.0, "high": 0.5, "count": 30, "mean_score": 0.25, "mean_target": 0.3},
            {"low": 0.5, "high": 1.0, "count": 0, "mean_score": None, "mean_target": None},
        ],
        "deciles": [
            {"decile": n, "count": 3, "mean_score": n / 10, "mean_target": slope * n / 10} for n in range(1, 11)
        ],
    }


@pytest.fixture
def pipeline(tmp_path):
    run = tmp_path / "run"
    save(run / "eval" / "sft", (trajectory(seed, seed in (0, 1)) for seed in range(10)))
    save(run / "eval" / "best_of_16", (trajectory(seed, seed != 0) for seed in range(10)))
    save(run / "eval" / "best_of_2", (trajectory(seed, seed < 5, kind="cool") for seed in range(20)))
    save(run / "rollout", [trajectory(0, True)])
    save(run / "probe", [trajectory(0, True)])
    write_json(run / "config.json", {"settings": {"model": {"width": 64}, "seeds": list(range(1000))}})
    for stage, seconds in (("prm", 3725.0), ("sft", 4.25), ("demonstrations", 75.0)):
        write_json(
            run / stage / "done.json", {"stage": stage, "seconds": seconds, "results": {"loss": 0.25, "note": "ok"}}
        )
    write_lines(
        run / "sft" / "metrics.jsonl", ({"step": n, "sft/loss": 2 / n, "sft/learning_rate": 1} for n in range(1, 9))
    )
    write_lines(
        run / "prm" / "metrics.jsonl",
        [
            {"step": 10, "prm/loss": 0.7, "prm/validation_loss": 0.8},
            {"step": 20, "prm/loss": float("nan"), "prm/pairwise_accuracy": 0.75},
        ],
    )
    write_json(
        run / "prm" / "quality.json",
        {"scorers": {"random": scorer_figures(0.0), "prm": scorer_figures(1.0)}, "gate": {"passed": True}},
    )
    return run


def test_a_whole_pipeline_shows_every_section(pipeline):
    page = report(pipeline)
    assert page.headings() == {
        "Results", "Learning curves", "Quality of the step scorer", "Episodes", "Stages", "Settings",
    }  # fmt: skip
    assert "rollout" not in page.text  # nobody judged its episodes, and it is not done
    assert "probe" not in page.text  # a pipeline's agents are below eval


def test_the_table_of_results_by_hand(pipeline):
    page = report(pipeline)
    names = [row[0] for row in page.rows[:4]]
    assert names == ["agent", "sft", "best_of_2", "best_of_16"]  # the baseline first, then by number
    sft, two, sixteen = page.rows[1:4]
    # Wilson for 2 of 10: centre (0.2 + 0.192073) / 1.384146 = 0.283259; margin 1.959964 / 1.384146 *
    # sqrt(0.016 + 0.009604) = 0.226577.
    assert sft[1:4] == ["10", "20.0 %", "5.7 % – 51.0 %"]
    assert sft[5:] == ["0.20", "4.0", "100.0 %", "baseline", "", ""]
    # Against sft on seeds 0-9: 8 won here alone (2-9), 1 there alone (0). Mean 0.7, variance 0.9 - 0.49 = 0.41,
    # margin 1.959964 * sqrt(0.041) = 0.396862, cut at 1; McNemar 2 * (1 + 9) / 512 = 0.0390625.
    assert sixteen[8:10] == ["+70.0 [+30.3, +100.0]", "0.039"]
    assert sixteen[10].startswith("10 (8 won here only, 1 there only)")
    # Twenty episodes, of which ten have a partner: 3 won here alone (2-4).
    assert two[1:3] == ["20", "25.0 %"]
    assert two[10].startswith("10 (3 won here only, 0 there only)")
    assert page.row("cool")[1:] == ["–", "25.0 %11.2 % – 46.9 %5 of 20", "–"]


def test_agents_without_common_seeds_are_not_compared(tmp_path):
    save(tmp_path / "a", [trajectory(0, True)])
    save(tmp_path / "b", [trajectory(1, True)])
    page = report(tmp_path)
    assert page.row("b")[8] == "no seeds in common"
    assert [row[0] for row in page.rows[:3]] == ["agent", "a", "b"]


def test_stages_are_listed_in_their_order_with_their_times(pipeline):
    page = report(pipeline)
    at = page.rows.index(["stage", "time", "results"])
    assert [row[:2] for row in page.rows[at + 1 : at + 5]] == [
        ["demonstrations", "1 min 15 s"],
        ["sft", "4.2 s"],
        ["prm", "1 h 02 min"],
        ["together", "1 h 03 min"],
    ]
    assert " ".join(page.rows[at + 2][2].split()) == "loss 0.250 · note ok"


def test_curves_are_drawn_for_every_file_of_metrics(pipeline):
    page = report(pipeline)
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", page.source)
    assert titles == [
        "Success with its 95 % interval", "sft: loss", "prm: loss", "prm: accuracy", "Calibration of prm",
        "Mean target by score decile",
    ]  # fmt: skip
    assert "prm/validation_loss" in page.text
    assert "nan" not in " ".join(value for name, value in page.attributes if name == "points")


def update_line(update, success=None, score=None, **others):
    line = {"update": update, **others}
    if success is not None:
        line |= {"eval/success_rate": success, "eval/success_low": success - 0.1, "eval/success_high": success + 0.1}
        line |= {"eval/mean_steps": 9.0, "eval/prm": score, "eval/advantage_prm": score / 100}
    return line


@pytest.fixture
def hacked(pipeline):
    """Two iterations against reward models; in the second one success falls while the score rises."""
    first = [update_line(0, 0.25, 0.5), update_line(1), update_line(2, 0.5, 0.625)]
    second = [update_line(0, 0.5, 0.25), update_line(1, 0.125, 0.375, **{"reward/prm_mean": 0.75})]
    write_lines(pipeline / "policy" / "metrics.jsonl", first)
    write_lines(pipeline / "iteration_2" / "policy" / "metrics.jsonl", second)
    for place, seconds in (("policy", 6.0), ("iteration_2/rollout", 1.0), ("iteration_2/policy", 2.0), ("eval", 3.0)):
        write_json(pipeline / place / "done.json", {"seconds": seconds, "results": {}})
    return pipeline


def test_success_and_reward_of_all_iterations_are_drawn_over_one_another(hacked):
    page = report(hacked)
    section = page.source[page.source.index('<section id="reward">') : page.source.index('<section id="learning">')]
    # The second iteration starts after two updates. Horizontally 0 to 3 are ticks of 0.5 over 58..466; success with
    # its band, 0.025 to 0.6, is on 0 to 0.6 over 162..32; scores, 0.25 to 0.75, on 0.2 to 0.8 over 324..194.
    assert re.findall(r'<polyline points="([^"]*)"', section)[:3] == [
        "58.0,107.8 330.0,53.7 330.0,53.7 466.0,134.9",
        "58.0,259.0 330.0,231.9",
        "330.0,313.2 466.0,286.1",
    ]
    assert "<title>won 0.125 at 3</title>" in section
    assert "<title>samples 0.75 at 3</title>" in section
    at = page.rows.index(["iteration", "update", "success", "95 % interval", "prm", "advantage_prm"])
    assert page.rows[at + 1 : at + 5] == [
        ["1", "0", "25.0 %", "15.0 % – 35.0 %", "0.5", "0.005"],
        ["1", "2", "50.0 %", "40.0 % – 60.0 %", "0.625", "0.00625"],
        ["2", "0", "50.0 %", "40.0 % – 60.0 %", "0.25", "0.0025"],
        ["2", "1", "12.5 %", "2.5 % – 22.5 %", "0.375", "0.00375"],
    ]
    assert "a new iteration begins" in section


def test_stages_of_later_iterations_come_before_the_evaluation(hacked):
    page = report(hacked)
    at = page.rows.index(["stage", "time", "results"])
    assert [row[0] for row in page.rows[at + 1 :]][:8] == [
        "demonstrations", "sft", "prm", "policy", "iteration_2/rollout", "iteration_2/policy", "eval", "together",
    ]  # fmt: skip


def test_a_training_run_alone_shows_its_learning_curves(tmp_path):
    lines = [
        {"update": n, "rollout/success_rate": n / 4, "reward/outcome": n / 4, "reward/process": 0.5, "reward/a": 0.25,
         "reward/b": 0.25, "policy/kl": 0.1, "policy/entropy": 1.0, "train/loss": 0.0, "time/env_s": 1.0}
        for n in (1, 2)
    ]  # fmt: skip
    write_lines(tmp_path / "metrics.jsonl", lines)
    write_json(tmp_path / "done.json", {"seconds": 5.0, "results": {"updates": 2}})
    page = report(tmp_path)
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", page.source)
    assert titles == ["success", "reward of an episode", "divergence", "entropy", "loss"]
    assert re.findall(r'<li class="series-[0-9]">(.*?)</li>', page.source) == ["outcome", "process", "a", "b"]
    assert '<section id="reward">' not in page.source  # no reward model judged held-out games
    assert page.row(tmp_path.name)[1] == "5.0 s"


def test_agents_stand_in_the_order_in_which_they_were_judged(pipeline):
    results = {f"success_{name}": 0.5 for name in ("sft", "best_of_16", "best_of_2")}
    write_json(pipeline / "eval" / "done.json", {"seconds": 1.0, "results": results})
    page = report(pipeline)
    assert [row[0] for row in page.rows[:4]] == ["agent", "sft", "best_of_16", "best_of_2"]
    drawn = re.findall(r"<title>(\w+): ([0-9.]+) %", page.source)
    assert drawn == [("sft", "20.0"), ("best_of_16", "90.0"), ("best_of_2", "25.0")]


def test_the_main_scorer_comes_first_and_missing_figures_are_dashes(pipeline):
    page = report(pipeline)
    at = next(number for number, row in enumerate(page.rows) if row[0] == "scorer")
    assert page.rows[at + 1] == ["prm", "0.750", "0.400 – 0.900", "321", "–", "–", "–", "–"]
    assert page.rows[at + 2][0] == "random"
    assert page.row("passed") == ["passed", "true"]


def test_settings_are_flat_and_long_ones_are_cut(pipeline):
    page = report(pipeline)
    assert page.row("settings.model.width") == ["settings.model.width", "64"]
    assert page.row("settings.seeds")[1].endswith("characters)")


def test_scores_and_other_candidates_reach_the_viewer(tmp_path):
    action = Action(
        "go",
        reasoning="because",
        scores={"choice_logprob": -1.0, "prm": 0.9},
        candidates=(
            Action("wait", scores={"prm": 0.2}),
            Action("odd"),
            Action("go", scores={"prm": 0.9}),
            Action("look", scores={"prm": 0.7}),
            Action("wait", scores={"prm": 0.2}),
        ),
    )
    judged = Step("here", (), action, process_reward=0.5, info={"valid_action": False})
    slip = Step("there", (), Action("", scores={"injected": 1.0, "parse_error": 1.0, "choice_logprob": -2.0}))
    save(tmp_path / "agent", [trajectory(0, True, steps=(judged, slip))])
    (episode,) = report(tmp_path).agents[0]["episodes"]
    first, second, last = episode["steps"]
    assert (first["observation"], first["command"], first["reasoning"]) == ("here", "go", "because")
    assert (first["scorer"], first["score"], first["drawn"], first["process"]) == ("prm", 0.9, 2, 0.5)
    assert first["others"] == [["look", 1, 0.7], ["wait", 2, 0.2], ["odd", 1, None]]
    assert first["notes"] == ["not executed"]
    assert (second["scorer"], second["score"]) == (None, None)
    assert second["notes"] == ["injected as noise", "no command in the reply"]
    assert (last["outcome"], episode["won"], episode["end"]) == (1.0, True, "the end")


@pytest.mark.parametrize(
    ("scores", "ends"), [((0.2, 0.9), (0.2, 0.9)), ((-3.0, -1.0), (-3, -1)), ((2.0, 2.0), (1.5, 2.5)), ((), (0, 1))]
)
def test_the_colour_scale_spans_the_scores(tmp_path, scores, ends):
    steps = [Step("o", (), Action("c", scores={"prm": score})) for score in scores]
    save(tmp_path / "agent", [trajectory(0, True, steps=steps)])
    (agent,) = report(tmp_path).agents
    assert (agent["low"], agent["high"]) == ends


def test_episodes_are_lost_and_won_by_turns_from_the_lowest_seed(tmp_path):
    save(tmp_path / "agent", (trajectory(seed, seed % 10 == 0) for seed in reversed(range(50))))
    (agent,) = report(tmp_path).agents
    assert agent["total"] == 50
    seeds = [episode["seed"] for episode in agent["episodes"]]
    assert seeds == [1, 0, 2, 10, 3, 20, 4, 30, 5, 40, 6, 7]
    assert len(seeds) == EPISODES


def test_a_page_with_long_episodes_stays_small(tmp_path):
    long = [Step(f"{number} " + "<" * 100_000, (), Action("c" * 10_000)) for number in range(50)]
    for agent in ("a", "b"):
        save(tmp_path / agent, (trajectory(seed, False, steps=long) for seed in range(6)))
    path = write_report(tmp_path)
    assert path.stat().st_size < 3_000_000
    agents = Page(path).agents
    assert all(0 < len(agent["episodes"]) < 6 for agent in agents)
    assert agents[0]["episodes"][0]["steps"][0]["command"] == "c" * 3000 + "… (7000 more characters)"


def hostile_run(folder: Path) -> Path:
    action = Action(HOSTILE, reasoning=HOSTILE, scores={HOSTILE: 0.5}, candidates=(Action(f"not {HOSTILE}"),))
    steps = (Step(HOSTILE, (), action),)
    save(folder / "eval" / 'a<b>&"c', [trajectory(0, True, steps=steps, kind=HOSTILE)])
    write_json(folder / "config.json", {HOSTILE: {HOSTILE: HOSTILE}})
    write_json(folder / "prm" / "done.json", {"seconds": 1, "results": {HOSTILE: HOSTILE}})
    write_json(folder / "prm" / "quality.json", {"scorers": {HOSTILE: scorer_figures(1.0)}, "gate": {HOSTILE: HOSTILE}})
    write_lines(folder / "prm" / "metrics.jsonl", [{"step": 1, f"loss {HOSTILE}": 1.0, "loss": 2.0}])
    return folder


def test_hostile_text_is_shown_and_never_run(tmp_path):
    page = report(hostile_run(tmp_path / "<run>"))
    assert page.tags.count("script") == 2  # the data and the page's own
    assert "alert" not in page.scripts[1]
    assert "b" not in [tag for tag in page.tags if tag == "b"][1:]  # the one result is bold, nothing else
    assert page.tags.count("h1") == 1
    shown = HOSTILE.replace("\ud800", "\\ud800")
    assert shown in page.text
    assert page.rows[1][0] == 'a<b>&"c'
    step = page.agents[0]["episodes"][0]["steps"][0]
    assert (step["observation"], step["command"], step["others"]) == (HOSTILE, HOSTILE, [[f"not {HOSTILE}", 1, None]])


def test_the_page_loads_nothing(tmp_path):
    page = report(hostile_run(tmp_path))
    assert "http://" not in page.source
    assert "https://" not in page.source
    links = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "action", "data")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert "@import" not in page.source
    assert "url(" not in page.source
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'") in page.attributes


def test_the_same_run_gives_the_same_bytes(pipeline, tmp_path):
    first = write_report(pipeline).read_bytes()
    assert write_report(pipeline).read_bytes() == first
    elsewhere = write_report(str(pipeline), str(tmp_path / "new" / "page.html"))
    assert elsewhere == tmp_path / "new" / "page.html"
    assert elsewhere.read_bytes() == first


def test_an_evaluation_alone_is_shown(tmp_path, monkeypatch):
    import gymnasium as gym

    monkeypatch.delitem(gym.registry, "Mine/Scripted-v0", raising=False)
    gym.register("Mine/Scripted-v0", entry_point=ScriptedEnv, max_episode_steps=5)
    for name in ("up", "left"):
        agent = ScriptedAgent(lambda history, name=name: name, name)
        evaluate(agent, "Mine/Scripted-v0", run_dir=tmp_path / name)
    page = report(tmp_path)
    assert page.headings() == {"Results", "Episodes", "Settings"}
    # Task 0 wants left, right; task 1 wants up. So `up` wins one of two, in 1 step; `left` none, in 5 steps each.
    assert page.rows[1][:3] == ["left", "2", "0.0 %"]
    assert page.rows[2][:3] == ["up", "2", "50.0 %"]
    assert page.rows[2][5:8] == ["0.50", "3.0", "50.0 %"]
    # One pair of two differs: 0.5 ± 1.959964 * sqrt(0.25 / 2) = 0.5 ± 0.693, cut at 1.
    assert page.rows[2][8:10] == ["+50.0 [−19.3, +100.0]", "1.000"]
    assert "evaluation of up" in page.text
    assert ["settings.agent", "up"] in page.rows


def test_an_agent_may_be_called_like_a_stage(tmp_path):
    save(tmp_path / "sft", [trajectory(0, True)])
    with pytest.raises(UsageError, match="nothing to show"):
        write_report(tmp_path)  # a stage's data
    (tmp_path / "sft" / "summary.csv").write_text("")
    assert report(tmp_path).rows[1][0] == "sft"


def test_a_rollout_alone_is_shown_under_its_agents_name(tmp_path):
    save(tmp_path, [trajectory(0, True)])
    assert report(tmp_path).rows[1][0] == tmp_path.name
    write_json(tmp_path / "config.json", {"settings": {"agent": "random"}})
    assert report(tmp_path).rows[1][:3] == ["random", "1", "100.0 %"]


def test_an_interrupted_pipeline_is_shown_as_far_as_it_got(pipeline):
    for agent in ("sft", "best_of_2", "best_of_16"):
        path = pipeline / "eval" / agent / "trajectories.jsonl"
        path.write_bytes(path.read_bytes()[:50])  # killed within the first episode
    metrics = pipeline / "sft" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 9, "sft/lo')
    (pipeline / "prm" / "quality.json").unlink()
    page = report(pipeline)
    assert page.headings() == {"Learning curves", "Stages", "Settings"}
    assert page.scripts == []


@pytest.mark.parametrize(
    "part", ["config.json", "prm/done.json", "prm/quality.json", "prm/metrics.jsonl", "sft/metrics.jsonl", "eval"]
)
def test_each_part_alone_makes_a_page(pipeline, tmp_path, part):
    (tmp_path / "part" / part).parent.mkdir(parents=True)
    (pipeline / part).rename(tmp_path / "part" / part)
    assert len(report(tmp_path / "part").headings()) in (1, 2)


def test_a_folder_that_is_missing_or_empty_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not a folder"):
        write_report(tmp_path / "missing")
    with pytest.raises(UsageError, match="nothing to show"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("name", ["config.json", "prm/done.json", "prm/quality.json"])
@pytest.mark.parametrize(("text", "complaint"), [("{", "is not JSON"), ("[1]", "must hold an object")])
def test_a_damaged_file_is_named(tmp_path, name, text, complaint):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(StoreError, match=f"{Path(name).name} {complaint}"):
        write_report(tmp_path)


def test_damaged_lines_are_named(tmp_path):
    write_lines(tmp_path / "sft" / "metrics.jsonl", [{"step": 1, "sft/loss": 1.0}])
    with (tmp_path / "sft" / "metrics.jsonl").open("a") as file:
        file.write('{"step":\n{"step": 3, "sft/loss": 1.0}\n')
    with pytest.raises(StoreError, match=r"metrics\.jsonl, line 2 is not JSON"):
        write_report(tmp_path)
    twice = save(tmp_path / "eval" / "agent", [trajectory(0, True)] * 2)
    with pytest.raises(StoreError, match="episode 0 occurs twice"):
        write_report(tmp_path)
    (twice / "trajectories.jsonl").write_text("{}\n")
    with pytest.raises(StoreError, match=r"trajectories\.jsonl, line 1 is not a trajectory"):
        write_report(tmp_path)


def test_figures_of_unexpected_kinds_are_left_out(tmp_path):
    odd = {"bins": [{"low": 0}, 3], "deciles": "none", "auc": [1], "pairs": True}
    write_json(tmp_path / "prm" / "quality.json", {"scorers": {"prm": odd, "other": None}})
    write_json(tmp_path / "prm" / "done.json", {"seconds": "long", "results": [1]})
    page = report(tmp_path)
    assert page.row("other")[1:] == ["–"] * 7
    assert page.rows[-2] == ["prm", "–", "\n"]


def test_without_jinja_the_extra_is_named(pipeline, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'agentgym_prm\[train\]'"):
        write_report(pipeline)
