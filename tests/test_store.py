import json

import pytest

from agentgym_prm.errors import StoreError
from agentgym_prm.store import TrajectoryWriter, read_trajectories
from agentgym_prm.types import Action, Step, Trajectory


def episode(number: int) -> Trajectory:
    step = Step("café \ud83d 日本", ("look",), Action("look"), outcome_reward=0.1 + 0.2, info={"won": True})
    return Trajectory("task", number, (step,), "end", episode=number)


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "new" / "folder" / "episodes.jsonl"
    with TrajectoryWriter(path) as writer:
        for number in range(3):
            writer.write(episode(number))
            # On disk at once, not when the file is closed.
            assert len(list(read_trajectories(path))) == number + 1
    assert list(read_trajectories(path)) == [episode(number) for number in range(3)]


def test_an_existing_file_is_refused_without_resume(tmp_path):
    path = tmp_path / "episodes.jsonl"
    with TrajectoryWriter(path) as writer:
        writer.write(episode(0))
    with pytest.raises(FileExistsError, match=r"episodes\.jsonl exists: resume it"):
        TrajectoryWriter(path)


@pytest.mark.parametrize("cut", [1, 20, 150])
def test_a_line_cut_off_by_a_kill_is_dropped_on_resume(tmp_path, cut):
    path = tmp_path / "episodes.jsonl"
    with TrajectoryWriter(path) as writer:
        writer.write(episode(0))
        writer.write(episode(1))
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(read_trajectories(path)) == [episode(0)]
    with TrajectoryWriter(path, resume=True) as writer:
        writer.write(episode(2))
    assert list(read_trajectories(path)) == [episode(0), episode(2)]


@pytest.mark.parametrize("line", ["not json", "[]", "{}", '"text"', json.dumps({"schema_version": 99})])
def test_damage_in_the_middle_names_the_line(tmp_path, line):
    path = tmp_path / "episodes.jsonl"
    good = json.dumps(episode(0).to_json())
    path.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(StoreError, match=r"episodes\.jsonl, line 2 is not a trajectory"):
        list(read_trajectories(path))
