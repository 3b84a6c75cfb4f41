"""SPA's progress estimator: trained on rollouts, judged on held-out tasks."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.algos.progress import ProgressConfig, train_progress
from agentgym_prm.errors import UsageError
from agentgym_prm.models import ModelConfig
from agentgym_prm.rewards.progress import MAX_LENGTH, ProgressEstimator, ProgressQuality, judge_progress
from agentgym_prm.rewards.targets import TRAIN_SHARE, task_split
from agentgym_prm.stages.config import PolicyConfig, loading
from agentgym_prm.stages.form import Say, run_stage, write_atomically, write_folder
from agentgym_prm.stages.policy import read_episodes
from agentgym_prm.types import Trajectory

_LOG: Final = logging.getLogger(__name__)
_GATE: Final = "squared error on held-out tasks below that of the mean outcome"


def train_progress_estimator(
    folder: str | Path,
    rollouts: str | Path,
    model: ModelConfig,
    config: ProgressConfig,
    policy: PolicyConfig,
    *,
    max_length: int = MAX_LENGTH,
    train_share: float = TRAIN_SHARE,
    seed: int = 0,
    say: Say = _LOG.info,
) -> dict[str, Any]:
    """Train a progress estimator on rollouts and judge it on held-out tasks: FOLDER/model and FOLDER/quality.json.

    Args:
        folder: The stage's folder.
        rollouts: File of trajectories, of the policy.
        model: The policy, whose body it starts from.
        config: Settings of the training.
        policy: What the policy was shown: the estimator is shown the same.
        max_length: Most tokens of a transcript, see ``ProgressEstimator``.
        train_share: Of the tasks, by ``targets.task_split``.
        seed: Of the split and the new head.
        say: Gets one line about the stage.

    Returns and raises as ``run_stage``; ``UsageError`` if the split leaves nothing to train on.
    """
    folder = Path(folder)
    settings = {"model": loading(model), "progress": config, "policy": policy, "max_length": max_length}
    settings |= {"train_share": train_share, "seed": seed}

    def work() -> dict[str, Any]:
        import torch

        episodes = read_episodes(rollouts)
        train, held_out = _split(episodes, seed, train_share)
        if not train:
            raise UsageError(f"none of the tasks of {len(episodes)} rollouts is trained on: raise --train-share")
        torch.manual_seed(seed)  # LoRA adapters draw their start
        prompt, limit = Prompt.load(policy.prompt), policy.max_prompt_tokens
        estimator = ProgressEstimator.start(model, prompt, seed=seed, max_length=max_length, max_tokens=limit)
        report = train_progress(estimator, train, config, run_dir=folder, resume=True, progress=True)
        quality = _judged(estimator, train, held_out)
        record = {"held_out": quality.to_json() if quality else None, "gate": {_GATE: _verdict(quality)}}
        write_atomically(folder / "quality.json", json.dumps(record, indent=2) + "\n")
        card = progress_card(estimator, config, len(train), quality)
        write_folder(folder / "model", lambda path: estimator.save(path, card))
        figures: dict[str, Any] = {"train_episodes": len(train), "held_out_episodes": len(held_out)}
        figures |= {"steps": report.steps, "loss": report.loss}
        if quality:
            figures |= {f"held_out_{name}": value for name, value in quality.to_json().items() if name != "episodes"}
        return figures

    return run_stage(folder, settings, work, builds_on={"rollouts": rollouts, "policy": model.model}, say=say)


def _split(episodes: Sequence[Trajectory], seed: int, train_share: float) -> tuple[list[Trajectory], list[Trajectory]]:
    sides: dict[str, list[Trajectory]] = {"train": [], "held_out": []}
    for episode in episodes:
        sides[task_split(episode.task_id, seed, train_share)].append(episode)
    return sides["train"], sides["held_out"]


def _judged(
    estimator: ProgressEstimator, train: Sequence[Trajectory], held_out: Sequence[Trajectory]
) -> ProgressQuality | None:
    if not held_out:
        _LOG.warning("no task is held out: the progress estimator cannot be judged")
        return None
    mean = sum(episode.outcome for episode in train) / len(train)
    return judge_progress(estimator.contributions(held_out), [episode.outcome for episode in held_out], mean)


def _verdict(quality: ProgressQuality | None) -> str:
    if quality is None:
        return "FAIL: nothing to judge by"
    verdict = "PASS" if quality.mean_squared_error < quality.baseline else "FAIL"
    return f"{verdict}: {quality.mean_squared_error:.4f} against {quality.baseline:.4f} in {quality.episodes} episodes"


def progress_card(
    estimator: ProgressEstimator, config: ProgressConfig, train: int, quality: ProgressQuality | None
) -> str:
    """The README of a progress estimator's folder."""
    lines = [
        "# Progress estimator",
        "",
        "Tells what each turn of an episode in a text environment contributed to its outcome; the contributions of an",
        "episode add up to its outcome, estimated. Load it with",
        "`agentgym_prm.rewards.progress.ProgressEstimator.load(folder)`.",
        "",
        f"- Shown: the prompt `{estimator.prompt.name}` of the policy, and its replies as sampled; at most"
        f" {estimator.max_length} tokens a transcript.",
        f"- Trained on: {train} episodes, learning rate {config.learning_rate:g}, {config.epochs} epochs; none of a"
        " held-out task.",
        "",
        "## Held-out tasks",
        "",
    ]
    if quality is None:
        lines.append("No task was held out: it was not judged.")
    else:
        lines += [
            f"{quality.episodes} episodes: squared error {quality.mean_squared_error:.4f}, of the mean outcome"
            f" {quality.baseline:.4f};",
            f"correlation with the outcome {_shown(quality.correlation)}, after half of the turns"
            f" {_shown(quality.early_correlation)}.",
        ]
    lines += [
        "",
        "## Limits",
        "",
        "Only the sum over an episode was trained: these figures do not check which turn gets the credit. Episodes",
        "of other policies, games and prompts were not tried.",
        "",
    ]
    return "\n".join(lines)


def _shown(correlation: float | None) -> str:
    return "undefined" if correlation is None else f"{correlation:.3f}"
