"""A reward model of steps: trained on step labels, judged on held-out problems."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from agentgym_prm.algos.step_labels import StepLabelsConfig, train_step_labels
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.models import TINY, ModelConfig, TinyConfig, load_model, resolve_model, turn_dropout_off
from agentgym_prm.rewards.step_labels import StepLabels, read_step_labels
from agentgym_prm.rewards.step_quality import BASELINES, StepEvaluation, StepTextScorer, evaluate_steps
from agentgym_prm.rewards.targets import TRAIN_SHARE, task_split
from agentgym_prm.rewards.token_labels import SETTINGS_FILE, TokenLabelScorer
from agentgym_prm.stages.config import loading
from agentgym_prm.stages.form import Say, run_stage, write_atomically, write_folder

_LOG: Final = logging.getLogger(__name__)


def train_on_step_labels(
    folder: str | Path,
    labels: str | Path,
    model: ModelConfig,
    config: StepLabelsConfig,
    *,
    tiny: TinyConfig | None = None,
    form: str | None = None,
    train_share: float = TRAIN_SHARE,
    seed: int = 0,
    say: Say = _LOG.info,
) -> dict[str, Any]:
    """Train a model that gives P(``+``) of steps and judge it on held-out problems: FOLDER/model, FOLDER/quality.json.

    A run that was stopped begins its training anew.

    Args:
        folder: The stage's folder.
        labels: File of step labels, see ``rewards/step_labels.py``.
        model: What training starts from; ``"tiny"`` for a model from scratch.
        config: Settings of the training.
        tiny: Shape of a tiny model.
        form: Of the file; by default told by its first row.
        train_share: Of the problems, by ``targets.task_split`` of their text.
        seed: Of the split.
        say: Gets one line about the stage.

    Returns and raises as ``run_stage``; besides:
        DataFormatError: The file is damaged.
        ValueError: Nothing in it is judged.
    """
    folder = Path(folder)
    settings = {"model": loading(model), "steps": config, "form": form, "train_share": train_share, "seed": seed}
    builds_on = {"labels": labels}
    if model.model == TINY:
        settings["tiny"] = tiny or TinyConfig()
    else:
        builds_on["model"] = model.model

    def work() -> dict[str, Any]:
        import torch

        train, held_out = split_problems(read_step_labels(labels, form), seed, train_share)
        texts = [text for each in train for text in (each.input, *each.observations, *each.steps)]
        name = resolve_model(model.model, texts=texts, folder=folder / "start", config=tiny)
        torch.manual_seed(seed)  # LoRA adapters draw their start
        loaded = load_model(replace(model, model=name))
        turn_dropout_off(loaded.model)
        scorer, encoded = train_step_labels(loaded.model, loaded.tokenizer, train, config, run_dir=folder / "trainer")
        judged: dict[str, StepTextScorer] = {scorer.name: scorer, **BASELINES} if held_out else {}
        qualities = {name: evaluate_steps(each, held_out) for name, each in judged.items()}
        record = {"held_out": len(held_out), "scorers": {name: asdict(each) for name, each in qualities.items()}}
        write_atomically(folder / "quality.json", json.dumps(record, indent=2) + "\n")
        write_folder(folder / "model", lambda path: scorer.save(path, _card(len(train), qualities.get(scorer.name))))
        results: dict[str, Any] = {"train_attempts": len(train), "held_out_attempts": len(held_out), **asdict(encoded)}
        if found := qualities.get(scorer.name):
            results |= {"held_out_accuracy": found.steps.accuracy, "held_out_auc": found.steps.auc}
            if found.first_errors is not None:
                results["held_out_first_error_f1"] = found.first_errors.f1
        return results

    return run_stage(folder, settings, work, builds_on=builds_on, say=say)


def split_problems(
    attempts: Sequence[StepLabels], seed: int = 0, train_share: float = TRAIN_SHARE
) -> tuple[list[StepLabels], list[StepLabels]]:
    """Training and held-out attempts; all of one problem are on one side. Those without a judged step are left out."""
    train: list[StepLabels] = []
    held_out: list[StepLabels] = []
    for attempt in filter(is_judged, attempts):
        (train if task_split(attempt.input, seed, train_share) == "train" else held_out).append(attempt)
    return train, held_out


def is_judged(attempt: StepLabels) -> bool:
    """Whether a step is right or wrong."""
    return any(attempt.labels)


def evaluation_table(rows: Sequence[tuple[str, StepEvaluation]]) -> str:
    """One line a scorer: accuracy and AUC of steps, accuracies on attempts with and without an error, and their F1."""
    width = max(12, *(len(name) for name, _ in rows)) + 2
    headings = ("steps", "accuracy", "AUC", "errors", "correct", "F1", "threshold")
    lines = [f"{'scorer':<{width}}" + "".join(f"{heading:>10}" for heading in headings)]
    for name, row in rows:
        steps, first = row.steps, row.first_errors
        cells = [steps.accuracy, steps.auc]
        cells += [first.error_accuracy, first.correct_accuracy, first.f1] if first else [None] * 3
        shown = "".join(f"{'-':>10}" if cell is None else f"{cell:>10.3f}" for cell in [*cells, row.threshold])
        lines.append(f"{name:<{width}}{steps.right + steps.wrong:>10}{shown}")
    return "\n".join(lines)


def step_scorer(name: str) -> StepTextScorer:
    """One of ``BASELINES``, or the model in a folder, which may be that of the stage that trained it.

    Raises:
        UnknownNameError: Neither.
        StoreError: The folder holds another model.
    """
    if name in BASELINES:
        return BASELINES[name]
    folder = Path(name) / "model" if (Path(name) / "model" / SETTINGS_FILE).is_file() else Path(name)
    if not folder.is_dir():
        raise UnknownNameError.of("scorer of steps", name, [*BASELINES, "a folder of a model"])
    return TokenLabelScorer.load(folder)


def _card(attempts: int, found: StepEvaluation | None) -> str:
    lines = ["# Reward model of steps", "", f"- P(`+`) after each step; trained on {attempts} attempts."]
    if found is not None:
        lines.append(f"- Held-out steps: accuracy {found.steps.accuracy:.3f}, AUC {found.steps.auc or 0:.3f}.")
    return "\n".join(lines) + "\n"
