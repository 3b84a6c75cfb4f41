"""Supervised fine-tuning: behaviour cloning of trajectories.

    loss = - mean over action tokens of log p(token | everything before it)

Action tokens are those that a transcript's action mask marks; replies that were injected as noise stay in the
history but are left out of the loss. One example is one transcript: a whole episode for a prompt in conversation
style, one turn for a prompt in state style. Defaults are those of arXiv 2502.10325 (learning rate 3e-5, cosine, one
epoch); a tiny model from scratch wants about 3e-3 and small batches.

Departures: a plain loop instead of a trainer library, because that costs tens of milliseconds a step, more than a tiny
model's whole step. A killed run that is resumed ends with the same parameters, bit by bit on a CPU.
"""

import json
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from tqdm import tqdm

from agentgym_prm.agents.prompts import Encoder
from agentgym_prm.algos.optim import OPTIMIZERS, make_optimizer, warm_cosine
from agentgym_prm.errors import StoreError, UnknownNameError, needs_extra
from agentgym_prm.types import INJECTED, Trajectory

with needs_extra("train"):
    import torch

PRECISIONS: Final = ("float32", "bfloat16")
_BUCKET: Final = 16
"""Batches whose examples are sorted by length together: little padding, and still shuffled."""
CHECKPOINT: Final = "checkpoint.pt"
METRICS: Final = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class SFTConfig:
    """Settings of supervised fine-tuning."""

    learning_rate: float = 3e-5
    """Highest learning rate."""
    epochs: int = 1
    """Passes over the examples."""
    batch_size: int = 16
    """Examples a step."""
    warmup: float = 0.03
    """Share of the steps in which the learning rate rises from 0."""
    final_learning_rate: float = 0.0
    """Share of learning_rate that the cosine ends at."""
    optimizer: str = "adamw"
    """adamw, or muon for models from scratch (see optim.py)."""
    weight_decay: float = 0.0
    """Weight decay; not on vectors (norms, biases)."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    precision: str = "float32"
    """float32, or bfloat16 for autocast in the forward pass (the weights keep their type)."""
    seed: int = 0
    """Order of the examples, and dropout."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 200
    """Steps between two checkpoints."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.learning_rate <= 0 or self.max_grad_norm <= 0:
            raise ValueError(
                f"learning_rate and max_grad_norm must be above 0, got {self.learning_rate} and {self.max_grad_norm}"
            )
        for name in ("warmup", "final_learning_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.optimizer not in OPTIMIZERS:
            raise UnknownNameError.of("optimizer", self.optimizer, OPTIMIZERS)
        if self.precision not in PRECISIONS:
            raise UnknownNameError.of("precision", self.precision, PRECISIONS)


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
        encoded = _with_token_ids(trajectory, encoder)
        noisy = {turn for turn, step in enumerate(encoded.steps) if step.action.scores.get(INJECTED)}
        for transcript in encoder.trajectory(encoded):
            mask = tuple(
                is_action and turn not in noisy
                for is_action, turn in zip(transcript.action_mask, transcript.turn_index, strict=True)
            )
            if any(mask):
                examples.append(Example(transcript.token_ids, mask))
    return examples


def _with_token_ids(trajectory: Trajectory, encoder: Encoder) -> Trajectory:
    from dataclasses import replace

    steps = tuple(
        step if step.action.token_ids else replace(step, action=encoder.with_token_ids(step.action))
        for step in trajectory.steps
    )
    return replace(trajectory, steps=steps)


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
    run = _Run(model, examples, config, Path(run_dir) if run_dir is not None else None)
    run.start(resume=resume)
    lengths = [len(each.token_ids) for each in examples]
    batches: list[list[int]] = []
    epoch = -1
    was_training = model.training
    model.train()
    try:
        with tqdm(
            total=run.total, initial=run.step, unit="step", desc="sft", disable=None if progress else True
        ) as bar:
            while run.step < run.total:
                if run.step // run.per_epoch != epoch:
                    epoch = run.step // run.per_epoch
                    batches = shuffled_batches(lengths, config.batch_size, config.seed, epoch)
                run.train_on([examples[index] for index in batches[run.step % run.per_epoch]], pad_id)
                bar.update()
                if after_step is not None:
                    after_step(run.step)
    finally:
        model.train(was_training)
    return run.report()


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


class _Run:
    """The state of a training run, and how it is saved."""

    def __init__(self, model: Any, examples: Sequence[Example], config: SFTConfig, folder: Path | None) -> None:
        self.model, self.config, self.folder = model, config, folder
        self.count = len(examples)
        self.per_epoch = math.ceil(len(examples) / config.batch_size)
        self.total = self.per_epoch * config.epochs
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.recent_loss, self.recent_tokens, self.loss = 0.0, 0, math.nan
        self.parameters = [each for each in model.parameters() if each.requires_grad]
        self.optimizer = make_optimizer(
            model.named_parameters(), config.optimizer, config.learning_rate, config.weight_decay
        )
        lengths = [len(each.token_ids) for each in examples]
        self.identity = {"config": asdict(config), "examples": len(examples), "tokens": sum(lengths)}

    def start(self, *, resume: bool) -> None:
        torch.manual_seed(self.config.seed)
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if not resume and any((self.folder / name).exists() for name in (METRICS, CHECKPOINT)):
            raise FileExistsError(f"{self.folder} holds a training run: resume it, or choose another run directory")
        if (self.folder / CHECKPOINT).exists():
            self._restore(torch.load(self.folder / CHECKPOINT, map_location="cpu", weights_only=True))
        # Lines after the checkpoint describe steps that are done again.
        metrics = self.folder / METRICS
        lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= self.step]
        metrics.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def train_on(self, batch: Sequence[Example], pad_id: int) -> None:
        started = time.perf_counter()
        config = self.config
        rate = config.learning_rate * warm_cosine(self.step, self.total, config.warmup, config.final_learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        mixed = config.precision == "bfloat16"
        with torch.autocast(self.model.device.type, dtype=torch.bfloat16) if mixed else nullcontext():
            loss, tokens = action_loss(self.model, batch, pad_id)
        (loss / tokens).backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += tokens
        self.recent_loss += loss.item()
        self.recent_tokens += tokens
        self.seconds += time.perf_counter() - started
        if self.step % config.log_every == 0 or self.step == self.total:
            self._log({"sft/learning_rate": rate, "sft/grad_norm": float(norm)})
        if self.folder is not None and (self.step % config.checkpoint_every == 0 or self.step == self.total):
            self._save(self.folder / CHECKPOINT)

    def report(self) -> SFTReport:
        return SFTReport(self.step, self.count, self.tokens, self.loss, self.seconds)

    def _log(self, metrics: dict[str, float]) -> None:
        self.loss = self.recent_loss / self.recent_tokens
        self.recent_loss, self.recent_tokens = 0.0, 0
        if self.folder is None:
            return
        line = {
            "step": self.step,
            "epoch": self.step / self.per_epoch,
            "sft/loss": self.loss,
            **metrics,
            "sft/action_tokens": self.tokens,
            "time/train_s": round(self.seconds, 3),
        }
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _save(self, path: Path) -> None:
        state = {
            "identity": self.identity,
            "model": {name: value for name, value in self.model.named_parameters() if value.requires_grad},
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "counters": {
                "step": self.step,
                "tokens": self.tokens,
                "seconds": self.seconds,
                "recent_loss": self.recent_loss,
                "recent_tokens": self.recent_tokens,
                "loss": self.loss,
            },
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)  # a kill leaves the old checkpoint or the new one

    def _restore(self, state: dict[str, Any]) -> None:
        if state["identity"] != self.identity:
            raise StoreError(f"{self.folder} was started with {state['identity']}, not {self.identity}")
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, value in state["model"].items():
                parameters[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        for name, value in state["counters"].items():
            setattr(self, name, value)
