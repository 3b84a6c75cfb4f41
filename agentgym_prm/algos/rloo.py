"""RLOO: the baseline of a trajectory is the mean reward of the *other* rollouts of its task.

    A = R - mean of R over the others of the group

Source: arXiv:2402.14740. It is unbiased, and not divided by anything. The paper takes a plain policy gradient with one
step a batch; here the ratio is clipped as everywhere, which changes nothing at the first step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agentgym_prm.algos.advantages import rloo
from agentgym_prm.algos.grpo import Rewards, check_group_size, check_rewards, groups_of, total
from agentgym_prm.algos.policy_gradient import Floats, PolicyGradientConfig, PolicyGradientTrainer
from agentgym_prm.types import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class RLOOConfig(PolicyGradientConfig):
    """Settings of RLOO."""

    rewards: Rewards = "outcome"
    """outcome, or merged: outcome and process rewards summed."""

    def __post_init__(self) -> None:
        PolicyGradientConfig.__post_init__(self)
        check_rewards(self.rewards)
        check_group_size(self.group_size)


class RLOOTrainer(PolicyGradientTrainer):
    """REINFORCE with a leave-one-out baseline."""

    name: ClassVar[str] = "rloo"
    config: RLOOConfig

    def advantages(self, trajectories: Sequence[Trajectory]) -> list[Floats]:
        rewards_B = np.array([total(trajectory, self.config.rewards) for trajectory in trajectories])
        advantages_B = rloo(rewards_B, groups_of(trajectories))
        return [np.full(len(each.steps), value) for each, value in zip(trajectories, advantages_B, strict=True)]
