import os
import random
import signal
import subprocess
import sys
import threading
import time

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from agentgym_prm.agents import RandomAgent
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.errors import StoreError
from agentgym_prm.rollout import collect, stream
from agentgym_prm.store import read_trajectories
from agentgym_prm.testing import ScriptedAgent, ScriptedEnv
from agentgym_prm.types import History


def scripted(num_envs: int, cap: int | None = None) -> TextVectorEnv:
    return TextVectorEnv(ScriptedEnv, num_envs, max_episode_steps=cap)


def right_answer(history: History) -> str:
    return {"scripted-0": ["left", "right"], "scripted-1": ["up"]}[history.task_id][len(history.steps)]


def test_a_trajectory_holds_what_happened_step_by_step():
    (trajectory,) = collect(ScriptedAgent(right_answer), scripted(1), [0])
    assert (trajectory.task, trajectory.task_id, trajectory.task_type) == ("give 2 commands", "scripted-0", "scripted")
    assert [step.observation for step in trajectory.steps] == ["task 0, step 0", "task 0, step 1"]
    assert [step.action.command for step in trajectory.steps] == ["left", "right"]
    assert [step.outcome_reward for step in trajectory.steps] == [0.0, 1.0]
    assert [(step.terminated, step.truncated) for step in trajectory.steps] == [(False, False), (True, False)]
    assert [step.info["goal_condition_success_rate"] for step in trajectory.steps] == [0.5, 1.0]
    assert trajectory.steps[0].admissible_commands == ("left", "right")
    assert trajectory.final_observation == "task 0, step 2"


def test_the_cap_truncates_and_does_not_terminate():
    (trajectory,) = collect(ScriptedAgent(lambda history: "wrong"), scripted(1, cap=3), [0])
    assert [(step.terminated, step.truncated) for step in trajectory.steps] == [(False, False)] * 2 + [(False, True)]
    assert trajectory.outcome == 0


@pytest.mark.parametrize("num_envs", [1, 2, 3, 7, 20])
def test_the_number_of_slots_changes_nothing(num_envs):
    seeds = [0, 1, 1, 0, 3, 2, 0]
    alone = collect(RandomAgent(), scripted(1, cap=6), seeds)
    assert collect(RandomAgent(), scripted(num_envs, cap=6), seeds) == alone
    assert [trajectory.seed for trajectory in alone] == seeds
    assert [trajectory.episode for trajectory in alone] == list(range(7))


def test_repeated_seeds_are_different_rollouts_of_one_task():
    group = collect(RandomAgent(), scripted(4, cap=8), [0] * 12)
    assert {trajectory.task_id for trajectory in group} == {"scripted-0"}
    assert len({tuple(step.action.command for step in trajectory.steps) for trajectory in group}) > 3


def test_the_agent_is_asked_for_running_episodes_only():
    asked = []

    def choose(history: History) -> str:
        asked.append(history.episode)
        return right_answer(history)

    collect(ScriptedAgent(choose), scripted(5), [0, 1, 0])
    assert sorted(asked) == [0, 0, 1, 2, 2]


def test_gymnasiums_own_vector_environments_give_the_same_trajectories():
    def single():
        return gym.wrappers.TimeLimit(ScriptedEnv(), 6)

    seeds = [0, 1, 2, 3, 4]
    expected = collect(RandomAgent(), scripted(2, cap=6), seeds)
    for envs in (
        SyncVectorEnv([single] * 2, autoreset_mode=AutoresetMode.DISABLED),
        AsyncVectorEnv([single] * 2, autoreset_mode=AutoresetMode.DISABLED, shared_memory=False),
    ):
        assert collect(RandomAgent(), envs, seeds) == expected
        envs.close()


def test_an_environment_that_resets_by_itself_is_refused():
    envs = SyncVectorEnv([ScriptedEnv])
    with pytest.raises(ValueError, match=r"autoreset_mode=AutoresetMode\.DISABLED"):
        collect(RandomAgent(), envs, [0])


def test_no_seeds_are_no_episodes():
    assert collect(RandomAgent(), scripted(2), []) == []


def test_an_interrupted_file_is_continued_without_loss_or_repeat(tmp_path):
    path, seeds = tmp_path / "episodes.jsonl", list(range(10))
    expected = collect(RandomAgent(), scripted(3, cap=6), seeds)
    running = stream(RandomAgent(), scripted(3, cap=6), seeds, path=path)
    for _ in range(4):
        next(running)
    running.close()
    assert len(list(read_trajectories(path))) == 4
    with pytest.raises(FileExistsError):
        collect(RandomAgent(), scripted(3, cap=6), seeds, path=path)
    assert collect(RandomAgent(), scripted(3, cap=6), seeds, path=path, resume=True) == expected
    assert sorted(t.episode for t in read_trajectories(path)) == list(range(10))
    # Nothing is left to do the second time.
    assert list(stream(RandomAgent(), scripted(3, cap=6), seeds, path=path, resume=True)) == []


def test_a_file_of_another_run_is_refused(tmp_path):
    path = tmp_path / "episodes.jsonl"
    collect(RandomAgent(), scripted(1, cap=6), [0, 1], path=path)
    with pytest.raises(StoreError, match="episode 1 has seed 1, but seed 5 here"):
        collect(RandomAgent(), scripted(1, cap=6), [0, 5], path=path, resume=True)
    with pytest.raises(StoreError, match="episode 1 has seed 1, but it is none of the 1 here"):
        collect(RandomAgent(), scripted(1, cap=6), [0], path=path, resume=True)


COLLECT = """
import sys, gymnasium as gym
from agentgym_prm import RandomAgent
from agentgym_prm.rollout import stream
envs = gym.make_vec("agentgym_prm:agentgym_prm/ALFWorld-v0", num_envs=8, difficulty="small")
for _ in stream(RandomAgent(), envs, range(250), path=sys.argv[1], resume=True):
    pass
"""


def test_a_run_killed_again_and_again_ends_with_the_episodes_of_an_uninterrupted_one(tmp_path):
    path, rng = tmp_path / "episodes.jsonl", random.Random(0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    kills = 0
    for _ in range(40):
        process = subprocess.Popen([sys.executable, "-c", COLLECT, str(path)], env=environment)
        written = path.stat().st_size if path.exists() else 0
        while process.poll() is None and (not path.exists() or path.stat().st_size == written):
            time.sleep(0.005)
        time.sleep(rng.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
    assert kills >= 3
    envs = gym.make_vec(ALFWORLD, num_envs=5, difficulty="small")
    found = sorted(read_trajectories(path), key=lambda trajectory: trajectory.episode)
    assert found == collect(RandomAgent(), envs, range(250))


def test_numpy_seeds_and_masks_left_out_by_wrappers_are_understood():
    envs = gym.wrappers.vector.RecordEpisodeStatistics(scripted(2, cap=4))
    plain = collect(RandomAgent(), scripted(2, cap=4), [0, 1, 2])
    recorded = collect(RandomAgent(), envs, np.arange(3))
    assert [t.steps[-1].action for t in recorded] == [t.steps[-1].action for t in plain]
    assert recorded[0].steps[-1].info["episode"]["l"] == len(recorded[0].steps)


def test_arrays_and_tuples_in_info_survive_the_file(tmp_path):
    class Rich(ScriptedEnv):
        def _outcome(self):
            outcome = super()._outcome()
            outcome.info |= {"array": np.array([1.5, 2.0]), "pair": ("a", "b")}
            return outcome

    path = tmp_path / "episodes.jsonl"
    played = collect(RandomAgent(), TextVectorEnv(Rich, 2, max_episode_steps=3), [0, 1], path=path)
    assert played[0].steps[0].info["array"] == [1.5, 2.0]
    assert sorted(read_trajectories(path), key=lambda t: t.episode) == played


def test_a_file_with_an_episode_twice_is_refused(tmp_path):
    path = tmp_path / "episodes.jsonl"
    collect(RandomAgent(), scripted(1, cap=6), [0, 1], path=path)
    path.write_text(path.read_text() * 2)
    with pytest.raises(StoreError, match=r"holds episode . twice"):
        collect(RandomAgent(), scripted(1, cap=6), [0, 1], path=path, resume=True)


def test_the_random_agent_draws_by_the_environments_seed_too():
    histories = [History("t", "o", tuple("abcdefgh"), seed=seed) for seed in range(40)]
    assert len({action.command for action in RandomAgent().act(histories)}) > 4


# --- episode numbers ---


def test_numbers_continue_a_run_and_share_a_batch():
    # An agent draws by seed and number, so parts that are numbered alike are played alike, in any order.
    seeds = [0, 1, 1, 0, 3, 2]
    whole = collect(RandomAgent(), scripted(3, cap=6), seeds)
    assert collect(RandomAgent(), scripted(2, cap=6), seeds[4:], numbers=[4, 5]) == whole[4:]
    backwards = [5, 3, 1]
    odd = collect(RandomAgent(), scripted(2, cap=6), [seeds[number] for number in backwards], numbers=backwards)
    assert odd == whole[1::2]
    assert collect(RandomAgent(), scripted(2, cap=6), seeds, numbers=range(6)) == whole


def test_other_numbers_are_other_draws():
    first, second = (collect(RandomAgent(), scripted(4, cap=8), [0] * 8, numbers=range(k, k + 8)) for k in (0, 8))
    assert [t.episode for t in second] == list(range(8, 16))
    assert [[s.action for s in t.steps] for t in first] != [[s.action for s in t.steps] for t in second]


@pytest.mark.parametrize("numbers", [[0], [1, 1], [0, -1], [0, 1, 2]])
def test_numbers_are_distinct_and_one_for_each_seed(numbers):
    with pytest.raises(ValueError, match="numbers must be 2 distinct integers from 0 on"):
        collect(RandomAgent(), scripted(1, cap=3), [0, 1], numbers=numbers)


def test_a_numbered_file_is_continued_by_its_numbers(tmp_path):
    path, seeds, numbers = tmp_path / "episodes.jsonl", [0, 1, 2, 3], [12, 10, 11, 13]
    expected = collect(RandomAgent(), scripted(2, cap=6), seeds, numbers=numbers)
    running = stream(RandomAgent(), scripted(2, cap=6), seeds, numbers=numbers, path=path)
    next(running)
    running.close()
    resumed = collect(RandomAgent(), scripted(2, cap=6), seeds, numbers=numbers, path=path, resume=True)
    assert resumed == expected
    assert [trajectory.episode for trajectory in resumed] == [10, 11, 12, 13]
    with pytest.raises(StoreError, match="but it is none of the 4 here"):
        collect(RandomAgent(), scripted(2, cap=6), seeds, path=path, resume=True)
    with pytest.raises(StoreError, match="episode 10 has seed 1, but seed 0 here"):
        collect(RandomAgent(), scripted(2, cap=6), [1, 0, 2, 3], numbers=numbers, path=path, resume=True)


def test_a_truncated_episode_keeps_what_is_admissible_where_it_was_cut_off():
    cut, won = collect(ScriptedAgent(lambda h: "up" if h.task_id == "scripted-1" else "wrong"), scripted(2, 2), [0, 1])
    assert cut.steps[-1].info["admissible_commands"] == ["left", "right"]
    assert "admissible_commands" not in cut.steps[0].info
    assert "admissible_commands" not in won.steps[-1].info


class SlowInPlaces(ScriptedAgent):
    """Waits at each turn as long as its seed says; fails at one of them, if there is one."""

    waits = True

    def __init__(self, seconds: dict[int, float], fails_at: int | None = None) -> None:
        super().__init__(right_answer)
        self.seconds, self.fails_at, self.gave_up = seconds, fails_at, threading.Event()

    def sample(self, histories, n=1):
        self.gave_up.wait(max(self.seconds.get(history.seed, 0.0) for history in histories))
        if any(history.seed == self.fails_at for history in histories):
            raise ConnectionError("the server is gone")
        return super().sample(histories, n)

    def give_up(self) -> None:
        self.gave_up.set()


def test_environments_side_by_side_give_the_episodes_of_one():
    seeds = [0, 1, 1, 0, 3, 2, 0] * 5
    together = collect(RandomAgent(), scripted(4, cap=6), seeds)
    assert collect(RandomAgent(), [scripted(1, cap=6) for _ in range(5)], seeds) == together
    assert collect(RandomAgent(), [scripted(2, cap=6), scripted(3, cap=6)], seeds) == together
    assert collect(RandomAgent(), [scripted(1, cap=6) for _ in range(50)], seeds) == together


def test_a_slow_episode_does_not_hold_up_those_beside_it():
    agent = SlowInPlaces({2: 0.2})  # seed 2 plays a task of two turns
    ended = [trajectory.seed for trajectory in stream(agent, [scripted(1), scripted(1)], [2, *[0] * 20])]
    assert ended == [*[0] * 20, 2]


def test_what_ended_beside_a_failure_is_kept_and_nothing_is_stepped_after_it(tmp_path):
    agent = SlowInPlaces({1: 0.15, 4: 60.0}, fails_at=1)
    envs = [scripted(1) for _ in range(3)]
    began = time.monotonic()
    path = tmp_path / "t.jsonl"
    with pytest.raises(ConnectionError, match="the server is gone"):
        collect(agent, envs, [1, 4, *[0] * 2000], path=path)
    assert time.monotonic() - began < 30  # who waits is told to give up
    assert not any(thread.name == "rollout" for thread in threading.enumerate())
    kept = list(read_trajectories(path))
    assert {trajectory.seed for trajectory in kept} <= {0, 4}
    assert 0 < len(kept) < 2000
    # A run without the failure goes on from there.
    whole = collect(SlowInPlaces({}), envs, [1, 4, *[0] * 2000], path=path, resume=True)
    assert len(whole) == 2002


def test_who_stops_listening_stops_the_threads():
    agent = SlowInPlaces({1: 60.0})
    playing = stream(agent, [scripted(1), scripted(1)], [1, *[0] * 5000])
    assert next(playing).seed == 0
    playing.close()
    assert not any(thread.name == "rollout" for thread in threading.enumerate())
