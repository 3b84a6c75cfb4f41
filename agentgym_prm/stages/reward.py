"""The process reward model: trained on targets, judged on held-out tasks."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.algos.loop import METRICS
from agentgym_prm.algos.prm import RANKING_LOSSES, PRMConfig, calibrate, q_examples, train_prm
from agentgym_prm.models import ModelConfig
from agentgym_prm.rewards.baselines import BagOfWords, LikelihoodScorer, MajorityScorer
from agentgym_prm.rewards.core import RandomScorer, StepScorer
from agentgym_prm.rewards.prm import PRMSettings, ProcessRewardModel
from agentgym_prm.rewards.quality import Quality, judge, split_groups
from agentgym_prm.rewards.targets import PREFERENCE_MARGIN, TRAIN_SHARE, ActionValues
from agentgym_prm.stages.config import (
    PolicyConfig,
    loading,
)
from agentgym_prm.stages.form import (
    Say,
    run_stage,
    write_atomically,
    write_folder,
)
from agentgym_prm.stages.policy import load_policy
from agentgym_prm.stages.targets import BRANCHES, encoded_history, read_targets

_LOG: Final = logging.getLogger(__name__)
_CALIBRATED: Final = 1000
"""Training states that the level of the scores is fitted to, where the loss leaves it open."""
QUALITY_GATE: Final = 0.75
"""Pairwise accuracy on held-out states that a reward model should reach."""


def train_reward_model(
    folder: str | Path,
    targets: str | Path,
    model: ModelConfig,
    config: PRMConfig,
    policy: PolicyConfig,
    *,
    head: str = "scalar",
    train_share: float = TRAIN_SHARE,
    seed: int = 0,
    say: Say = _LOG.info,
) -> dict[str, Any]:
    """Train a process reward model on targets and judge it on held-out tasks: FOLDER/model and FOLDER/quality.json.

    Args:
        folder: The stage's folder.
        targets: Folder that ``make_targets`` wrote.
        model: The policy, whose body it starts from.
        config: Settings of the training.
        policy: What the policy is shown: the reward model is shown the same.
        head: Of ``PRMSettings``: scalar or likelihood.
        train_share: Of the tasks, by ``targets.task_split``.
        seed: Of the split and the new head.
        say: Gets one line about the stage.

    Returns and raises as ``run_stage``.
    """
    folder = Path(folder)
    settings = {"model": loading(model), "prm": config, "policy": policy, "head": head}
    settings |= {"train_share": train_share, "seed": seed}

    def work() -> dict[str, Any]:
        import torch

        prompt = Prompt.load(policy.prompt)
        link = "identity" if config.loss == "squared_error" else "sigmoid"
        # Branching tries bare commands: reasons, which it has never seen, would be judged by chance.
        reads = "command" if (Path(targets) / BRANCHES).is_file() else "reply"
        form = PRMSettings(head=head, reads=reads, link=link, max_tokens=policy.max_prompt_tokens)
        torch.manual_seed(seed)  # LoRA adapters draw their start
        prm = ProcessRewardModel.start(model, prompt, form, seed=seed)
        groups = [
            replace(group, history=encoded_history(group.history, prm.encoder)) for group in read_targets(targets)
        ]
        train, held_out = split_groups(groups, seed, train_share)
        report = train_prm(prm, q_examples(prm, train), config, run_dir=folder, resume=True, progress=True)
        if config.loss in RANKING_LOSSES:
            _calibrated(prm, train[:_CALIBRATED], say)
        qualities = _qualities(prm, load_policy(model, policy, seed=seed), train, held_out, prompt, seed)
        gate = quality_gate(qualities.get("prm"))
        record = {"scorers": {name: quality.to_json() for name, quality in qualities.items()}, "gate": gate}
        write_atomically(folder / "quality.json", json.dumps(record, indent=2) + "\n")
        card = model_card(prm, config, len(train), len(held_out), qualities.get("prm"))
        write_folder(folder / "model", lambda path: prm.save(path, card))
        figures: dict[str, Any] = {"train_states": len(train), "held_out_states": len(held_out), "steps": report.steps}
        figures["loss"] = _last_loss(folder / METRICS)
        if "prm" in qualities:
            judged = qualities["prm"]
            figures |= {"held_out_loss": judged.loss, "auc": judged.auc, "pairwise_accuracy": judged.pairwise_accuracy}
        return figures

    return run_stage(folder, settings, work, builds_on={"targets": targets, "policy": model.model}, say=say)


def _calibrated(prm: ProcessRewardModel, groups: Sequence[ActionValues], say: Say) -> None:
    try:
        calibrate(prm, groups)
    except ValueError as error:
        # It goes on to be judged: that a reward model is worth nothing is a result.
        say(f"  not calibrated: {error}")


def _last_loss(path: Path) -> float | None:
    """Off the file, which knows it even if the run was killed after its last step."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return float(json.loads(lines[-1])["prm/loss"]) if lines else None


def _qualities(
    prm: ProcessRewardModel,
    agent: LocalAgent,
    train: Sequence[ActionValues],
    held_out: Sequence[ActionValues],
    prompt: Prompt,
    seed: int,
) -> dict[str, Quality]:
    """The reward model and what it has to beat, on held-out states; nothing if these have nothing to tell apart."""
    likelihood = LikelihoodScorer(agent)
    scorers: dict[str, StepScorer] = {
        "prm": prm,
        "bag_of_words": BagOfWords.fit(train, prompt),
        "majority": MajorityScorer.fit(train),
        "random": RandomScorer(seed),
        "likelihood": likelihood,
    }
    if not any(max(group.values) - min(group.values) > PREFERENCE_MARGIN for group in held_out):
        _LOG.warning("no held-out state has two actions that differ: the reward model cannot be judged")
        return {}
    return {name: judge(scorer, held_out, seed=seed) for name, scorer in scorers.items()}


def quality_gate(quality: Quality | None) -> dict[str, str]:
    """Whether the reward model tells actions of held-out states apart well enough, in words."""
    name = f"pairwise accuracy on held-out states at least {QUALITY_GATE}"
    if quality is None:
        return {name: "FAIL: nothing to judge by"}
    verdict = "PASS" if quality.pairwise_accuracy >= QUALITY_GATE else "FAIL"
    interval = f"[{quality.pairwise_low:.3f}, {quality.pairwise_high:.3f}]"
    return {name: f"{verdict}: {quality.pairwise_accuracy:.3f} {interval} of {quality.pairs} pairs"}


def model_card(prm: ProcessRewardModel, config: PRMConfig, train: int, held_out: int, quality: Quality | None) -> str:
    """The README of a reward model's folder."""
    judged = "the value of a reply after its history (Q)"
    scale = "a number in (0, 1)" if prm.settings.link == "sigmoid" else "an unbounded number"
    lines = [
        "# Process reward model",
        "",
        f"Judges {judged} in a text environment: {scale}, higher is better. Load it with",
        "`agentgym_prm.rewards.prm.ProcessRewardModel.load(folder)`.",
        "",
        f"- Shown: the prompt `{prm.settings.prompt}` of the policy, and the reply with its end token.",
        f"- Trained on: {train} states with several tried actions each, head `{prm.settings.head}`, loss"
        f" `{config.loss}`, contrast {config.contrast:g}, {config.epochs} epochs; no state of a held-out task.",
        "",
        "## Held-out tasks",
        "",
    ]
    if quality is None:
        lines.append(f"The {held_out} held-out states have no two actions that differ: it was not judged.")
    else:
        lines += [f"{held_out} states.", "", "```", str(quality), "```"]
        lines += ["", "In the tables: calibration by score, and mean value by decile of the score."]
    lines += [
        "",
        "## Limits",
        "",
        "Values are those of the continuations that it was trained on: whoever plays on otherwise wins more or less",
        "often. Games, prompts and commands unlike those it was trained on were not tried.",
        "",
    ]
    return "\n".join(lines)
