"""Training a causal language model to judge steps: cross-entropy of ``+`` and ``-`` after each marker.

``ProcessRewardTrainer`` is Hugging Face's ``Trainer`` on step labels as they are, a list of
``{"input": …, "value": [step, …], "label": ["+" or "-", …]}`` or of ``StepLabels``::

    trainer = ProcessRewardTrainer(model, arguments, train_dataset=examples, processing_class=tokenizer)
    trainer.train()
    trainer.save_model(folder)
    scorer = TokenLabelScorer.load(folder)

or, with settings of this package, ``train_step_labels``. One forward pass reads an attempt with all its steps; only the
two logits at the markers of judged steps count, and every judged step weighs the same. How a sequence looks:
``rewards/token_labels.py``.

The names are those of https://github.com/sdiehl/prm, whose release trains on nothing: its examples hold no marker, and
its labels are inverted against its logits. Here an example without a judged step is refused, and steps cut off by the
length are counted.
"""

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from agentgym_prm.algos.optim import OPTIMIZERS, make_optimizer
from agentgym_prm.errors import UnknownNameError, needs_extra
from agentgym_prm.models import unwrapped
from agentgym_prm.rewards.step_labels import NEUTRAL, RIGHT, WRONG, StepLabels
from agentgym_prm.rewards.step_quality import area_under_curve
from agentgym_prm.rewards.token_labels import (
    StepEncoder,
    TokenLabelScorer,
    TokenLabelSettings,
    context_length,
    padding_id,
)

with needs_extra("train"):
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments

WARMUP: Final = 0.05
"""Share of the steps in which the learning rate rises."""
IGNORED: Final = -100
"""Target of every place that does not count."""
NEUTRALS: Final[Mapping[str, int | None]] = {"ignore": None, "right": RIGHT, "wrong": WRONG}
"""What steps labelled neutral may count as."""
_CLASSES: Final = {RIGHT: 0, WRONG: 1}
"""Places of the labels among the logits of (``+``, ``-``)."""
_log = logging.getLogger(__name__)


class TrainingRow(NamedTuple):
    """A sequence and, for each place, the class asked for there or ``IGNORED``; ``cut`` judged steps are missing."""

    token_ids: tuple[int, ...]
    targets: tuple[int, ...]
    cut: int = 0


@dataclass(frozen=True, slots=True)
class StepLabelsConfig:
    """Training on step labels; the learning rate is that of the example of https://github.com/sdiehl/prm."""

    epochs: int = 3
    """Passes over the examples."""
    batch_size: int = 8
    """Attempts of a step of the optimiser."""
    learning_rate: float = 2e-6
    """Highest learning rate: linear warm-up over 5 % of the steps, then half a cosine."""
    optimizer: str = "adamw"
    """adamw, or muon for models from scratch (see optim.py)."""
    neutral: str = "ignore"
    """What steps labelled neutral count as: ignore, right or wrong."""
    marker: str = "\n"
    """Follows the problem and each step; one token."""
    max_tokens: int | None = None
    """Longest sequence: judged steps behind it are left out, and counted. By default the model's own."""
    seed: int = 0
    """Order of the examples."""

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UnknownNameError.of("optimizer", self.optimizer, OPTIMIZERS)
        if self.neutral not in NEUTRALS:
            raise UnknownNameError.of("use of neutral steps", self.neutral, NEUTRALS)
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"epochs and batch_size must be at least 1, got {self.epochs} and {self.batch_size}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")

    def settings(self, model: Any) -> TokenLabelSettings:
        """What a model trained with this reads."""
        return TokenLabelSettings(marker=self.marker, max_tokens=self.max_tokens or context_length(model))


@dataclass(frozen=True, slots=True)
class EncodingReport:
    """What became of a data set when it was encoded."""

    examples: int
    """Those that are trained on."""
    steps: int
    """Judged steps in them."""
    cut_steps: int
    """Judged steps behind the longest sequence."""
    cut_examples: int
    """Examples left out because all their judged steps are."""


class RewardDataCollator:
    """Makes batches of step labels: sequences padded on the right, classes at the markers.

    Args:
        tokenizer: In which ``+``, ``-`` and the marker are one token each.
        settings: The marker and the longest sequence.
        neutral: What neutral steps count as, one of ``NEUTRALS``; PRM800K's authors count them as right.

    Raises:
        ValueError: One of the three is not one token.
    """

    def __init__(self, tokenizer: Any, settings: TokenLabelSettings | None = None, *, neutral: str = "ignore") -> None:
        if neutral not in NEUTRALS:
            raise UnknownNameError.of("use of neutral steps", neutral, NEUTRALS)
        self.tokenizer = tokenizer
        self.settings = settings or TokenLabelSettings()
        self.encoder = StepEncoder(tokenizer, self.settings.marker)
        self._classes = {label: _CLASSES[label] for label in (RIGHT, WRONG)}
        if (meaning := NEUTRALS[neutral]) is not None:
            self._classes[NEUTRAL] = _CLASSES[meaning]
        self._pad_id = padding_id(tokenizer)

    def row(self, example: StepLabels | Mapping[str, Any]) -> TrainingRow:
        """An example as a sequence, cut at the longest.

        Raises:
            DataFormatError: A field is missing or wrong.
            ValueError: No step is judged.
        """
        attempt = example if isinstance(example, StepLabels) else StepLabels.from_json(example)
        encoded = self.encoder.encode(attempt)
        judged = {
            place: self._classes[label]
            for place, label in zip(encoded.places, attempt.labels, strict=True)
            if label in self._classes
        }
        if not judged:
            raise ValueError(
                f"an example has no judged step, so there is nothing to learn from it: input {attempt.input!r:.60}, "
                f"labels {attempt.labels}"
            )
        end = self.settings.max_tokens or len(encoded.token_ids)
        targets = tuple(judged.get(place, IGNORED) for place in range(min(end, len(encoded.token_ids))))
        return TrainingRow(encoded.token_ids[:end], targets, sum(place >= end for place in judged))

    def __call__(self, features: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Tensors ``input_ids``, ``attention_mask`` and ``labels``, each of shape ``(B, longest)``.

        Args:
            features: Examples, or rows that were made of them.

        Raises:
            ValueError: There is no judged step in one of them.
        """
        rows = [each if isinstance(each, TrainingRow) else self.row(each) for each in features]
        for row in rows:
            if all(target == IGNORED for target in row.targets):
                raise ValueError(
                    f"all {row.cut} judged steps of an example lie behind its first {len(row.targets)} tokens, so the "
                    "loss would be over nothing: allow longer sequences (max_tokens) or leave it out"
                )
        longest = max(len(row.token_ids) for row in rows)
        ids = torch.full((len(rows), longest), self._pad_id)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for number, row in enumerate(rows):
            length = len(row.token_ids)
            ids[number, :length] = torch.tensor(row.token_ids)
            labels[number, :length] = torch.tensor(row.targets)
            mask[number, :length] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class ProcessRewardTrainer(Trainer):
    """Hugging Face's ``Trainer`` on step labels.

    Args:
        model: A causal language model.
        args: ``TrainingArguments``; columns are never removed.
        train_dataset: Examples, each ``StepLabels`` or a dict of the form ``steps``.
        eval_dataset: The same, held out; ``evaluate`` gives ``eval_loss``, ``eval_accuracy`` and ``eval_auc``.
        processing_class: The tokenizer, for the collator if none is given.
        data_collator: A ``RewardDataCollator`` with settings of its own.
        **kwargs: Further arguments of ``Trainer``.

    Attributes:
        encoded: What became of ``train_dataset``, an ``EncodingReport``.

    Raises:
        ValueError: There is neither tokenizer nor collator, an example has no judged step, or no example is short
            enough to keep one.
    """

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        train_dataset: Iterable[Any] | None = None,
        eval_dataset: Iterable[Any] | None = None,
        processing_class: Any = None,
        data_collator: RewardDataCollator | None = None,
        **kwargs: Any,
    ) -> None:
        if data_collator is None:
            if processing_class is None:
                raise ValueError("processing_class is missing: the tokenizer, or give a data_collator made with it")
            data_collator = RewardDataCollator(
                processing_class, TokenLabelSettings(max_tokens=None if model is None else context_length(model))
            )
        self._collator = data_collator
        self._takes_kept = model is not None and "logits_to_keep" in _forward_arguments(model)
        train_rows, self.encoded = self._rows(train_dataset, "train_dataset")
        if args is not None:
            # Rows are no dicts with columns, and DataParallel would split the kept places: a process for each GPU.
            args.remove_unused_columns = False
            args._n_gpu = min(args.n_gpu, 1)
        kwargs.setdefault("compute_metrics", step_metrics)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_rows or None,
            eval_dataset=self._rows(eval_dataset, "eval_dataset")[0] or None,
            processing_class=processing_class or data_collator.tokenizer,
            data_collator=data_collator,
            compute_loss_func=self._loss,
            **kwargs,
        )

    def _rows(self, examples: Iterable[Any] | None, name: str) -> tuple[list[TrainingRow], EncodingReport]:
        if examples is None:
            return [], EncodingReport(0, 0, 0, 0)
        rows = []
        for number, example in enumerate(examples):
            try:
                rows.append(self._collator.row(example))
            except ValueError as error:
                raise ValueError(f"{name}[{number}]: {error}") from error
        kept = [row for row in rows if any(target != IGNORED for target in row.targets)]
        report = EncodingReport(
            len(kept),
            sum(target != IGNORED for row in kept for target in row.targets),
            sum(row.cut for row in rows),
            len(rows) - len(kept),
        )
        if not kept:
            raise ValueError(
                f"{name} has {len(rows)} examples and none with a judged step within "
                f"{self._collator.settings.max_tokens} tokens: there is nothing to learn from"
            )
        if report.cut_steps:
            _log.warning(
                "%s: %d judged steps lie behind the first %d tokens and are not used; %d examples are left out",
                name, report.cut_steps, self._collator.settings.max_tokens, report.cut_examples,
            )  # fmt: skip
        return kept, report

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        labels = inputs["labels"]
        if self._takes_kept:
            inputs = {**inputs, "logits_to_keep": _judged_places(labels)}
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        return (loss, {"logits": self._pairs(outputs, labels)}) if return_outputs else loss

    def _pairs(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """The logits of ``+`` and ``-``, shape ``(B, T, 2)``; 0 where no step of the batch is judged."""
        places = _judged_places(labels)
        logits = outputs.logits[..., list(self._collator.encoder.label_ids)].float()
        pairs: torch.Tensor = logits.new_zeros((*labels.shape, 2))
        pairs[:, places] = logits if self._takes_kept else logits[:, places]
        return pairs

    def _loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        total: torch.Tensor = torch.nn.functional.cross_entropy(
            self._pairs(outputs, labels).flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        # Over all batches whose gradients add up to one step, so that every judged step weighs the same.
        count = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        loss: torch.Tensor = total / count
        return loss

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        self._collator.settings.write(output_dir or self.args.output_dir)


def step_metrics(prediction: Any) -> dict[str, float]:
    """Accuracy and AUC of judged steps, from what ``Trainer`` collects: logits ``(N, T, 2)``, targets ``(N, T)``."""
    targets_N_T = np.asarray(prediction.label_ids)
    judged_N_T = targets_N_T != IGNORED
    pairs = np.asarray(prediction.predictions)[judged_N_T]
    margins, right = pairs[:, 0] - pairs[:, 1], targets_N_T[judged_N_T] == _CLASSES[RIGHT]
    metrics = {"accuracy": float(((margins > 0) == right).mean())}
    area = area_under_curve(margins[right], margins[~right])
    return metrics if area is None else {**metrics, "auc": area}


def train_step_labels(
    model: Any, tokenizer: Any, examples: Iterable[Any], config: StepLabelsConfig, *, run_dir: str | Path
) -> tuple[TokenLabelScorer, EncodingReport]:
    """Train a model in place; for more control take ``ProcessRewardTrainer`` itself.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        examples: As for the trainer.
        config: Settings.
        run_dir: Folder of the trainer; it keeps no checkpoints.

    Returns:
        The model as a scorer, and what became of the examples.

    Raises:
        ValueError: As for the trainer.
    """
    arguments = TrainingArguments(
        output_dir=str(run_dir),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=WARMUP,
        lr_scheduler_type="cosine",
        seed=config.seed,
        save_strategy="no",
        use_cpu=model.device.type == "cpu",
        dataloader_pin_memory=model.device.type != "cpu",
        disable_tqdm=True,
        report_to="none",
    )
    settings = config.settings(model)
    trainer = ProcessRewardTrainer(
        model,
        arguments,
        examples,
        data_collator=RewardDataCollator(tokenizer, settings, neutral=config.neutral),
        optimizers=(make_optimizer(model.named_parameters(), config.optimizer, config.learning_rate), None),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model.eval()
    return TokenLabelScorer(model, tokenizer, settings), trainer.encoded


def _judged_places(labels: torch.Tensor) -> torch.Tensor:
    """Where a step of any row is judged, shape ``(places,)``."""
    return (labels != IGNORED).any(0).nonzero()[:, 0]


def _forward_arguments(model: Any) -> Iterable[str]:
    return inspect.signature(unwrapped(model).forward).parameters
