"""Supervised fine-tuning: behaviour cloning of trajectories.

    loss = - mean over action tokens of log p(token | everything before it)

Action tokens are those that a transcript's action mask marks; replies that were injected as noise stay in the
history but are left out of the loss. One example is one transcript: a whole episode for a prompt in conversation
style, one turn for a prompt in state style. Defaults are those of arXiv 2502.10325 (learning rate 3e-5, cosine, one
epoch); a tiny model from scratch wants about 3e-3 and small batches.

Departures: a plain loop (``algos/loop.py``) instead of a trainer library. A killed run that is resumed ends with the
same parameters, bit by bit on a CPU.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from agentgym_prm.agents.prompts import Encoder
from agentgym_prm.algos.loop import LoopConfig, TrainingLoop, autocast
from agentgym_prm.errors import needs_extra
from agentgym_prm.types import INJECTED, Trajectory

with needs_extra("train"):
    import torch

_BUCKET: Final = 16
"""Batches whose examples are sorted by length together: little padding, and still shuffled."""


@dataclass(frozen=True, slots=True)
class SFTConfig(LoopConfig):
    """Settings of supervised fine-tuning: those of the loop."""


class Example(NamedTuple):
    """Token ids, and which of them are to be predicted."""

    token_ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class SFTReport:
    """What a run did. ``loss`` is the mean over action tokens in the last logged steps."""

    steps: int
    examples: int
    action_tokens: int
    loss: float
    seconds: float


def make_examples(trajectories: Iterable[Trajectory], encoder: Encoder) -> list[Example]:
    """One example for each transcript that has something to imitate.

    Replies without token ids (an expert's commands) are encoded here, once; sampled ones are used as sampled.
    """
    examples = []
    for trajectory in trajectories:
        encoded = replace(trajectory, steps=encoder.steps_with_token_ids(trajectory.steps))
        noisy = {turn for turn, step in enumerate(encoded.steps) if step.action.scores.get(INJECTED)}
        for transcript in encoder.trajectory(encoded):
            mask = tuple(
                is_action and turn not in noisy
                for is_action, turn in zip(transcript.action_mask, transcript.turn_index, strict=True)
            )
            if any(mask):
                examples.append(Example(transcript.token_ids, mask))
    return examples


def sft(
    model: Any,
    examples: Sequence[Example],
    config: SFTConfig,
    *,
    pad_id: int = 0,
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    after_step: Callable[[int], None] | None = None,
) -> SFTReport:
    """Train ``model`` in place.

    Args:
        model: A causal LM; its trainable parameters are updated.
        examples: What to imitate; the same ones in the same order when resuming.
        config: Settings.
        pad_id: Id that fills shorter examples; never predicted nor attended to.
        run_dir: Folder for ``metrics.jsonl`` and ``checkpoint.pt``; ``None`` writes neither.
        resume: Continue from the checkpoint in ``run_dir``, if there is one.
        progress: Show a progress bar.
        after_step: Called with the number of finished steps, after their checkpoint.

    Raises:
        FileExistsError: ``run_dir`` has metrics or a checkpoint and ``resume`` is false.
        StoreError: The checkpoint belongs to other settings or examples.
        ValueError: No examples.
    """
    if not examples:
        raise ValueError("no examples: nothing to imitate")
    lengths = [len(each.token_ids) for each in examples]
    identity = {"config": asdict(config), "examples": len(examples), "tokens": sum(lengths)}
    loop = TrainingLoop(
        model, config, len(examples), name="sft", counted="action_tokens", identity=identity, run_dir=run_dir
    )

    def batches(epoch: int) -> list[list[int]]:
        return shuffled_batches(lengths, config.batch_size, config.seed, epoch)

    def learn(batch: list[int]) -> tuple[float, int]:
        with autocast(model, config.precision):
            loss, tokens = action_loss(model, [examples[index] for index in batch], pad_id)
        (loss / tokens).backward()  # type: ignore[no-untyped-call]
        return loss.item(), tokens

    loop.run(batches, learn, resume=resume, progress=progress, after_step=after_step)
    return SFTReport(loop.step, len(examples), loop.seen, loop.loss, loop.seconds)


def shuffled_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch, as indices: random, but with examples of similar length together.

    Examples are shuffled, sorted by length within buckets of 16 batches, cut, and the batches shuffled again.
    """
    rng = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    size = batch_size * _BUCKET
    buckets = [sorted(order[i : i + size], key=lambda index: lengths[index]) for i in range(0, len(order), size)]
    ordered = [index for bucket in buckets for index in bucket]
    batches = [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
    rng.shuffle(batches)
    return batches


def action_loss(model: Any, batch: Sequence[Example], pad_id: int = 0) -> tuple[torch.Tensor, int]:
    """Sum over the marked tokens of their negative log-probability, and how many there are."""
    longest = max(len(each.token_ids) for each in batch)
    ids = torch.full((len(batch), longest), pad_id)
    attention = torch.zeros((len(batch), longest), dtype=torch.long)
    mask = torch.zeros((len(batch), longest), dtype=torch.bool)
    for row, example in enumerate(batch):
        count = len(example.token_ids)
        ids[row, :count] = torch.tensor(example.token_ids)
        attention[row, :count] = 1
        mask[row, :count] = torch.tensor(example.loss_mask)
    ids, attention, mask = (tensor.to(model.device) for tensor in (ids, attention, mask))
    mask[:, 0] = False  # nothing comes before the first token
    # The head is applied only where a marked token is predicted: with a large vocabulary it is most of the cost.
    keep = mask.any(0).nonzero()[:, 0] - 1
    logits = model(input_ids=ids, attention_mask=attention, use_cache=False, logits_to_keep=keep).logits
    wanted = mask[:, keep + 1]
    targets = ids[:, keep + 1][wanted]
    loss = torch.nn.functional.cross_entropy(logits[wanted].float(), targets, reduction="sum")
    return loss, int(wanted.sum())
