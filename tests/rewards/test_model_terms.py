"""A real process reward model inside the wrappers: batched calls of a network equal judging each turn alone."""

import numpy as np
import pytest

from agentgym_prm import RandomAgent, Shaping, VectorStepReward, Weighted, collect, rewarded
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.rewards import AdvantageScorer, ScorerTerm, ValuePotential
from agentgym_prm.rewards.core import transitions_of
from agentgym_prm.testing import ScriptedEnv, check_reward_term
from tests.rewards.test_prm import TOLERANCE, saved, start


@pytest.fixture(scope="module")
def terms(tmp_path_factory) -> list[Weighted]:
    folder = saved(tmp_path_factory.mktemp("models") / "llama")
    value = start(folder, judges="history", link="sigmoid")
    return [Weighted(AdvantageScorer(start(folder)), 0.5), Weighted(Shaping(ValuePotential(value), gamma=0.9), 2.0)]


def test_a_reward_model_pays_the_same_in_a_wrapper_and_on_finished_trajectories(terms):
    def envs():
        return TextVectorEnv(ScriptedEnv, 3, max_episode_steps=4)

    advantage, shaping = terms
    inner = VectorStepReward(envs(), advantage.term, advantage.coef)
    played = collect(RandomAgent(), VectorStepReward(inner, shaping.term, shaping.coef), range(6))
    judged = rewarded(collect(RandomAgent(), envs(), range(6)), terms)
    for online, offline in zip(played, judged, strict=True):
        paid, expected = ([step.process_reward for step in t.steps] for t in (online, offline))
        assert paid == pytest.approx(expected, abs=TOLERANCE)
    assert np.ptp([step.process_reward for t in played for step in t.steps]) > 100 * TOLERANCE
    turns = [turn for trajectory in played for turn in transitions_of(trajectory)]
    for each in (ScorerTerm(advantage.term), shaping.term):
        check_reward_term(each, turns, tolerance=TOLERANCE)
