"""MS-PO: the advantage of a turn is its discounted return-to-go, relative to the group.

    A_k = (G_k - mean) / std,        G_k = sum_{j >= k} gamma^(j - k) r_j,        r: process rewards plus the outcome

over the group's k-th turns (``pool="turn"``) or all its turns (``pool="group"``). Source: the code of arXiv:2505.11821,
where gamma is 1 by default. With trajectories of one turn it is GRPO on the merged rewards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agentgym_prm.algos.advantages import Pool, Scale, multi_step
from agentgym_prm.algos.grpo import check_group_size, check_scale, groups_of
from agentgym_prm.algos.policy_gradient import Floats, PolicyGradientConfig, PolicyGradientTrainer
from agentgym_prm.types import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class MSPOConfig(PolicyGradientConfig):
    """Settings of MS-PO."""

    gamma: float = 1.0
    """Discount per turn."""
    pool: Pool = "turn"
    """Compare with the group's turns of the same number (turn) or with all its turns (group)."""
    scale: Scale = "group"
    """What a return less its pool's mean is divided by: the standard deviation of the pool or batch, or none."""

    def __post_init__(self) -> None:
        PolicyGradientConfig.__post_init__(self)
        check_group_size(self.group_size)
        check_scale(self.scale)
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1], got {self.gamma}")


class MSPOTrainer(PolicyGradientTrainer):
    """Multi-step policy optimisation."""

    name: ClassVar[str] = "ms_po"
    config: MSPOConfig

    def advantages(self, trajectories: Sequence[Trajectory]) -> list[Floats]:
        return multi_step(
            rewards_of(trajectories),
            groups_of(trajectories),
            gamma=self.config.gamma,
            scale=self.config.scale,
            pool=self.config.pool,
        )


def rewards_of(trajectories: Sequence[Trajectory]) -> list[Floats]:
    """The reward of each turn, process rewards and outcome together, arrays of shape ``(S_b,)``."""
    return [np.array([step.reward for step in trajectory.steps]) for trajectory in trajectories]
