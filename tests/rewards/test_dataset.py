import json

import gymnasium as gym
import numpy as np
import polars as pl
import pytest

from agentgym_prm import BestOfN, RandomAgent, collect
from agentgym_prm.envs import TOY
from agentgym_prm.errors import StoreError
from agentgym_prm.rewards.dataset import (
    StepTable,
    write_preferences,
    write_q_targets,
    write_shaped_targets,
    write_steps,
    write_v_targets,
)
from agentgym_prm.rewards.identity import history_key, history_keys
from agentgym_prm.rewards.oracle import ToyOracle
from agentgym_prm.rewards.targets import (
    preference_pairs,
    q_targets,
    returns_to_go,
    shaped_targets,
    task_split,
    v_targets,
)
from agentgym_prm.rollout import stream
from agentgym_prm.store import read_trajectories
from agentgym_prm.types import Action, Step, Trajectory

GAMMA = 0.9


@pytest.fixture(scope="module")
def trajectories() -> list[Trajectory]:
    # A fair agent and short episodes: wins and failures, and many histories that are visited several times.
    envs = gym.make_vec(TOY, num_envs=8, max_episode_steps=8)
    return collect(BestOfN(RandomAgent(), ToyOracle(), 2), envs, list(range(6)) * 60)


@pytest.fixture(scope="module")
def table(trajectories, tmp_path_factory) -> StepTable:
    return write_steps(trajectories, tmp_path_factory.mktemp("steps") / "steps", gamma=GAMMA, shard_rows=500)


def test_steps_hold_keys_returns_and_places(table, trajectories):
    frame = table.scan().collect()
    assert (table.steps, table.episodes) == (len(frame), len(trajectories))
    assert table.steps == sum(len(t.steps) for t in trajectories)
    assert table.shards > 3
    rows = frame.iter_rows(named=True)
    for trajectory in trajectories:
        keys = history_keys(trajectory)
        rewards = np.array([step.outcome_reward for step in trajectory.steps])
        for turn, value in enumerate(returns_to_go(rewards, GAMMA)):
            row = next(rows)
            assert row["history"] == keys[turn]
            assert row["next_history"] == (keys[turn + 1] if turn + 1 < len(keys) else None)
            assert row["return_to_go"] == value
            assert row["steps_to_end"] == len(keys) - 1 - turn
            assert (row["task_id"], row["episode"], row["turn"]) == (trajectory.task_id, trajectory.episode, turn)


def test_histories_and_actions_are_rebuilt_exactly(table, trajectories):
    positions = table.scan().select("position").collect()["position"].to_list()
    visits = table.visits(positions)
    for trajectory in trajectories:
        for turn, step in enumerate(trajectory.steps):
            assert next(visits) == (trajectory.history(turn), step.action)


def test_visits_come_in_the_order_asked_for(table):
    positions = table.scan().select("position").collect()["position"].to_list()
    asked = [positions[-1], positions[0], positions[700], positions[1]]
    keys = dict(table.scan().select("position", "history").collect().iter_rows())
    visits = list(table.visits(asked, shards_in_memory=1))
    assert [history_key(history) for history, _ in visits] == [keys[position] for position in asked]


def test_everything_that_an_action_holds_is_kept(tmp_path):
    action = Action(
        "go 🙂 \ud800",
        reply="Thought",
        reasoning="why",
        token_ids=(1, 2),
        logprobs=(-0.5, -1.25),
        stop_reason="stop",
        usage={"tokens": 2.0},
        scores={"prm": 0.25},
        candidates=(Action("look"),),
    )
    steps = (
        Step("first\nline", ("a\n", "b,c"), action, 0.0, 0.5, info={"valid_action": False, "score": 0.1}),
        Step("second \udfff", (), Action(""), 1.0, terminated=True, info={"note": None}),
    )
    trajectory = Trajectory("task", 7, steps, "end", task_id="id", task_type="kind", episode=3)
    table = write_steps([trajectory], tmp_path / "steps")
    assert list(table.visits([0, 1])) == [(trajectory.history(0), action), (trajectory.history(1), Action(""))]


def as_dict(frame: pl.LazyFrame, value: str, keys: tuple[str, ...]) -> dict:
    rows = frame.collect().iter_rows(named=True)
    return {tuple(row[key] for key in keys): (pytest.approx(row[value], abs=1e-11), row["visits"]) for row in rows}


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("rows_a_pass", [10**9, 300])
def test_q_and_v_targets_are_those_computed_in_memory(table, trajectories, tmp_path, signed, rows_a_pass):
    settings = {"signed": signed, "rows_a_pass": rows_a_pass, "train_share": 1.0}
    q = as_dict(write_q_targets(table, tmp_path, **settings), "q", ("history", "command"))
    slow = q_targets(trajectories, GAMMA, signed=signed)
    assert {(history_key(t.history), t.action.command): (t.value, t.visits) for t in slow} == q
    assert max(visits for _, visits in q.values()) > 10
    v = as_dict(write_v_targets(table, tmp_path, **settings), "v", ("history",))
    slow = v_targets(trajectories, GAMMA, signed=signed)
    assert {(history_key(t.history),): (t.value, t.visits) for t in slow} == v


def test_passes_write_every_target_once_and_a_second_call_writes_over_the_first(table, tmp_path):
    def written(rows_a_pass: int) -> list[tuple]:
        return write_q_targets(table, tmp_path, rows_a_pass=rows_a_pass).sort("position").collect().rows()

    assert written(100) == written(10**9) == written(400)
    assert len(list(tmp_path.glob("q-*.parquet"))) == -(-table.steps // 400)


def test_the_place_of_a_target_is_its_first_visit(table, tmp_path):
    rows = write_q_targets(table, tmp_path).sort("position").collect().rows(named=True)
    for row, (history, action) in zip(rows, table.visits(row["position"] for row in rows), strict=True):
        assert (history_key(history), action.command) == (row["history"], row["command"])
        assert row["split"] == task_split(history.task_id)


def test_no_task_is_on_both_sides_of_the_split(table, tmp_path):
    frame = write_q_targets(table, tmp_path, train_share=0.5, seed=1)
    tasks = table.scan().select("history", "task_id").unique()
    sides = frame.join(tasks, on="history").group_by("task_id").agg(pl.col("split").unique()).collect()
    assert {side for row in sides["split"].to_list() for side in row} == {"train", "held_out"}
    assert all(len(row) == 1 for row in sides["split"].to_list())


def twin(task_id: str, outcome: float) -> Trajectory:
    """Episodes that read alike in every task."""
    return Trajectory("task", 0, (Step("o", ("a",), Action("a"), outcome, terminated=True),), "end", task_id=task_id)


def test_a_history_that_both_sides_share_has_a_value_on_each_from_its_own_tasks(tmp_path):
    train, held_out = (next(t for t in map(str, range(99)) if task_split(t) == s) for s in ("train", "held_out"))
    table = write_steps([twin(train, 1.0), twin(train, 0.0), twin(held_out, 0.0)], tmp_path / "steps")
    rows = write_q_targets(table, tmp_path, signed=False).collect().rows(named=True)
    assert {(row["split"], row["q"], row["visits"]) for row in rows} == {("train", 0.5, 2), ("held_out", 0.0, 1)}
    assert len({row["history"] for row in rows}) == 1


@pytest.mark.parametrize("rows_a_pass", [10**9, 200])
def test_preferences_are_those_computed_in_memory(table, trajectories, tmp_path, rows_a_pass):
    q = write_q_targets(table, tmp_path, train_share=1.0)
    rows = write_preferences(q, tmp_path, delta=0.05, rows_a_pass=rows_a_pass).collect().rows(named=True)
    slow = preference_pairs(q_targets(trajectories, GAMMA), 0.05)
    assert {(r["history"], r["chosen"], r["rejected"]): pytest.approx(r["margin"], abs=1e-9) for r in rows} == {
        (history_key(p.history), p.chosen.command, p.rejected.command): p.margin for p in slow
    }
    assert len(rows) == len(slow) > 50


def test_shaped_targets_are_those_computed_in_memory(table, trajectories, tmp_path):
    v = write_v_targets(table, tmp_path, signed=False, train_share=1.0)
    values = {history_key(t.history): t.value for t in v_targets(trajectories, GAMMA, signed=False)}
    missing = write_shaped_targets(table, v, tmp_path / "shaped.parquet")
    slow = shaped_targets(trajectories, lambda hs: np.array([values[history_key(h)] for h in hs]), GAMMA)
    frame = pl.read_parquet(tmp_path / "shaped.parquet")
    assert missing == 0
    assert np.abs(frame["q"].to_numpy() - slow.q_N).max() < 1e-9
    assert np.abs(frame["label"].to_numpy() - slow.labels_N).max() < 1e-6


def test_steps_without_a_reference_value_are_left_out_and_counted(table, tmp_path):
    v = write_v_targets(table, tmp_path, signed=False, train_share=1.0)
    known = v.filter(pl.col("history") % 2 == 0)
    here, after = pl.col("history") % 2 == 0, pl.col("next_history") % 2 == 0
    usable = table.scan().filter((pl.col("steps_to_end") == 0) | (here & after)).collect()
    missing = write_shaped_targets(table, known, tmp_path / "shaped.parquet")
    assert missing == table.steps - len(usable) > 0
    assert pl.read_parquet(tmp_path / "shaped.parquet")["position"].to_list() == usable["position"].to_list()


def test_values_without_a_spread_are_refused_and_leave_no_file(tmp_path):
    table = write_steps([twin("t", 1.0)] * 5, tmp_path / "steps")
    with pytest.raises(ValueError, match="collect rollouts that both win and fail"):
        write_shaped_targets(table, write_v_targets(table, tmp_path), tmp_path / "shaped.parquet")
    assert not list(tmp_path.glob("shaped*"))


def test_a_file_and_a_running_rollout_give_the_same_table(tmp_path):
    envs = gym.make_vec(TOY, num_envs=8, max_episode_steps=6)
    path = tmp_path / "trajectories.jsonl"
    played = write_steps(stream(RandomAgent(), envs, range(30), path=path), tmp_path / "played")
    read = write_steps(read_trajectories(path), tmp_path / "read")
    assert played.scan().collect().equals(read.scan().collect())


def test_an_unfinished_folder_is_no_table_and_is_written_over(tmp_path, trajectories):
    def killed():
        yield from trajectories[:100]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_steps(killed(), tmp_path, shard_rows=50)
    with pytest.raises(StoreError, match="holds no finished table of steps"):
        StepTable(tmp_path)
    table = write_steps(trajectories[:3], tmp_path)
    assert table.scan().collect()["episode"].unique().to_list() == [0, 1, 2]
    with pytest.raises(FileExistsError, match="choose another folder"):
        write_steps([], tmp_path)


def test_no_trajectories_make_an_empty_table(tmp_path):
    table = write_steps([], tmp_path / "steps")
    assert write_q_targets(table, tmp_path).collect().rows() == []


def test_another_version_and_outcomes_out_of_range_are_refused(tmp_path):
    table = write_steps([twin("t", 2.0)], tmp_path / "steps")
    with pytest.raises(ValueError, match=r"signed targets need outcomes in \[0, 1\]"):
        write_q_targets(table, tmp_path)
    manifest = tmp_path / "steps" / "table.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"table_version": 0}))
    with pytest.raises(StoreError, match="is of table_version 0, not 1"):
        StepTable(tmp_path / "steps")
