"""The plain training loop: an optimiser, a learning-rate schedule, metrics, and checkpoints to go on from.

What is learned, and from which batches, is told to it by two functions (``algos/sft.py``, ``algos/progress.py``). A
trainer library costs tens of milliseconds a step, more than a tiny model's whole step. A killed run that is resumed
ends with the same parameters, bit by bit on a CPU.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from agentgym_prm.algos.optim import OPTIMIZERS, make_optimizer, warm_cosine
from agentgym_prm.errors import StoreError, UnknownNameError, needs_extra

with needs_extra("train"):
    import torch

PRECISIONS: Final = ("float32", "bfloat16")
CHECKPOINT: Final = "checkpoint.pt"
METRICS: Final = "metrics.jsonl"

Batches = Callable[[int], list[list[int]]]
"""The batches of an epoch (from 0), as indices of examples: the same ones whenever it is asked."""
Learn = Callable[[list[int]], tuple[float, int]]
"""Adds the gradient of a batch's mean loss; returns the sum of the losses and how many they are."""


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """Settings of the loop."""

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


def autocast(model: Any, precision: str) -> AbstractContextManager[Any]:
    """What a forward pass runs in."""
    return torch.autocast(model.device.type, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


class TrainingLoop:
    """One training run.

    Args:
        model: Its trainable parameters are updated.
        config: Settings.
        count: How many examples there are.
        name: What its metrics are called.
        counted: What the loss is the mean over, as metrics call it.
        identity: What decides the result: a run is resumed only with an equal one. JSON values.
        run_dir: Folder for ``metrics.jsonl`` and ``checkpoint.pt``; ``None`` writes neither.

    Attributes:
        step: Finished steps.
        seen: How many losses there were in them.
        loss: Mean loss of the last logged steps.
        seconds: Time they took.
    """

    def __init__(
        self,
        model: Any,
        config: LoopConfig,
        count: int,
        *,
        name: str,
        counted: str,
        identity: Mapping[str, Any],
        run_dir: str | Path | None = None,
    ) -> None:
        self._model, self._config, self._name, self._counted = model, config, name, counted
        self._folder = Path(run_dir) if run_dir is not None else None
        self._per_epoch = math.ceil(count / config.batch_size)
        self._total = self._per_epoch * config.epochs
        self.step, self.seen, self.seconds = 0, 0, 0.0
        self._recent_loss, self._recent_seen, self.loss = 0.0, 0, math.nan
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        self._optimizer = make_optimizer(
            model.named_parameters(), config.optimizer, config.learning_rate, config.weight_decay
        )
        self._identity = dict(identity)

    def run(
        self,
        batches: Batches,
        learn: Learn,
        *,
        resume: bool = False,
        progress: bool = False,
        after_step: Callable[[int], None] | None = None,
    ) -> None:
        """Train to the end.

        Args:
            batches: What each epoch consists of.
            learn: What is done with a batch.
            resume: Continue from the checkpoint in ``run_dir``, if there is one.
            progress: Show a progress bar.
            after_step: Called with the number of finished steps, after their checkpoint.

        Raises:
            FileExistsError: ``run_dir`` has metrics or a checkpoint and ``resume`` is false.
            StoreError: The checkpoint belongs to another ``identity``.
        """
        self._start(resume=resume)
        of_epoch: list[list[int]] = []
        epoch = -1
        was_training = self._model.training
        self._model.train()
        try:
            with tqdm(
                total=self._total,
                initial=self.step,
                unit="step",
                desc=self._name,
                disable=None if progress else True,
            ) as bar:
                while self.step < self._total:
                    if self.step // self._per_epoch != epoch:
                        epoch = self.step // self._per_epoch
                        of_epoch = batches(epoch)
                    self._train_on(of_epoch[self.step % self._per_epoch], learn)
                    bar.update()
                    if after_step is not None:
                        after_step(self.step)
        finally:
            self._model.train(was_training)

    def _start(self, *, resume: bool) -> None:
        torch.manual_seed(self._config.seed)
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        if not resume and any((self._folder / name).exists() for name in (METRICS, CHECKPOINT)):
            raise FileExistsError(f"{self._folder} holds a training run: resume it, or choose another run directory")
        if (self._folder / CHECKPOINT).exists():
            self._restore(torch.load(self._folder / CHECKPOINT, map_location="cpu", weights_only=True))
        # Lines after the checkpoint describe steps that are done again.
        metrics = self._folder / METRICS
        lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= self.step]
        metrics.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def _train_on(self, batch: list[int], learn: Learn) -> None:
        started = time.perf_counter()
        config = self._config
        rate = config.learning_rate * warm_cosine(self.step, self._total, config.warmup, config.final_learning_rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss, count = learn(batch)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, config.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.seen += count
        self._recent_loss += loss
        self._recent_seen += count
        self.seconds += time.perf_counter() - started
        if self.step % config.log_every == 0 or self.step == self._total:
            self._log({"learning_rate": rate, "grad_norm": float(norm)})
        if self._folder is not None and (self.step % config.checkpoint_every == 0 or self.step == self._total):
            self._save(self._folder / CHECKPOINT)

    def _log(self, metrics: dict[str, float]) -> None:
        self.loss = self._recent_loss / self._recent_seen
        self._recent_loss, self._recent_seen = 0.0, 0
        if self._folder is None:
            return
        named = {"loss": self.loss, **metrics, self._counted: self.seen}
        line = {
            "step": self.step,
            "epoch": self.step / self._per_epoch,
            **{f"{self._name}/{key}": value for key, value in named.items()},
            "time/train_s": round(self.seconds, 3),
        }
        with (self._folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _save(self, path: Path) -> None:
        state = {
            "identity": self._identity,
            "model": {name: value for name, value in self._model.named_parameters() if value.requires_grad},
            "optimizer": self._optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "counters": {
                "step": self.step,
                "seen": self.seen,
                "seconds": self.seconds,
                "_recent_loss": self._recent_loss,
                "_recent_seen": self._recent_seen,
                "loss": self.loss,
            },
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)  # a kill leaves the old checkpoint or the new one

    def _restore(self, state: dict[str, Any]) -> None:
        if state["identity"] != self._identity:
            raise StoreError(f"{self._folder} was started with {state['identity']}, not {self._identity}")
        parameters = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, value in state["model"].items():
                parameters[name].copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        for name, value in state["counters"].items():
            setattr(self, name, value)
