"""GRPO: the advantage of a trajectory is its reward relative to the other rollouts of its task.

    A = (R - mean of the group) / std of the group,          the same for every action token of the trajectory

``rewards="outcome"`` is GRPO-OR, on the environment's own reward; ``rewards="merged"`` is GRPO-MR, on the sum of all
rewards, process rewards included (arXiv:2505.11821). Source: arXiv:2402.03300. Defaults: clip 0.2, learning rate 1e-6,
mean over each trajectory's tokens first, as there; group size 8 and no divergence from a reference, as has become
usual (there 64 and 0.04). ``scale="none"`` leaves the standard deviation out, as Dr. GRPO does (arXiv:2503.20783).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from agentgym_prm.algos.advantages import Scale, group_relative
from agentgym_prm.algos.policy_gradient import Floats, PolicyGradientConfig, PolicyGradientTrainer
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.types import Trajectory

Rewards = Literal["outcome", "merged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPOConfig(PolicyGradientConfig):
    """Settings of GRPO."""

    rewards: Rewards = "outcome"
    """outcome (GRPO-OR), or merged: outcome and process rewards summed (GRPO-MR)."""
    scale: Scale = "group"
    """What a reward less its group's mean is divided by: the standard deviation of group or batch, or none."""

    def __post_init__(self) -> None:
        PolicyGradientConfig.__post_init__(self)
        check_group_size(self.group_size)
        check_rewards(self.rewards)
        check_scale(self.scale)


def check_rewards(name: str) -> None:
    """Refuse what is not one of ``Rewards``."""
    if name not in get_args(Rewards):
        raise UnknownNameError.of("kind of rewards", name, get_args(Rewards))


def check_scale(name: str) -> None:
    """Refuse what is not one of ``Scale``."""
    if name not in get_args(Scale):
        raise UnknownNameError.of("scale", name, get_args(Scale))


def check_group_size(size: int) -> None:
    """Refuse groups of one: there are no others to compare with, and nothing is learned."""
    if size < 2:
        raise ValueError(f"group_size must be at least 2, or there are no others to compare with, got {size}")


def groups_of(trajectories: Sequence[Trajectory]) -> list[int]:
    """Which trajectories belong together: those of one seed, which is one task; shape ``(B,)``."""
    return [trajectory.seed for trajectory in trajectories]


def total(trajectory: Trajectory, rewards: Rewards) -> float:
    """The reward of a whole trajectory: its outcome, or that and its process rewards."""
    return trajectory.outcome if rewards == "outcome" else sum(step.reward for step in trajectory.steps)


class GRPOTrainer(PolicyGradientTrainer):
    """Group-relative policy optimisation."""

    name: ClassVar[str] = "grpo"
    config: GRPOConfig

    def advantages(self, trajectories: Sequence[Trajectory]) -> list[Floats]:
        rewards_B = np.array([total(trajectory, self.config.rewards) for trajectory in trajectories])
        advantages_B = group_relative(rewards_B, groups_of(trajectories), scale=self.config.scale)
        return [np.full(len(each.steps), value) for each, value in zip(trajectories, advantages_B, strict=True)]
