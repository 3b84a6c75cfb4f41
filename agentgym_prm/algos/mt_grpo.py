"""MT-GRPO: turn rewards and outcome are compared within the group each for itself.

    turn k:  A^O + coef * A^T_k,        the last turn:  A^O

``A^O`` is the group-relative outcome, ``A^T_k`` the turn's process reward relative to the k-th turns of the group.
Source: arXiv:2505.11821 (also named MS-GRPO), which has a tool turn and an answer turn; here any number of turns. With
``coef`` 0 it is GRPO on the outcome, exactly. Defaults: coef 1, clip 0.2, learning rate 1e-6, no divergence from a
reference, as there; group size 8 (there 21).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agentgym_prm.algos.advantages import Scale, turn_level
from agentgym_prm.algos.grpo import check_group_size, check_scale, groups_of
from agentgym_prm.algos.policy_gradient import Floats, PolicyGradientConfig, PolicyGradientTrainer
from agentgym_prm.types import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class MTGRPOConfig(PolicyGradientConfig):
    """Settings of MT-GRPO."""

    turn_coef: float = 1.0
    """Weight of the turns' advantage."""
    last_turn: bool = False
    """Give the last turn its own advantage too, where any turn may be the last (a household), not an answer."""
    scale: Scale = "group"
    """What a reward less its group's mean is divided by: the standard deviation of group or batch, or none."""

    def __post_init__(self) -> None:
        PolicyGradientConfig.__post_init__(self)
        check_group_size(self.group_size)
        check_scale(self.scale)


class MTGRPOTrainer(PolicyGradientTrainer):
    """Multi-turn GRPO."""

    name: ClassVar[str] = "mt_grpo"
    config: MTGRPOConfig

    def advantages(self, trajectories: Sequence[Trajectory]) -> list[Floats]:
        return turn_level(
            [np.array([step.process_reward for step in trajectory.steps]) for trajectory in trajectories],
            [trajectory.outcome for trajectory in trajectories],
            groups_of(trajectories),
            coef=self.config.turn_coef,
            scale=self.config.scale,
            last_turn=self.config.last_turn,
        )
