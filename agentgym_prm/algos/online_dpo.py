"""Online DPO against a step scorer: the policy's own replies, the better one preferred to the worse one.

    L = -log sigmoid(beta m),    m = log pi(c|h) / pi_ref(c|h)  -  log pi(w|h) / pi_ref(w|h)

After each history ``h`` of a batch the policy samples replies; a scorer, as a rule a process reward model, judges
them; ``c`` is the best of them and ``w`` the worst. The log-probability of a reply is the sum over its action tokens
(see ``policy.py``), so for a policy that chooses among the admissible commands it is that of the choice. Of the batch
the *histories* are used, not the actions: fresh rollouts and logged ones both do, and a logged action may be anyone's.

Source: stage 3 of arXiv:2502.10325, and arXiv:2402.04792 for learning from preferences of the policy's own replies.
Defaults as there: two replies, beta 0.03, learning rate 8e-7, the reference is what training starts from. Its
temperature, 0.7, and its longest reply, 64 tokens, are the agent's to set.

Departures: histories may be fresh rollouts (there they are logged); log-probabilities are those at the agent's
temperature; with more than two replies best and worst make one pair; a pair may be asked to differ by a margin.
``one_step_behind`` gives what a sampler that runs beside the trainer gives, without running beside it.

A policy that is trained long against one scorer learns its mistakes: ``reward/prm_mean``, the mean score of what the
policy samples, still rises while ``eval/success_rate`` falls. Look at both.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.agents.core import Agent
from agentgym_prm.algos.core import Evaluation, Metrics, Source, Trainer, TrainerConfig, averaged
from agentgym_prm.algos.losses import Preference, dpo
from agentgym_prm.algos.policy import Policy, Reading, Row
from agentgym_prm.algos.processes import Processes
from agentgym_prm.algos.tracking import Tracker
from agentgym_prm.draws import mix
from agentgym_prm.errors import UnknownNameError, needs_extra
from agentgym_prm.rewards.core import StepScorer
from agentgym_prm.types import Action, History, Trajectory

with needs_extra("train"):
    import torch

Candidates = Literal["samples", "commands"]
UNFINISHED: Final = "length"
"""``Action.stop_reason`` of a reply that was cut off before its end token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineDPOConfig(TrainerConfig):
    """Settings of Online DPO."""

    tasks: int = 64
    """Tasks of a batch."""
    group_size: int = 1
    """Trajectories of each task: replies are compared, not trajectories."""
    learning_rate: float = 8e-7
    """Highest learning rate (arXiv:2502.10325)."""
    histories: int = 256
    """Histories of a batch that replies are sampled after, drawn at random; all if it has fewer."""
    samples: int = 2
    """Replies after each history: the best and the worst make a pair. 2 in arXiv:2502.10325."""
    chosen_from: Candidates = "samples"
    """Where the better reply of a pair is from: the samples, or all admissible commands (needs mode choose)."""
    margin: float = 0.0
    """Smallest difference of scores that makes a pair; replies of the same score never do."""
    missing_end_penalty: float = -10.0
    """Score of a reply that was cut off, in place of the scorer's: below whatever the scorer gives."""
    beta: float = 0.03
    """Strength of the tie to the reference (arXiv:2502.10325)."""
    kind: Preference = "sigmoid"
    """Loss: sigmoid (DPO) or ipo (arXiv:2310.12036)."""
    epochs: int = 1
    """Passes over the pairs of a batch."""
    minibatches: int = 1
    """Steps of the optimiser in a pass."""
    one_step_behind: bool = False
    """Sample with the weights of one update before, as a sampler does that runs beside the trainer."""

    def __post_init__(self) -> None:
        TrainerConfig.__post_init__(self)
        for name, least in (("histories", 1), ("samples", 2), ("epochs", 1), ("minibatches", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.beta > 0:
            raise ValueError(f"beta must be above 0, got {self.beta}")
        if not self.margin >= 0:
            raise ValueError(f"margin must be at least 0, got {self.margin}")
        if not math.isfinite(self.missing_end_penalty):
            raise ValueError(f"missing_end_penalty must be finite, got {self.missing_end_penalty}")
        if self.chosen_from not in get_args(Candidates):
            raise UnknownNameError.of("source of better replies", self.chosen_from, get_args(Candidates))
        if self.kind not in get_args(Preference):
            raise UnknownNameError.of("kind of preference loss", self.kind, get_args(Preference))


def preferred(
    replies: Sequence[Action], scores_N: NDArray[np.float64], *, margin: float, samples: int | None = None
) -> tuple[int, int] | None:
    """The best and the worst of some replies to one history, as indices; of equal ones the first.

    Args:
        replies: The replies.
        scores_N: Their scores, shape ``(N,)``.
        margin: Smallest difference of the two scores.
        samples: So many of the replies, the first, may be the worst; by default all.

    Returns:
        ``None`` if the two score alike, differ by less than ``margin``, or are the same tokens (which a scorer may
        round differently).

    >>> replies = [Action("look", token_ids=(5,)), Action("wait", token_ids=(6,))]
    >>> preferred(replies, np.array([0.25, 0.75]), margin=0.5)
    (1, 0)
    """
    best, worst = int(np.argmax(scores_N)), int(np.argmin(scores_N[:samples]))
    difference = float(scores_N[best] - scores_N[worst])
    if difference == 0 or difference < margin or replies[best].token_ids == replies[worst].token_ids:
        return None
    return best, worst


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one history."""

    samples: tuple[Action, ...]
    """What the policy sampled."""
    scores: tuple[float, ...]
    """How that was scored, penalties included."""
    pair: tuple[Action, Action] | None
    """The better and the worse reply."""
    log_ratio: float
    """Logarithm of the first reply's probability under the policy that sampled it over that under the reference."""


class OnlineDPOTrainer(Trainer):
    """Online DPO.

    Args:
        policy: What is trained, in place.
        scorer: Judges its replies.
        config: Settings.
        source: Where the trajectories come from whose histories are used.
        run_dir: As in ``Trainer``, like those that follow.
        evaluation: As in ``Trainer``.
        tracker: As in ``Trainer``.
        processes: As in ``Trainer``.
        progress: As in ``Trainer``.

    The reference is the one that the policy has; a policy without one keeps its present weights.
    """

    name: ClassVar[str] = "online_dpo"
    config: OnlineDPOConfig

    def __init__(
        self,
        policy: Policy,
        scorer: StepScorer,
        config: OnlineDPOConfig,
        source: Source,
        *,
        run_dir: str | Path | None = None,
        evaluation: Evaluation | None = None,
        tracker: Tracker | None = None,
        processes: Processes | None = None,
        progress: bool = False,
    ) -> None:
        super().__init__(
            policy,
            config,
            source,
            run_dir=run_dir,
            evaluation=evaluation,
            tracker=tracker,
            processes=processes,
            progress=progress,
        )
        if config.chosen_from == "commands" and policy.agent.mode != "choose":
            raise ValueError("chosen_from='commands' needs a policy that chooses among them: LocalAgent(mode='choose')")
        self.scorer = scorer
        if not policy.has_reference:
            policy.keep_reference()
        self._older: dict[str, torch.Tensor] | None = None

    def update(self, trajectories: list[Trajectory]) -> Metrics:
        histories = self.histories(trajectories)
        judged = self.judge(histories)
        pairs = [(history, each.pair) for history, each in zip(histories, judged, strict=True) if each.pair]
        metrics = _judgement_metrics(judged)
        if not pairs:
            return metrics
        # The better and the worse reply of a pair stand next to each other.
        rows = self.policy.replies(
            [history for history, _ in pairs for _ in range(2)], [reply for _, pair in pairs for reply in pair]
        )
        steps = [
            self.step(self._losses(rows, minibatch, first=number == 0))
            for number, minibatch in enumerate(self._plan(len(pairs)))
        ]
        return {**metrics, **averaged(steps)}

    # --- what is compared ---

    def histories(self, trajectories: Sequence[Trajectory]) -> list[History]:
        """The histories of this update: some of those of a batch, drawn at random, in their order.

        Their episode numbers are hashes of the update and the trajectory's place, so that draws repeat neither those
        of the rollout nor those of an earlier pass over logged trajectories.
        """
        turns = [(number, turn) for number, each in enumerate(trajectories) for turn in range(len(each.steps))]
        generator = random.Random(f"histories/{self.config.seed}/{self.done}")
        chosen = sorted(generator.sample(turns, min(self.config.histories, len(turns))))
        return [
            replace(trajectories[number].history(turn), episode=mix(self.done, number, len(trajectories)))
            for number, turn in chosen
        ]

    def judge(self, histories: Sequence[History]) -> list[Judged]:
        """Sample replies after each history and score them."""
        places = self.processes.share(range(len(histories)))
        judged = self._judge([histories[place] for place in places])
        known = dict(self.processes.gather(list(zip(places, judged, strict=True))))
        return [known[place] for place in range(len(histories))]

    def _judge(self, histories: Sequence[History]) -> list[Judged]:
        """This process's part."""
        groups = self._sample(histories)
        if not groups:
            return []
        log_ratios = self._log_ratios(histories, [samples[0] for samples in groups])
        candidates = [
            [*samples, *self._others(history, samples)] for history, samples in zip(histories, groups, strict=True)
        ]
        return [
            self._judgement(replies, scores_N, log_ratio)
            for replies, scores_N, log_ratio in zip(
                candidates, self._scores(histories, candidates), log_ratios, strict=True
            )
        ]

    def _judgement(self, replies: Sequence[Action], scores_N: NDArray[np.float64], log_ratio: float) -> Judged:
        count = self.config.samples
        indices = preferred(replies, scores_N, margin=self.config.margin, samples=count)
        pair = (replies[indices[0]], replies[indices[1]]) if indices else None
        return Judged(tuple(replies[:count]), tuple(scores_N[:count].tolist()), pair, log_ratio)

    def _others(self, history: History, samples: Sequence[Action]) -> list[Action]:
        """What else may be the better reply."""
        if self.config.chosen_from == "samples":
            return []
        sampled = {action.command for action in samples}
        return [Action(command) for command in history.admissible_commands if command not in sampled]

    def _scores(self, histories: Sequence[History], groups: Sequence[Sequence[Action]]) -> list[NDArray[np.float64]]:
        """Scores of the replies to each history, penalties included."""
        replies = [reply for group in groups for reply in group]
        repeated = [history for history, group in zip(histories, groups, strict=True) for _ in group]
        scores = np.array(self.scorer.score(repeated, replies), dtype=np.float64)
        unfinished = np.array([reply.stop_reason == UNFINISHED for reply in replies])
        penalty = self.config.missing_end_penalty
        if unfinished.any() and not (scores[~unfinished] > penalty).all():
            raise ValueError(
                f"missing_end_penalty must be below all scores, or replies that were cut off are preferred: it is "
                f"{penalty}, and {self.scorer.name!r} gave {scores[~unfinished].min()}"
            )
        scores[unfinished] = penalty
        return np.split(scores, np.cumsum([len(group) for group in groups])[:-1])

    def _sample(self, histories: Sequence[History]) -> list[list[Action]]:
        """Replies to each history: of the present weights, or of those that the last update began with."""
        agent: Agent = self.policy.agent
        if not self.config.one_step_behind:
            return agent.sample(histories, self.config.samples)
        present = {name: value.clone() for name, value in self._weights().items()}
        self._load_weights(self._older or present)
        replies = agent.sample(histories, self.config.samples)
        self._load_weights(present)
        self._older = present
        return replies

    def _log_ratios(self, histories: Sequence[History], replies: Sequence[Action]) -> list[float]:
        """Of each reply: log-probability under the policy that sampled it, less that under the reference."""
        rows = self.policy.replies(histories, replies)
        with self.policy.as_reference():
            reference = self.policy.read_all(rows)
        return [
            sum(row.sampled) - float(reading.logprobs_N.double().sum())
            for row, reading in zip(rows, reference, strict=True)
        ]

    # --- what is learned ---

    def _plan(self, pairs: int) -> list[list[int]]:
        """The minibatches of all epochs, as indices of pairs: random parts of similar size."""
        plan: list[list[int]] = []
        for epoch in range(self.config.epochs):
            order = list(range(pairs))
            random.Random(f"pairs/{self.config.seed}/{self.done}/{epoch}").shuffle(order)
            count = min(self.config.minibatches, pairs)
            plan += [order[number::count] for number in range(count)]
        return plan

    def _losses(
        self, rows: Sequence[Row], minibatch: Sequence[int], *, first: bool
    ) -> Iterator[tuple[torch.Tensor, Metrics]]:
        """The loss of each forward pass of a minibatch."""
        own = [rows[2 * pair + side] for pair in self.processes.share(minibatch) for side in range(2)]
        # Otherwise the sampler had other weights, and there is a difference to be expected.
        same_weights = first and (self.done == 0 or not self.config.one_step_behind)
        tokens = sum(_count_sampled(rows[2 * pair + side]) for pair in minibatch for side in range(2))
        for batch in self.policy.batches(own, together=2):
            read = [own[index] for index in batch]
            reading = self.policy.read(read)
            # In the same forward pass as the policy, so that a policy that is the reference has margins of exactly 0.
            with torch.no_grad(), self.policy.as_reference():
                reference = self.policy.read(read)
            loss, metrics = self._loss(read, reading, reference, len(minibatch))
            if same_weights:
                sampled = np.concatenate([row.sampled for row in read])
                gaps = np.abs(reading.logprobs_N.detach().double().cpu().numpy() - sampled)
                metrics["sampler/logprob_gap"] = float(np.nansum(gaps)) / tokens
                metrics["sampler/logprob_gap_max"] = float(np.nanmax(gaps))
            yield loss, metrics

    def _loss(
        self, rows: Sequence[Row], reading: Reading, reference: Reading, pairs: int
    ) -> tuple[torch.Tensor, Metrics]:
        """The part that some pairs have in the mean over ``pairs`` of them."""
        (chosen_P, rejected_P), (reference_chosen_P, reference_rejected_P) = (
            _reply_logprobs(rows, each).view(-1, 2).T for each in (reading, reference)
        )
        loss, measured = dpo(
            chosen_P,
            rejected_P,
            reference_chosen_P,
            reference_rejected_P,
            beta=self.config.beta,
            kind=self.config.kind,
            weights_P=torch.full_like(chosen_P, 1 / pairs),
        )
        return loss, {name: float(value) for name, value in measured.items()}

    # --- checkpoints ---

    def extra_state(self) -> Any:
        return self._older

    def load_extra_state(self, state: Any) -> None:
        self._older = state


def _reply_logprobs(rows: Sequence[Row], reading: Reading) -> torch.Tensor:
    """The log-probability of each row's reply: the sum over its action tokens."""
    device = reading.logprobs_N.device
    sizes = torch.tensor([len(row.turns) for row in rows], device=device)
    of_row = torch.repeat_interleave(torch.arange(len(rows), device=device), sizes)
    return torch.zeros(len(rows), device=device).index_add(0, of_row, reading.logprobs_N)


def _count_sampled(row: Row) -> int:
    """How many of a row's action tokens the policy sampled, with a log-probability."""
    return sum(math.isfinite(logprob) for logprob in row.sampled)


def _judgement_metrics(judged: Sequence[Judged]) -> Metrics:
    """How the replies of an update were judged; means over histories."""
    scores_H_N = np.array([each.scores for each in judged])
    samples = [action for each in judged for action in each.samples]
    return {
        "reward/prm_mean": float(scores_H_N.mean()),
        "reward/prm_best": float(scores_H_N.max(1).mean()),
        "policy/kl": float(np.mean([each.log_ratio for each in judged])),
        "dpo/histories": len(judged),
        "dpo/pairs_share": sum(each.pair is not None for each in judged) / len(judged),
        "dpo/unfinished_share": sum(action.stop_reason == UNFINISHED for action in samples) / len(samples),
    }
