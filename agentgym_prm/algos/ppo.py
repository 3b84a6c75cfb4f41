"""PPO for agents: rewards at the ends of turns, a value for each action token, generalised advantage estimation.

    delta_n = r_n + gamma V_{n+1} - V_n,    A_n = delta_n + gamma lam A_{n+1},    returns_n = A_n + V_n

over the action tokens of an episode, in order, across its turns; what the environment wrote is not among them. The
reward of a turn (outcome and process rewards) sits on its last token, and each token pays
``kl_coef * (log pi - log pi_reference)``, as in RLHF (arXiv:2009.01325) and SPA-RL (arXiv:2505.20732). Source:
arXiv:1707.06347, arXiv:1506.02438.

Departures: gamma and lambda count turns, not tokens (``discount="token"`` for the other), because replies differ in
length and an episode is as long as its turns. Values come from a linear head on the policy's own body. The step cap is
part of the task, so a truncated episode ends with value 0 unless ``bootstrap_truncated`` is set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from agentgym_prm.algos.advantages import gae, whiten
from agentgym_prm.algos.policy import Policy, Row
from agentgym_prm.algos.policy_gradient import (
    Floats,
    LossLevel,
    PolicyGradientConfig,
    PolicyGradientTrainer,
    Recorded,
    Targets,
)
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.rewards.core import transitions_of
from agentgym_prm.types import Trajectory

Discount = Literal["turn", "token"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOConfig(PolicyGradientConfig):
    """Settings of PPO."""

    group_size: int = 1
    """Trajectories of each task: PPO compares with values, not within groups."""
    tasks: int = 128
    """Tasks of a batch."""
    epochs: int = 4
    """Passes over a batch."""
    minibatches: int = 4
    """Steps of the optimiser in a pass."""
    loss_level: LossLevel = "token"
    """token: mean over all action tokens; sequence: over each trajectory's first."""
    skip_uniform: bool = False
    """Has no effect: a trajectory of advantage 0 still teaches values."""
    gamma: float = 0.95
    """Discount."""
    lam: float = 0.95
    """GAE's lambda: 1 takes the return less the value, 0 one step."""
    discount: Discount = "turn"
    """What gamma and lambda count: each turn, or each token."""
    whiten_advantages: bool = True
    """Shift and scale a batch's advantages to mean 0 and standard deviation 1."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    value_clip: float | None = 0.2
    """Values are clipped this far from the old ones in the loss; None for no clipping."""
    bootstrap_truncated: bool = False
    """Count the value of the state in which the step cap ended an episode."""

    def __post_init__(self) -> None:
        PolicyGradientConfig.__post_init__(self)
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.discount not in get_args(Discount):
            raise UnknownNameError.of("discount", self.discount, get_args(Discount))
        if self.value_coef < 0 or (self.value_clip is not None and self.value_clip <= 0):
            raise ValueError(
                f"value_coef must be at least 0 and value_clip above 0 or None, got {self.value_coef} and "
                f"{self.value_clip}"
            )


class PPOTrainer(PolicyGradientTrainer):
    """Proximal policy optimisation; the policy needs a value head."""

    name: ClassVar[str] = "ppo"
    config: PPOConfig

    def __init__(self, policy: Policy, config: PPOConfig, *arguments: Any, **options: Any) -> None:
        if policy.net.value is None:
            raise ValueError("PPO needs values: make the policy with value_head=True")
        super().__init__(policy, config, *arguments, **options)

    @property
    def kl_in_loss(self) -> bool:
        return False

    def advantages(self, trajectories: Sequence[Trajectory]) -> None:
        """None: they are of tokens, and need values."""

    def targets(
        self,
        trajectories: Sequence[Trajectory],
        rows: Sequence[Row],
        recorded: Sequence[Recorded],
        advantages: Sequence[Floats],
    ) -> Targets:
        """GAE over each episode's action tokens, across its rows."""
        by_episode: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            by_episode.setdefault(row.episode, []).append(index)
        of_tokens: list[Floats] = [np.empty(0)] * len(rows)
        returns = list(of_tokens)
        bootstraps = self._bootstraps(trajectories)
        for episode, indices in by_episode.items():
            sizes = [len(rows[index].turns) for index in indices]
            turn_T = np.concatenate([rows[index].turns for index in indices])
            rewards_T = self._rewards(trajectories[episode], turn_T, [recorded[index] for index in indices])
            values_T = np.concatenate([recorded[index].values for index in indices])
            estimated = gae(
                rewards_T,
                values_T,
                self.config.gamma,
                self.config.lam,
                bootstrap=bootstraps[episode],
                turn_T=turn_T if self.config.discount == "turn" else None,
            )
            for arrays, whole in zip((of_tokens, returns), estimated, strict=True):
                for index, part in zip(indices, np.split(whole, np.cumsum(sizes)[:-1]), strict=True):
                    arrays[index] = part
        if self.config.whiten_advantages:
            sizes = [len(row.turns) for row in rows]
            of_tokens = np.split(whiten(np.concatenate(of_tokens)), np.cumsum(sizes)[:-1])
        return Targets(of_tokens, returns)

    def _rewards(self, trajectory: Trajectory, turn_T: Floats, recorded: Sequence[Recorded]) -> Floats:
        """The reward of each action token: its turn's on the last, less the price of leaving the reference."""
        rewards_T = np.zeros(len(turn_T))
        if self.config.kl_coef > 0:
            for name, sign in (("logprobs", -1), ("reference", 1)):
                rewards_T += sign * self.config.kl_coef * np.concatenate([getattr(each, name) for each in recorded])
        last_T = np.append(turn_T[1:] != turn_T[:-1], True)
        rewards_T[last_T] += [trajectory.steps[turn].reward for turn in turn_T[last_T]]
        return rewards_T

    def _bootstraps(self, trajectories: Sequence[Trajectory]) -> Floats:
        values_B = np.zeros(len(trajectories))
        if self.config.bootstrap_truncated:
            ends = [each.steps[-1] for each in trajectories]
            # A win at the cap is both, and nothing comes after it.
            cut = [number for number, end in enumerate(ends) if end.truncated and not end.terminated]
            if cut:
                # With the admissible commands, which a prompt may show.
                values_B[cut] = self.policy.values([transitions_of(trajectories[number])[-1].after for number in cut])
        return values_B
