"""Policy gradient on whole batches of trajectories: the part that GRPO, its turn-level relatives and PPO share.

    loss = - sum_n w_n min(r_n A_n, clip(r_n, 1 - clip_low, 1 + clip_high) A_n) + kl_coef sum_n w_n KL_n

over action tokens ``n`` (one a turn for a policy that chooses; see ``policy.py``), with ``r_n`` the ratio of the
present policy to the one that sampled, ``A_n`` the advantage of the token's turn, and weights ``w_n`` that sum to 1. An
algorithm says what the advantage of each turn is; nothing else.

Old log-probabilities of a fresh batch are computed by the trainer, in the very forward passes of the first epoch, so
that the ratio of the first minibatch is exactly 1; the gap to what the sampler recorded is logged. Those of the first
minibatch need no pass of their own: its first is the one that computes the loss. Logged trajectories
were sampled by another policy than the present one: there the sampler's own log-probabilities are the old ones, and the
ratio corrects for it from the first minibatch on.

Weights are those of the whole batch, times the number of minibatches: a trajectory whose rows fall into several
minibatches counts no more than others, and the gradient of a minibatch is that of the batch on average.
"""

import random
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.algos.core import Logged, Metrics, Trainer, TrainerConfig, averaged
from agentgym_prm.algos.losses import Estimator, clipped_surrogate, clipped_value_loss, kl_penalty, loss_weights
from agentgym_prm.algos.policy import Policy, Reading, Row
from agentgym_prm.errors import UnknownNameError, needs_extra
from agentgym_prm.types import Trajectory

with needs_extra("train"):
    import torch

Floats = NDArray[np.float64]
LossLevel = Literal["sequence", "token"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyGradientConfig(TrainerConfig):
    """Settings of algorithms with a clipped policy gradient."""

    epochs: int = 1
    """Passes over a batch."""
    minibatches: int = 1
    """Steps of the optimiser in a pass."""
    clip_low: float = 0.2
    """The ratio is clipped at 1 - clip_low ..."""
    clip_high: float = 0.2
    """... and at 1 + clip_high; larger than clip_low lets unlikely actions grow (arXiv:2503.14476)."""
    kl_coef: float = 0.0
    """Weight of the divergence from the reference, the policy that training started from."""
    kl_estimator: Estimator = "k3"
    """How it is estimated from one sample: k1, k2 or k3 (see losses.kl_penalty)."""
    loss_level: LossLevel = "sequence"
    """Mean over each trajectory's tokens, then over trajectories (sequence); or over all tokens of a batch (token)."""
    entropy_coef: float = 0.0
    """Weight of an entropy bonus."""
    recompute_logprobs: bool = True
    """Compute old log-probabilities of fresh trajectories in the trainer; those of logged ones are always the
    sampler's, as those of fresh ones are without this."""
    skip_uniform: bool = True
    """Leave out trajectories all of whose advantages are 0, as in groups without variance. Those that are left share
    the whole weight of the loss, divergence and entropy included; arXiv:2503.14476 draws others in their place."""

    def __post_init__(self) -> None:
        TrainerConfig.__post_init__(self)
        for name in ("epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("kl_coef", "entropy_coef"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 < self.clip_low <= 1 or self.clip_high <= 0:
            raise ValueError(
                f"clip_low must be in (0, 1] and clip_high above 0, got {self.clip_low} and {self.clip_high}"
            )
        if self.kl_estimator not in get_args(Estimator):
            raise UnknownNameError.of("KL estimator", self.kl_estimator, get_args(Estimator))
        if self.loss_level not in get_args(LossLevel):
            raise UnknownNameError.of("loss level", self.loss_level, get_args(LossLevel))


@dataclass(frozen=True, slots=True)
class Targets:
    """What is learned for each action token of each row: lists of arrays, one array a row, one number a token."""

    advantages: list[Floats]
    returns: list[Floats] | None = None
    """What the values should be, if there are values."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A row's action tokens before the update.

    Attributes:
        logprobs: The old log-probabilities that ratios refer to; the sampler's until the trainer has read the row.
        gaps: How far the trainer's log-probabilities are from the sampler's, if the trainer has read the row.
        reference: Log-probabilities of the reference, if it is asked for.
        values: Values, if the policy has any.
    """

    logprobs: Floats
    gaps: Floats | None
    reference: Floats | None
    values: Floats | None


class PolicyGradientTrainer(Trainer):
    """Clipped policy gradient; a subclass writes ``advantages``, or ``targets`` if it needs values."""

    config: Any

    def __init__(self, policy: Policy, config: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(policy, config, *arguments, **options)
        policy.entropy_gradients = config.entropy_coef > 0
        if config.kl_coef > 0 and config.kl_estimator == "k1" and self.kl_in_loss:
            raise ValueError("kl_estimator k1 has no gradient in expectation as a part of the loss: use k2 or k3")
        if config.kl_coef > 0 and not policy.has_reference:
            policy.keep_reference()
        if isinstance(self.source, Logged):
            policy.check(self.source.trajectories)  # now, not at the first update that learns from them

    @abstractmethod
    def advantages(self, trajectories: Sequence[Trajectory]) -> list[Floats] | None:
        """The advantage of each turn of each trajectory, arrays of shape ``(S_b,)``; groups have the same seed.

        ``None`` if there is no such thing before the policy has read them: then ``targets`` is to say more.
        """

    def targets(
        self,
        trajectories: Sequence[Trajectory],
        rows: Sequence[Row],
        recorded: Sequence[Recorded],
        advantages: Sequence[Floats],
    ) -> Targets:
        """The advantage of each action token: that of its turn. ``advantages`` are those of the trajectories."""
        return Targets([advantages[row.episode][list(row.turns)] for row in rows])

    def update(self, trajectories: list[Trajectory]) -> Metrics:
        turns = self.advantages(trajectories)
        # Among all trajectories first: one without advantage still belongs to what the others are compared with.
        kept = self._kept(len(trajectories), turns)
        if not kept:
            return {"rollout/trained_share": 0.0}
        chosen = [trajectories[number] for number in kept]
        rows = self.policy.rows(chosen)
        plan = self.plan(rows)
        recorded = self._record(rows, plan[0])
        targets = self.targets(chosen, rows, recorded, [turns[number] for number in kept] if turns is not None else [])
        weights = self._weights_of(rows)
        minibatches = [minibatch for epoch in plan for minibatch in epoch]
        steps = []
        for minibatch in minibatches:
            first = minibatch is minibatches[0]
            steps.append(self.step(self._losses(rows, minibatch, recorded, targets, weights, first=first)))
            if first:
                self._share_first(recorded, minibatch)
        gaps = [each.gaps for each in recorded if each.gaps is not None]
        return {
            "rollout/trained_share": len(kept) / len(trajectories),
            "train/action_tokens": sum(len(row.turns) for row in rows),
            "train/places": sum(map(len, rows)),
            **(_gap_metrics(np.concatenate(gaps)) if gaps else {}),
            "policy/advantage_std": float(np.concatenate(targets.advantages).std()),
            **averaged(steps),
        }

    def _kept(self, count: int, turns: Sequence[Floats] | None) -> list[int]:
        """The trajectories that there is something to learn from."""
        if turns is None or not self.config.skip_uniform:
            return list(range(count))
        return [number for number, advantages in enumerate(turns) if np.any(advantages)]

    def plan(self, rows: Sequence[Row]) -> list[list[list[int]]]:
        """For each epoch its minibatches, as indices of rows: random parts of similar size."""
        plan = []
        for epoch in range(self.config.epochs):
            order = list(range(len(rows)))
            random.Random(f"{self.config.seed}/{self.done}/{epoch}").shuffle(order)
            count = min(self.config.minibatches, len(rows))
            plan.append([order[number::count] for number in range(count)])
        return plan

    # --- what was before the update ---

    def _record(self, rows: Sequence[Row], epoch: Sequence[Sequence[int]]) -> list[Recorded]:
        """Read rows as the first epoch will, the same in the same forward passes; the first minibatch may wait."""
        before: dict[int, Reading] = {}
        reference: dict[int, Reading] = {}
        for minibatch in epoch:
            share = self.processes.share(minibatch)
            waits = minibatch is epoch[0] and self.policy.net.value is None
            if (self._recomputes and not waits) or self.policy.net.value is not None:
                before |= zip(share, self._read(rows, share), strict=True)
            if self.config.kl_coef > 0:
                with self.policy.as_reference():
                    reference |= zip(share, self._read(rows, share), strict=True)
        own = [index for minibatch in epoch for index in self.processes.share(minibatch)]
        parts = [(index, self._recorded(rows[index], before.get(index), reference.get(index))) for index in own]
        known = dict(self.processes.gather(parts))
        return [known[index] for index in range(len(rows))]

    @property
    def _recomputes(self) -> bool:
        return bool(self.config.recompute_logprobs and self.source.fresh)

    def _read(self, rows: Sequence[Row], share: Sequence[int]) -> list[Reading]:
        return self.policy.read_all([rows[index] for index in share])

    def _recorded(self, row: Row, before: Reading | None, reference: Reading | None) -> Recorded:
        sampled = np.array(row.sampled)
        read = _floats(before.logprobs_N) if before is not None else None
        return Recorded(
            logprobs=read if read is not None and self._recomputes else sampled,
            gaps=np.abs(read - sampled) if read is not None else None,
            reference=_floats(reference.logprobs_N) if reference is not None else None,
            values=_floats(before.values_N) if before is not None and before.values_N is not None else None,
        )

    def _record_late(self, reading: Reading, rows: Sequence[Row], chosen: Sequence[int], known: list[Recorded]) -> None:
        """What the first minibatch finds out about its rows: old log-probabilities, unless they are the sampler's."""
        if not self.source.fresh:
            return
        parts = torch.split(reading.logprobs_N.detach().cpu(), [len(rows[index].turns) for index in chosen])
        for index, part in zip(chosen, parts, strict=True):
            if known[index].gaps is None:
                read = _floats(part)
                gaps = np.abs(read - np.array(rows[index].sampled))
                old = read if self._recomputes else known[index].logprobs
                known[index] = replace(known[index], logprobs=old, gaps=gaps)

    def _share_first(self, recorded: list[Recorded], minibatch: Sequence[int]) -> None:
        """Tell all processes what each recorded in the first minibatch: later ones share rows out in another way."""
        own = self.processes.share(minibatch)
        for index, each in self.processes.gather([(index, recorded[index]) for index in own]):
            recorded[index] = each

    def _weights_of(self, rows: Sequence[Row]) -> list[Floats]:
        """The weight of each action token; over a minibatch they sum to 1, on average."""
        sizes = [len(row.turns) for row in rows]
        episodes = torch.from_numpy(np.repeat([row.episode for row in rows], sizes))
        flat = loss_weights(episodes, level=self.config.loss_level) * min(self.config.minibatches, len(rows))
        return [_floats(part) for part in flat.split(sizes)]

    # --- the loss ---

    def _losses(
        self,
        rows: Sequence[Row],
        minibatch: Sequence[int],
        recorded: list[Recorded],
        targets: Targets,
        weights: Sequence[Floats],
        *,
        first: bool,
    ) -> Iterator[tuple[torch.Tensor, Metrics]]:
        """The loss of each forward pass of a minibatch."""
        share = self.processes.share(minibatch)
        for batch in self.policy.batches([rows[index] for index in share]):
            chosen = [share[place] for place in batch]
            reading = self.policy.read([rows[index] for index in chosen])
            if first:
                self._record_late(reading, rows, chosen, recorded)
            yield self._loss(reading, chosen, recorded, targets, weights)

    def _loss(
        self,
        reading: Reading,
        chosen: Sequence[int],
        recorded: Sequence[Recorded],
        targets: Targets,
        weights: Sequence[Floats],
    ) -> tuple[torch.Tensor, Metrics]:
        config = self.config

        def column(arrays: Sequence[Floats | None]) -> torch.Tensor:
            return torch.from_numpy(np.concatenate([arrays[index] for index in chosen])).to(reading.logprobs_N)

        weights_N = column(weights)
        loss, measured = clipped_surrogate(
            reading.logprobs_N,
            column([each.logprobs for each in recorded]),
            column(targets.advantages),
            weights_N,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
        )
        metrics = {name: float(value) for name, value in measured.items()}
        metrics["policy/entropy"] = float((reading.entropies_N.detach() * weights_N).sum())
        if config.entropy_coef > 0:
            loss = loss - config.entropy_coef * (reading.entropies_N * weights_N).sum()
        if config.kl_coef > 0:
            reference_N = column([each.reference for each in recorded])
            kl = (kl_penalty(reading.logprobs_N, reference_N, estimator=config.kl_estimator) * weights_N).sum()
            metrics["policy/kl"] = float(kl.detach())
            if self.kl_in_loss:
                loss = loss + config.kl_coef * kl
        if targets.returns is not None and reading.values_N is not None:
            error, measured = clipped_value_loss(
                reading.values_N,
                column([each.values for each in recorded]),
                column(targets.returns),
                weights_N,
                clip=config.value_clip,
            )
            metrics |= {"value/loss": float(error.detach())} | {name: float(value) for name, value in measured.items()}
            loss = loss + config.value_coef * error
        return loss, metrics

    @property
    def kl_in_loss(self) -> bool:
        """Whether the divergence from the reference is part of the loss (PPO puts it into the rewards)."""
        return True


def _gap_metrics(gaps_N: Floats) -> Metrics:
    return {"sampler/logprob_gap": float(gaps_N.mean()), "sampler/logprob_gap_max": float(gaps_N.max())}


def _floats(tensor: torch.Tensor) -> Floats:
    return tensor.double().numpy()
