"""GiGPO: actions taken in the same state are compared with one another, beside whole trajectories.

    A = A^E + omega * A^S

``A^E`` is the group-relative sum of rewards; ``A^S`` is the discounted return-to-go relative to all turns of the group
that were taken in the same anchor state. Source: arXiv:2505.10978 (verl-agent): omega 1, gamma 0.95, both divided by
their standard deviation. The anchor there is the observation; here observation and admissible commands, which tell
apart states that look alike but offer other actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from agentgym_prm.algos.advantages import Scale, anchor_relative
from agentgym_prm.algos.grpo import check_group_size, check_scale, groups_of
from agentgym_prm.algos.ms_po import rewards_of
from agentgym_prm.algos.policy_gradient import Floats, PolicyGradientConfig, PolicyGradientTrainer
from agentgym_prm.rewards.targets import GAMMA
from agentgym_prm.types import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class GiGPOConfig(PolicyGradientConfig):
    """Settings of GiGPO."""

    omega: float = 1.0
    """Weight of the comparison in the same state."""
    gamma: float = GAMMA
    """Discount per turn of the returns compared there."""
    scale: Scale = "group"
    """What a difference is divided by: the standard deviation of group and state, or of the batch, or none."""

    def __post_init__(self) -> None:
        PolicyGradientConfig.__post_init__(self)
        check_group_size(self.group_size)
        check_scale(self.scale)
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1], got {self.gamma}")


class GiGPOTrainer(PolicyGradientTrainer):
    """Group-in-group policy optimisation."""

    name: ClassVar[str] = "gigpo"
    config: GiGPOConfig

    def advantages(self, trajectories: Sequence[Trajectory]) -> list[Floats]:
        anchors = [[(step.observation, step.admissible_commands) for step in each.steps] for each in trajectories]
        return anchor_relative(
            rewards_of(trajectories),
            anchors,
            groups_of(trajectories),
            gamma=self.config.gamma,
            omega=self.config.omega,
            scale=self.config.scale,
        )
