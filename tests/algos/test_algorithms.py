"""Every algorithm learns the toy game, and none learns it from rewards that were dealt out at random.

Every task of the toy game can be won in less than the cap of 12 steps, so the best success within it is 1. Stated
beforehand: an algorithm has to win 95 % of 120 episodes after 12 updates of 96 episodes each; with the outcomes of each
batch dealt out anew among its episodes, the policy has to stay within 15 points of its start, which wins about half.
"""

from dataclasses import replace

import numpy as np
import pytest

from agentgym_prm.algos.core import Rollouts
from agentgym_prm.envs.toy import optimal_q, toy_model
from tests.algos.episodes import with_rewards
from tests.algos.toy_policies import ALGORITHMS, CAP, TASKS, environments, load, start_policy, success, trainer_of

ENOUGH = 0.95
SEEDS = (0, 2, 4)
WEAK = 1
"""A start that wins about half of its episodes: there is something to learn, and something to lose."""


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """The start of each seed, made once."""
    folder = tmp_path_factory.mktemp("starts")
    for seed in (*SEEDS, WEAK):
        start_policy(folder / str(seed), seed)
    return folder


def test_every_task_can_be_won_within_the_cap():
    for task in TASKS:
        assert optimal_q(task, 1.0, CAP).v(toy_model(task).states[0]) == 1.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_learns_the_toy_game(name, seed, starts):
    agent = load(starts / str(seed), seed)
    before = success(agent)
    kind, config = ALGORITHMS[name]
    trainer_of(kind, replace(config, seed=seed), agent).run()
    assert before < 0.9
    assert success(agent) >= ENOUGH


class Shuffled(Rollouts):
    """Fresh trajectories whose outcomes were dealt out anew among them."""

    def batch(self, agent, update, config, processes):
        played = super().batch(agent, update, config, processes)
        dealt = np.random.default_rng(update).permutation([each.outcome for each in played])
        return [with_rewards(each, outcome) for each, outcome in zip(played, dealt.tolist(), strict=True)]


@pytest.mark.parametrize("name", ["grpo", "rloo", "ms_po", "gigpo", "ppo"])
def test_an_algorithm_learns_nothing_from_outcomes_of_other_episodes(name, starts):
    agent = load(starts / str(WEAK), WEAK)
    before = success(agent)
    kind, config = ALGORITHMS[name]
    # Half the updates: with true rewards they reach about 0.8 from this start.
    config = replace(config, seed=WEAK, updates=6)
    trainer_of(kind, config, agent, Shuffled(environments(), list(TASKS))).run()
    assert 0.3 < before < 0.6
    assert success(agent) < before + 0.15
