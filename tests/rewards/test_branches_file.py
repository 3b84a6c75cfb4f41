import json

import pytest

from agentgym_prm.errors import StoreError
from agentgym_prm.rewards.branches_file import BranchRecord, append_branches, read_branches, read_records, whole_chunks
from agentgym_prm.store import TrajectoryWriter
from agentgym_prm.types import Action, Step, Trajectory

STEPS = (Step("dark", ("look", "wait"), Action("look")), Step("light", ("look", "wait"), Action("wait")))
EPISODES = [Trajectory(f"task {number}", 7, STEPS, "end", task_id=f"t{number}", episode=number) for number in range(2)]
RECORDS = [
    BranchRecord("rollout/trajectories.jsonl", 1, 0, ("look", "wait"), (0.5, 0.25), 4),
    BranchRecord("rollout/trajectories.jsonl", 0, 1, ("look",), (1.0,), 4),
    BranchRecord("rollout/trajectories.jsonl", 1, 1, ("wait",), (0.0,), 4),
]


@pytest.fixture
def path(tmp_path):
    with TrajectoryWriter(tmp_path / "rollout" / "trajectories.jsonl") as writer:
        for episode in EPISODES:
            writer.write(episode)
    append_branches(tmp_path / "branches.jsonl", RECORDS[:2])
    append_branches(tmp_path / "branches.jsonl", RECORDS[2:])
    return tmp_path / "branches.jsonl"


def test_histories_are_those_of_the_trajectory_file(path):
    first, second, third = read_branches(path)
    assert (first.history, second.history, third.history) == (
        EPISODES[1].history(0),
        EPISODES[0].history(1),
        EPISODES[1].history(1),
    )
    assert first.actions == (Action("look"), Action("wait"))
    assert (first.values, first.visits) == ((0.5, 0.25), (4, 4))
    assert list(read_records(path)) == RECORDS


def test_a_line_that_was_cut_off_does_not_count(path):
    whole = path.read_text()
    path.write_text(whole + '{"source":"roll')
    assert list(read_records(path)) == RECORDS


@pytest.mark.parametrize(("chunk", "kept"), [(1, 3), (2, 2), (3, 3), (4, 0)])
def test_a_file_is_continued_after_its_last_whole_chunk(path, chunk, kept):
    path.write_text(path.read_text() + '{"source":"roll')
    assert whole_chunks(path, chunk) == kept
    assert list(read_records(path)) == RECORDS[:kept]
    append_branches(path, RECORDS[kept:])
    assert list(read_records(path)) == RECORDS


def test_a_file_that_is_not_there_has_nothing_done(tmp_path):
    assert whole_chunks(tmp_path / "branches.jsonl", 3) == 0


def test_damage_is_named_by_its_line(path):
    record = json.loads(path.read_text().splitlines()[0])
    path.write_text(path.read_text() + json.dumps({**record, "values": [0.5]}) + "\n")
    with pytest.raises(StoreError, match="line 4 is no branching estimate: 2 commands have 1 values"):
        list(read_branches(path))


def test_an_episode_that_is_missing_is_named(path):
    append_branches(path, [BranchRecord("rollout/trajectories.jsonl", 5, 0, ("look",), (0.0,), 1)])
    with pytest.raises(StoreError, match="episode 5, turn 0"):
        list(read_branches(path))


def test_values_of_other_trajectories_are_not_read(path):
    append_branches(path, [BranchRecord("rollout/trajectories.jsonl", 1, 0, ("look", "open door"), (0.0, 1.0), 1)])
    with pytest.raises(StoreError, match="was made for other trajectories"):
        list(read_branches(path))
