from dataclasses import replace

import pytest

from agentgym_prm import RandomAgent, collect
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.rewards.identity import action_key, history_key, history_keys
from agentgym_prm.testing import ScriptedEnv
from agentgym_prm.types import Action, History, Step

PAST = Step("o1", ("a", "b"), Action("a", reply="because"))
HERE = History("task", "o2", ("b", "c"), (PAST,), task_id="id", task_type="kind", seed=1, episode=2)


def test_keys_of_a_trajectory_are_those_of_its_histories():
    envs = TextVectorEnv(ScriptedEnv, 2, max_episode_steps=6)
    for trajectory in collect(RandomAgent(), envs, range(8)):
        keys = history_keys(trajectory)
        assert keys == [history_key(trajectory.history(turn)) for turn in range(len(trajectory.steps))]
        assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "other",
    [
        replace(HERE, task="task2"),
        replace(HERE, observation="o3"),
        replace(HERE, admissible_commands=("b",)),
        replace(HERE, admissible_commands=("bc",)),
        replace(HERE, admissible_commands=("b", "", "c")),
        replace(HERE, steps=()),
        replace(HERE, steps=(PAST, PAST)),
        replace(HERE, steps=(replace(PAST, observation="o"),)),
        replace(HERE, steps=(replace(PAST, action=Action("b")),)),
        replace(HERE, steps=(replace(PAST, admissible_commands=("a",)),)),
        replace(HERE, task="taskb", observation="o2", steps=(replace(PAST, observation="1"),)),
    ],
)
def test_whatever_an_agent_sees_makes_another_history(other):
    assert history_key(other) != history_key(HERE)


@pytest.mark.parametrize(
    "other",
    [
        replace(HERE, task_id="other", task_type="other", seed=7, episode=8, expert_action="b"),
        replace(HERE, steps=(replace(PAST, action=Action("a", reply="another wording"), outcome_reward=0.5),)),
    ],
)
def test_what_an_agent_does_not_see_changes_no_key(other):
    assert history_key(other) == history_key(HERE)


def test_a_command_and_an_observation_do_not_run_into_each_other():
    def past(command: str, observation: str) -> History:
        return History("t", observation, (), (Step("o", (), Action(command)),))

    assert history_key(past("ab", "c")) != history_key(past("a", "bc"))
    assert action_key(HERE, "b") != action_key(HERE, "c")
    assert action_key(HERE, "b") == action_key(replace(HERE, episode=5), "b")


def test_half_a_surrogate_pair_has_a_key():
    assert action_key(HERE, "\ud800") != action_key(HERE, "\ud801")


def test_keys_stay_the_same_across_versions():
    # Recorded once: data sets written earlier have to be found again.
    assert (history_key(HERE), action_key(HERE, "b")) == (1243557221165944276, 8571991533866443540)
