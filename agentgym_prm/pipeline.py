"""From nothing to a judged process reward model: all stages in one run directory.

::

    RUN/config.json
    RUN/demonstrations/   trajectories.jsonl                       an expert with noise
    RUN/sft/              base/ metrics.jsonl checkpoint.pt model/  the policy, by imitation
    RUN/rollout/          trajectories.jsonl                       the policy on other training games
    RUN/targets/          branches.jsonl, or steps/ and q/         Q of commands at its states
    RUN/prm/              checkpoints/ metrics.jsonl model/ quality.json
    RUN/eval/NAME/        config.json trajectories.jsonl summary.csv
    RUN/summary.csv  RUN/report.html

Each stage folder ends with a ``done.json``. A killed run goes on when it is started again with the same settings; see
``stages.py``. The last stage says by three gates whether the reward model does what it is for.
"""

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final

import torch
from tyro.conf import arg

from agentgym_prm.algos.prm import PRMConfig
from agentgym_prm.algos.sft import SFTConfig
from agentgym_prm.evaluate import EvalReport, PairedDifference, summarise
from agentgym_prm.models import TINY, ModelConfig, TinyConfig, check_folder
from agentgym_prm.report import write_report
from agentgym_prm.stages.config import (
    DemonstrationsConfig,
    GamesConfig,
    PolicyConfig,
    RolloutConfig,
    TargetsConfig,
)
from agentgym_prm.stages.evaluation import (
    SUCCESS,
    EvalConfig,
    Gate,
    evaluate_run,
    gates,
    points,
    quality_accuracy,
    versus,
)
from agentgym_prm.stages.form import (
    DONE,
    Say,
    locked,
    results_of,
    start,
)
from agentgym_prm.stages.policy import (
    TRAJECTORIES,
    collect_rollouts,
    make_demonstrations,
    train_sft,
    vocabulary_texts,
)
from agentgym_prm.stages.reward import train_reward_model
from agentgym_prm.stages.targets import check_completer, make_targets
from agentgym_prm.store import read_trajectories

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """All settings of a run. The defaults are a demonstration on one CPU: a tiny model on small builtin games."""

    model: Annotated[ModelConfig, arg(name="")] = field(default_factory=lambda: ModelConfig(model="tiny"))
    """What policy and reward model start from: --model tiny, or a name on the hub, or a folder."""
    seed: int = 0
    """Seeds every stage; stands in place of the seeds of tiny, sft and prm."""
    vocabulary_games: int = 200
    """Further training games, played at random, that a tiny model's tokenizer gets words from; not imitated."""
    games: GamesConfig = field(default_factory=GamesConfig)
    """Which games are played."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """What the policy is shown, and how it acts."""
    tiny: TinyConfig = field(default_factory=TinyConfig)
    """Shape of a tiny model."""
    demonstrations: DemonstrationsConfig = field(default_factory=DemonstrationsConfig)
    """What is imitated."""
    sft: SFTConfig = field(default_factory=lambda: SFTConfig(learning_rate=3e-3, optimizer="muon", epochs=6))
    """How it is imitated."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Where the policy plays by itself."""
    targets: TargetsConfig = field(default_factory=TargetsConfig)
    """What the reward model is to learn."""
    head: str = "likelihood"
    """Head of the reward model: scalar (arXiv:2502.10325), or likelihood, which a tiny model learns sooner."""
    prm: PRMConfig = field(
        default_factory=lambda: PRMConfig(
            loss="listwise", learning_rate=2e-3, batch_size=16, optimizer="muon", epochs=2, checkpoint_every=100
        )
    )
    """How it is trained."""
    eval: EvalConfig = field(default_factory=EvalConfig)
    """How both are judged."""

    @classmethod
    def of(cls, model: str) -> "PipelineConfig":
        """The defaults for a model: those above for ``"tiny"``; for a pretrained one it writes REASON and ACTION, the
        reward model has a scalar head, and learning rates are the paper's.
        """
        if model == TINY:
            return cls()
        precision = "bfloat16" if torch.cuda.is_available() else "float32"
        return cls(
            # Weights in float32: in bfloat16 steps of these sizes are mostly rounded away.
            model=ModelConfig(model=model, dtype="float32"),
            policy=PolicyConfig(prompt="reason_action", mode="generate"),
            sft=SFTConfig(precision=precision),
            head="scalar",
            prm=PRMConfig(contrast=1.0, batch_size=16, precision=precision),
        )

    def __post_init__(self) -> None:
        if self.vocabulary_games < 0:
            raise ValueError(f"vocabulary_games must be at least 0, got {self.vocabulary_games}")


def run_pipeline(run_dir: str | Path, config: PipelineConfig, *, say: Say = _LOG.info) -> dict[str, Any]:
    """Run all stages that are not done yet, then write the summary and the report.

    Args:
        run_dir: The run's folder. One that is there is continued.
        config: Settings; those that it was started with.
        say: Gets a line about each stage, and the table at the end.

    Returns:
        The results of the last stage.

    Raises:
        StoreError: ``run_dir`` was started with other settings; the message names the first that differs.
    """
    run = Path(run_dir)
    _check(config, say)
    with locked(run):
        return _run(run, config, say)


def _check(config: PipelineConfig, say: Say) -> None:
    """Let what is wrong show before anything is made."""
    games, model = config.games, config.model.model
    size = games.size(games.train_split)
    games.size(games.eval_split)
    check_folder(model)
    check_completer(config.targets, games)
    wanted = config.demonstrations.games + config.vocabulary_games + config.rollout.games
    if wanted > size:
        say(f"note: {wanted} training games are asked for and there are {size}, so some are played in several stages")


def _run(run: Path, config: PipelineConfig, say: Say) -> dict[str, Any]:
    seed, games, policy = config.seed, config.games, config.policy
    start(run, {field.name: getattr(config, field.name) for field in fields(config)})
    demonstrations = run / "demonstrations" / TRAJECTORIES
    make_demonstrations(run / "demonstrations", config.demonstrations, games, seed=seed, say=say)
    spoken = config.demonstrations.games
    played = spoken + config.vocabulary_games
    train_sft(
        run / "sft",
        demonstrations,
        config.model,
        replace(config.sft, seed=seed),
        policy,
        tiny=replace(config.tiny, seed=seed),
        vocabulary=lambda: vocabulary_texts(
            games, policy, games.training_seeds(seed, spoken, config.vocabulary_games), seed
        ),
        seed=seed,
        say=say,
    )
    # Adapters were merged into the policy; a reward model gets new ones.
    model = replace(config.model, model=str(run / "sft" / "model"))
    plain = replace(model, lora_rank=0)
    collect_rollouts(run / "rollout", plain, config.rollout, policy, games, first_game=played, seed=seed, say=say)
    make_targets(
        run / "targets",
        run / "rollout" / TRAJECTORIES,
        config.targets,
        games,
        demonstrations=demonstrations,
        model=plain,
        policy=policy,
        seed=seed,
        say=say,
    )
    train_reward_model(
        run / "prm",
        run / "targets",
        model,
        replace(config.prm, seed=seed),
        policy,
        head=config.head,
        seed=seed,
        say=say,
    )
    results = evaluate_run(run / "eval", plain, run / "prm" / "model", config.eval, policy, games, seed=seed, say=say)
    say(f"report: {finish(run, config.eval, say=say)}")
    return results


# --- summary and report ---


def finish(run: str | Path, config: EvalConfig, *, say: Say = _LOG.info) -> Path:
    """Write ``summary.csv`` and ``report.html`` of a run whose evaluation is done; returns the latter."""
    run = Path(run)
    reports = _stored_reports(run)
    judged = gates(reports, config.control_n, quality_accuracy(run / "prm"))
    _write_summary(run / "summary.csv", reports, judged)
    say(_table(reports, judged))
    return write_report(run)


def _stored_reports(run: Path) -> dict[str, EvalReport]:
    """The finished evaluation's reports, in the order in which the agents played."""
    results = results_of(run / "eval" / DONE)
    names = [name.removeprefix(SUCCESS) for name in results if name.startswith(SUCCESS)]
    paths = {name: run / "eval" / name / TRAJECTORIES for name in names}
    return {name: summarise(name, read_trajectories(path), path.parent) for name, path in paths.items()}


_COLUMNS: Final = (
    "name", "episodes", "won", "success", "success_low", "success_high", "mean_steps", "grounding",
    "minus_sft", "minus_sft_low", "minus_sft_high", "p_value", "verdict",
)  # fmt: skip


def _write_summary(path: Path, reports: Mapping[str, EvalReport], judged: Sequence[Gate]) -> None:
    """One row for each agent, then one for each gate."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for name, report in reports.items():
            paired = versus(reports, name) if name != "sft" else None
            writer.writerow({**asdict(report.overall), "name": name, **_difference(paired)})
        for gate in judged:
            writer.writerow({"name": gate.claim, **_difference(gate.paired), "verdict": str(gate)})


def _difference(paired: PairedDifference | None) -> dict[str, float]:
    if paired is None:
        return {}
    return {
        "minus_sft": paired.difference,
        "minus_sft_low": paired.low,
        "minus_sft_high": paired.high,
        "p_value": paired.p_value,
    }


def _table(reports: Mapping[str, EvalReport], judged: Sequence[Gate]) -> str:
    lines = [f"{'agent':<24}{'success':>9}  {'95 % interval':<18}{'minus sft':<28}{'steps':>6}"]
    for name, report in reports.items():
        row = report.overall
        interval = f"[{row.success_low:.1%}, {row.success_high:.1%}]"
        gain = "" if name == "sft" else points(versus(reports, name))
        lines.append(f"{name:<24}{row.success:>9.1%}  {interval:<18}{gain:<28}{row.mean_steps:>6.1f}")
    return "\n".join([*lines, "", *(f"{gate.claim}: {gate}" for gate in judged)])
