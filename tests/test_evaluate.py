import csv
import json
import re

import gymnasium as gym
import numpy as np
import pytest

from agentgym_prm.agents import ExpertAgent, RandomAgent
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.errors import StoreError
from agentgym_prm.evaluate import (
    EpisodeResult,
    EvalReport,
    dated_run_dir,
    evaluate,
    paired_difference,
    summarise,
    wilson_interval,
)
from agentgym_prm.store import read_trajectories
from agentgym_prm.testing import ScriptedAgent, ScriptedEnv
from agentgym_prm.types import Action, Step, Trajectory


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (score without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # By symmetry with 0 of 20.
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_interval_equals_published_values(successes, trials, low, high):
    assert wilson_interval(successes, trials) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_interval_refuses_impossible_counts():
    with pytest.raises(ValueError, match="got 3 of 2"):
        wilson_interval(3, 2)
    with pytest.raises(ValueError, match="got 0 of 0"):
        wilson_interval(0, 0)


def trajectory(episode: int, kind: str, won: bool, valid: list[bool]) -> Trajectory:
    steps = tuple(
        Step(
            "o",
            (),
            Action("c"),
            outcome_reward=float(won and last),
            # A process reward must never leak into a report.
            process_reward=100.0,
            info={
                "won": won and last,
                "score": float(won and last),
                "valid_action": executed,
                "goal_condition_success_rate": 1.0 if won and last else 0.5,
            },
        )
        for executed, last in zip(valid, [False] * (len(valid) - 1) + [True], strict=True)
    )
    return Trajectory("task", episode, steps, "end", task_type=kind, episode=episode)


def test_a_summary_by_hand():
    report = summarise(
        "agent",
        [
            trajectory(1, "heat", won=False, valid=[True, False, False, True]),
            trajectory(0, "heat", won=True, valid=[True, True]),
            trajectory(2, "cool", won=True, valid=[True, True, True, True, True, False]),
        ],
    )
    cool, heat, overall = report.rows()
    assert (cool.task_type, heat.task_type, overall.task_type) == ("cool", "heat", "all")
    assert (heat.episodes, heat.won, heat.success, heat.mean_steps, heat.mean_score) == (2, 1, 0.5, 3.0, 0.5)
    assert heat.grounding == pytest.approx((0.5 + 1.0) / 2)
    assert heat.goal_condition_success_rate == pytest.approx((0.5 + 1.0) / 2)
    assert (overall.episodes, overall.won) == (3, 2)
    assert overall.grounding == pytest.approx((1 + 0.5 + 5 / 6) / 3)
    assert [result.steps for result in report.results] == [2, 4, 6]
    assert report.success_within(2) == pytest.approx(1 / 3)
    assert report.success_within(6) == pytest.approx(2 / 3)


def results(outcomes: dict[int, bool]) -> list[EpisodeResult]:
    return [EpisodeResult("heat", won, 1, float(won), 1.0, float(won), seed) for seed, won in outcomes.items()]


def test_a_paired_difference_by_hand():
    # Ten pairs: 4 won here alone, 1 won there alone, 3 by both, 2 by neither. Mean difference (4 - 1) / 10 = 0.3;
    # variance 5/10 - 0.3^2 = 0.41, so the margin is 1.959964 * sqrt(0.41 / 10) = 0.396862.
    # McNemar: 5 coin throws, at most 1 on one side: 2 * (1 + 5) / 32 = 0.375.
    here = [True] * 4 + [False] + [True] * 3 + [False] * 2
    there = [False] * 4 + [True] + [True] * 3 + [False] * 2
    paired = paired_difference(results(dict(enumerate(here))), results(dict(enumerate(there))))
    assert (paired.pairs, paired.only_a, paired.only_b) == (10, 4, 1)
    assert paired.difference == pytest.approx(0.3)
    assert (paired.low, paired.high) == (pytest.approx(-0.096862, abs=1e-6), pytest.approx(0.696862, abs=1e-6))
    assert paired.p_value == 0.375


def test_pairs_are_made_by_seed_and_not_by_place():
    here = results({3: True, 1: False, 2: True})
    there = results({7: True, 2: False, 1: True})  # seeds 1 and 2 are shared; 3 and 7 have no partner
    paired = paired_difference(here, there)
    assert (paired.pairs, paired.only_a, paired.only_b, paired.difference) == (2, 1, 1, 0.0)


def test_a_repeated_seed_is_paired_in_order():
    here = results({5: True}) + results({5: False}) + results({5: True})
    there = results({5: True}) + results({5: True})
    paired = paired_difference(here, there)
    assert (paired.pairs, paired.only_a, paired.only_b) == (2, 0, 1)


def test_trajectories_are_paired_like_their_results():
    here = [trajectory(0, "heat", won=True, valid=[True]), trajectory(1, "heat", won=True, valid=[True])]
    there = [trajectory(1, "heat", won=False, valid=[True]), trajectory(0, "heat", won=True, valid=[True])]
    paired = paired_difference(here, there)
    assert (paired.pairs, paired.only_a, paired.only_b) == (2, 1, 0)
    assert paired == paired_difference([EpisodeResult.of(t) for t in here], [EpisodeResult.of(t) for t in there])


def test_paired_differences_at_the_ends():
    equal = paired_difference(results({0: True, 1: False}), results({0: True, 1: False}))
    assert (equal.difference, equal.low, equal.high, equal.p_value) == (0.0, 0.0, 0.0, 1.0)
    count = 1000
    better = paired_difference(results(dict.fromkeys(range(count), True)), results(dict.fromkeys(range(count), False)))
    assert (better.difference, better.low, better.high) == (1.0, 1.0, 1.0)
    assert better.p_value == 2.0**-999
    with pytest.raises(ValueError, match="no seed occurs in both"):
        paired_difference(results({0: True}), results({1: True}))


def test_no_episodes_is_an_error():
    with pytest.raises(ValueError, match="no episodes"):
        summarise("agent", [])
    with pytest.raises(ValueError, match="at least one episode"):
        evaluate(RandomAgent(), ALFWORLD, [])


def test_a_run_directory_holds_settings_trajectories_and_summary(tmp_path):
    run = tmp_path / "run"
    report = evaluate(ExpertAgent("planner"), ALFWORLD, range(12), run_dir=run, difficulty="small", expert="planner")
    assert report.overall.success == 1.0
    assert report.run_dir == run
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["env"] == {"difficulty": "small", "expert": "planner"}
    assert config["settings"]["seeds"] == list(range(12))
    assert set(config["versions"]) == {"agentgym_prm", "gymnasium", "numpy"}
    assert sorted(t.episode for t in read_trajectories(run / "trajectories.jsonl")) == list(range(12))
    with (run / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["task_type"] for row in rows][-1] == "all"
    assert len(rows) == 7
    assert (rows[-1]["episodes"], rows[-1]["won"], float(rows[-1]["success_high"])) == ("12", "12", 1.0)


def test_an_existing_run_is_refused_or_resumed_and_other_settings_are_named(tmp_path):
    run = tmp_path / "run"
    report = evaluate(RandomAgent(), ALFWORLD, range(4), run_dir=run, difficulty="small")
    with pytest.raises(FileExistsError, match="resume it"):
        evaluate(RandomAgent(), ALFWORLD, range(4), run_dir=run, difficulty="small")
    with pytest.raises(StoreError, match="started with env"):
        evaluate(RandomAgent(), ALFWORLD, range(4), run_dir=run, difficulty="full", resume=True)
    lines = (run / "trajectories.jsonl").read_bytes().splitlines(keepends=True)
    (run / "trajectories.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:100])
    assert evaluate(RandomAgent(), ALFWORLD, range(4), run_dir=run, difficulty="small", resume=True) == report


def test_by_default_every_task_is_played_once(data_folder):
    report = evaluate(
        ExpertAgent("walkthrough"),
        ALFWORLD,
        data=str(data_folder / "alfworld"),
        split="valid_seen",
        expert="walkthrough",
    )
    assert (report.overall.episodes, report.overall.success, report.overall.grounding) == (140, 1.0, 1.0)
    # Task types of the official split, counted in its files.
    counts = {row.task_type: row.episodes for row in report.rows()}
    assert (counts["pick_and_place_simple"], counts["look_at_obj_in_light"]) == (35, 13)


def test_the_printed_table_has_a_row_for_each_type_and_one_for_all():
    results = (EpisodeResult("heat", True, 3, 1.0, 1.0, 1.0), EpisodeResult("cool", False, 50, 0.0, 0.5, 0.5))
    lines = str(EvalReport("agent", results)).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["cool", "heat", "all"]
    assert "50.0%" in lines[-1]


def test_run_directories_are_dated():
    assert re.fullmatch(r"runs/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_eval", dated_run_dir("eval").as_posix())


def test_environments_without_a_vector_entry_point_are_evaluated_too(monkeypatch):
    monkeypatch.delitem(gym.registry, "Mine/Scripted-v0", raising=False)
    gym.register("Mine/Scripted-v0", entry_point=ScriptedEnv, max_episode_steps=5)
    report = evaluate(ScriptedAgent(lambda history: "up"), "Mine/Scripted-v0")
    assert [(result.won, result.steps) for result in report.results] == [(False, 5), (True, 1)]


def test_other_settings_and_other_seeds_are_told_apart_on_resume(tmp_path):
    arguments = {"run_dir": tmp_path / "run", "difficulty": "small"}
    evaluate(RandomAgent(1), ALFWORLD, np.arange(4), settings={"agent_seed": 1}, **arguments)
    with pytest.raises(StoreError, match="started with agent_seed = 1, not 2"):
        evaluate(RandomAgent(2), ALFWORLD, range(4), settings={"agent_seed": 2}, resume=True, **arguments)
    with pytest.raises(StoreError, match="4 seeds, here are 5; number 4 differs first"):
        evaluate(RandomAgent(1), ALFWORLD, range(5), settings={"agent_seed": 1}, resume=True, **arguments)
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(StoreError, match="is damaged"):
        evaluate(RandomAgent(1), ALFWORLD, range(4), settings={"agent_seed": 1}, resume=True, **arguments)


def test_an_episode_never_counts_twice():
    twice = [trajectory(0, "heat", won=True, valid=[True])] * 2
    with pytest.raises(ValueError, match="episode 0 occurs twice"):
        summarise("agent", twice)


def test_a_machine_without_git_evaluates_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    evaluate(RandomAgent(), ALFWORLD, [0], run_dir=tmp_path / "run", difficulty="small")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["commit"] is None
