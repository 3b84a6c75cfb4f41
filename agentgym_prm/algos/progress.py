"""Training of SPA's progress estimator: the contributions of an episode's turns should add up to its outcome.

    loss = mean over trajectories of (sum over turns of contribution - outcome) ** 2

Source: arXiv:2505.20732: learning rate 3e-6, transcripts of at most 4096 tokens; epochs and batch size are not taken
from there. A tiny model from scratch wants Muon and a far higher rate (1e-2 in the tests, with four turns an episode).
The more turns an episode has, the further a step moves their sum, so long episodes want a smaller rate and more steps;
the drawn head also starts them far off (a squared error above 20 with 20 turns of a tiny model), to be unlearned first.

Nothing tells which turn deserves the outcome. That credit lands where it belongs rests on the causal model, which has
to commit itself at each turn, and on there being many episodes: what a turn adds is what it changes about the outcome
that other turns do not tell. Train on episodes of the policy that won as well as ones that failed.

A step is a batch of trajectories, in random order: batches of similar length would carry one label each, as the short
episodes are the won ones. Memory is bounded by ``batch_tokens``: a batch is cut into parts of whole trajectories. One
that is too long by itself is read twice, to know its error before the rows that made it are learned from one by one,
with the same gradient. A plain loop (``algos/loop.py``); a killed run ends as an uninterrupted one.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from agentgym_prm.algos.loop import LoopConfig, TrainingLoop, autocast
from agentgym_prm.errors import needs_extra
from agentgym_prm.packing import batches_by_length
from agentgym_prm.rewards.progress import ProgressEstimator, Reading
from agentgym_prm.types import Trajectory

with needs_extra("train"):
    import torch


@dataclass(frozen=True, slots=True)
class ProgressConfig(LoopConfig):
    """Settings of progress estimator training; an example is a trajectory."""

    learning_rate: float = 3e-6
    """Highest learning rate."""
    batch_tokens: int = 16384
    """Most tokens, padding included, that are learned from at once: bounds memory. Of one transcript at least."""

    def __post_init__(self) -> None:
        LoopConfig.__post_init__(self)  # super() does not reach it from a class with slots
        if self.batch_tokens < 1:
            raise ValueError(f"batch_tokens must be at least 1, got {self.batch_tokens}")


class ProgressExample(NamedTuple):
    """What is read of an episode, and what its contributions should add up to."""

    readings: tuple[Reading, ...]
    outcome: float


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """What a run did. ``loss`` is the mean over trajectories in the last logged steps."""

    steps: int
    examples: int
    loss: float
    seconds: float


def progress_examples(estimator: ProgressEstimator, trajectories: Sequence[Trajectory]) -> list[ProgressExample]:
    """One example for each trajectory.

    Raises:
        ValueError: An outcome is not finite, or as ``ProgressEstimator.readings``.
    """
    for trajectory in trajectories:
        if not math.isfinite(trajectory.outcome):
            raise ValueError(f"outcomes must be finite, episode {trajectory.episode} has {trajectory.outcome}")
    return [ProgressExample(estimator.readings(trajectory), float(trajectory.outcome)) for trajectory in trajectories]


def train_progress(
    estimator: ProgressEstimator,
    trajectories: Sequence[Trajectory],
    config: ProgressConfig,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    after_step: Callable[[int], None] | None = None,
) -> ProgressReport:
    """Train ``estimator`` in place.

    Args:
        estimator: Its trainable parameters are updated.
        trajectories: Rollouts; the same ones in the same order when resuming.
        config: Settings.
        run_dir: Folder for ``metrics.jsonl`` and ``checkpoint.pt``; ``None`` writes neither.
        resume: Continue from the checkpoint in ``run_dir``, if there is one.
        progress: Show a progress bar.
        after_step: Called with the number of finished steps, after their checkpoint.

    Raises:
        FileExistsError: ``run_dir`` has metrics or a checkpoint and ``resume`` is false.
        StoreError: The checkpoint belongs to other settings or trajectories.
        ValueError: No trajectories, or as ``progress_examples``.
    """
    if not trajectories:
        raise ValueError("no trajectories: nothing to learn from")
    examples = progress_examples(estimator, trajectories)
    identity = {"config": asdict(config), "trajectories": len(examples), "digest": _digest(examples)}
    loop = TrainingLoop(
        estimator.model,
        config,
        len(examples),
        name="progress",
        counted="trajectories",
        identity=identity,
        run_dir=run_dir,
    )

    def batches(epoch: int) -> list[list[int]]:
        order = list(range(len(examples)))
        random.Random(f"{config.seed}/{epoch}").shuffle(order)
        return [order[first : first + config.batch_size] for first in range(0, len(order), config.batch_size)]

    def learn(batch: list[int]) -> tuple[float, int]:
        return add_gradient(estimator, [examples[index] for index in batch], config), len(batch)

    loop.run(batches, learn, resume=resume, progress=progress, after_step=after_step)
    return ProgressReport(loop.step, len(examples), loop.loss, loop.seconds)


def add_gradient(estimator: ProgressEstimator, batch: Sequence[ProgressExample], config: ProgressConfig) -> float:
    """Add the gradient of the batch's mean squared error; returns the sum of the squared errors."""
    total = 0.0
    for part in _parts(batch, config.batch_tokens):
        rows = [(number, reading) for number, example in enumerate(part) for reading in example.readings]
        lengths = [len(reading.token_ids) for _, reading in rows]
        chunks = [[rows[index] for index in chunk] for chunk in batches_by_length(lengths, config.batch_tokens)]
        outcomes_B = torch.tensor([example.outcome for example in part], device=estimator.model.device)
        if len(chunks) == 1:
            errors_B = _sums(estimator, chunks[0], len(part), config.precision) - outcomes_B
            ((errors_B**2).sum() / len(batch)).backward()  # type: ignore[no-untyped-call]
        else:
            with torch.no_grad():
                errors_B = -outcomes_B
                for chunk in chunks:
                    errors_B += _sums(estimator, chunk, len(part), config.precision)
            for chunk in chunks:
                # The gradient of a square is twice the error times that of the sum, whichever rows that comes from.
                sums_B = _sums(estimator, chunk, len(part), config.precision)
                (2 * errors_B * sums_B / len(batch)).sum().backward()  # type: ignore[no-untyped-call]
        total += float((errors_B.detach() ** 2).sum())
    return total


def _sums(
    estimator: ProgressEstimator, rows: Sequence[tuple[int, Reading]], count: int, precision: str
) -> torch.Tensor:
    """What rows add to the sum of contributions of each of ``count`` trajectories; a row comes with its trajectory."""
    with autocast(estimator.model, precision):
        outputs_N = estimator.outputs([reading for _, reading in rows])
    owners = torch.tensor([number for number, reading in rows for _ in reading.places], device=outputs_N.device)
    return torch.zeros(count, device=outputs_N.device).index_add(0, owners, outputs_N)


def _parts(batch: Sequence[ProgressExample], batch_tokens: int) -> Iterator[list[ProgressExample]]:
    """The batch in parts of whole trajectories, similar in length, that fit into one forward pass if cut no further."""
    part: list[ProgressExample] = []
    rows = longest = 0
    for example in sorted(batch, key=_longest):
        longest = _longest(example)
        if part and (rows + len(example.readings)) * longest > batch_tokens:
            yield part
            part, rows = [], 0
        part.append(example)
        rows += len(example.readings)
    yield part


def _longest(example: ProgressExample) -> int:
    return max(len(reading.token_ids) for reading in example.readings)


def _digest(examples: Sequence[ProgressExample]) -> str:
    """Tells examples from others: also those with as many tokens and other outcomes."""
    digest = blake2b(digest_size=16)
    for example in examples:
        digest.update(repr(tuple(example)).encode())
    return digest.hexdigest()
