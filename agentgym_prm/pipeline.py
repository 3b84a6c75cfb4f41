"""From nothing to a policy trained against a process reward model, and both judged: all stages in one run directory.

::

    RUN/config.json
    RUN/demonstrations/   trajectories.jsonl                       an expert with noise
    RUN/sft/              base/ metrics.jsonl checkpoint.pt model/  the policy, by imitation
    RUN/rollout/          trajectories.jsonl                       the policy on other training games
    RUN/targets/          branches.jsonl, or steps/ and q/         Q of commands at its states
    RUN/prm/              checkpoints/ metrics.jsonl model/ quality.json
    RUN/policy/           metrics.jsonl checkpoint.pt model/       the policy, by Online DPO against the reward model
    RUN/iteration_2/      rollout/ targets/ prm/ policy/           the same from the new policy, and so on
    RUN/eval/NAME/        config.json trajectories.jsonl summary.csv
    RUN/summary.csv  RUN/report.html

Each stage folder ends with a ``done.json``. A killed run goes on when it is started again with the same settings; see
``stages/form.py``. The last stage says by gates whether the reward model and the policy do what they are for.

An iteration is that of arXiv:2502.10325: the policy plays other training games, a reward model learns from its states,
and the policy is trained against that, with the policy before as the reference; at states that it meets as it goes on
playing or, as there, at those of its rollouts (``logged_states``). The reward model of each iteration is a new one. It
starts from the body of the policy whose rollouts it judges, and learns from the latest rollouts only: they are the
states that this policy meets. The evaluation judges imitation with the first reward model, and the trained policy with
that of the iteration that it came from.

A policy trained too long against reward models learns their mistakes. Each update of the policy's training therefore
records, beside the reward, true success on development games, which are neither trained on nor part of the evaluation;
the report draws both. ``stop_by_success`` ends the iterations by it.
"""

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final

import torch
from tyro.conf import arg

from agentgym_prm.algos.online_dpo import OnlineDPOConfig
from agentgym_prm.algos.presets import algorithm
from agentgym_prm.algos.prm import PRMConfig
from agentgym_prm.algos.sft import SFTConfig
from agentgym_prm.draws import mix
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.evaluate import EvalReport, PairedDifference, summarise
from agentgym_prm.families import family_of
from agentgym_prm.models import TINY, ModelConfig, TinyConfig, check_folder
from agentgym_prm.report import write_report
from agentgym_prm.rewards.specification import RewardSpecification
from agentgym_prm.stages.config import (
    DemonstrationsConfig,
    DevelopmentConfig,
    GamesConfig,
    PolicyConfig,
    RolloutConfig,
    TargetsConfig,
)
from agentgym_prm.stages.evaluation import (
    SUCCESS,
    EvalConfig,
    Gate,
    Trained,
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
from agentgym_prm.stages.training import train_policy
from agentgym_prm.store import read_trajectories

_LOG: Final = logging.getLogger(__name__)
_POLICY: Final = "online_dpo"
"""The algorithm of the policy's stage."""


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """All settings of a run. The defaults are a demonstration on one CPU: a tiny model on small builtin games."""

    model: Annotated[ModelConfig, arg(name="")] = field(default_factory=lambda: ModelConfig(model="tiny"))
    """What policy and reward model start from: --model tiny, or a name on the hub, or a folder."""
    seed: int = 0
    """Seeds every stage; stands in place of the seeds of tiny, sft, prm and dpo."""
    iterations: int = 1
    """How often the policy plays, a reward model learns from that, and the policy is trained against it."""
    stop_by_success: bool = False
    """Stop after an iteration that did not raise success on the development games, and end with the best policy."""
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
    logged_states: bool = False
    """Train the policy at the states of its rollouts, as arXiv:2502.10325 does, instead of playing on. A tiny policy
    that grows surer of itself there meets other states when it plays, and loops in them (benchmarks/LOG.md)."""
    dpo: OnlineDPOConfig = field(default_factory=lambda: _dpo(tiny=True))
    """How the policy is trained against it."""
    development: DevelopmentConfig = field(default_factory=DevelopmentConfig)
    """Held-out games that judge the policy while it is trained."""
    eval: EvalConfig = field(default_factory=EvalConfig)
    """How both are judged."""

    @classmethod
    def of(cls, model: str, env: str = ALFWORLD) -> "PipelineConfig":
        """The defaults for a model and an environment.

        For ``"tiny"`` those above, with the environment's splits, prompt and experts; a pretrained model writes REASON
        and ACTION, the reward model has a scalar head, and learning rates are the paper's.
        """
        family, games = family_of(env), GamesConfig.of(env)
        development = DevelopmentConfig(split=family.splits.development)
        demonstrations = DemonstrationsConfig(games=family.demonstrations, expert=family.text_expert)
        rollout, targets = (
            RolloutConfig(games=family.rollouts),
            TargetsConfig(gamma=family.gamma, completer="expert" if family.make_text_expert else "policy"),
        )
        if model == TINY:
            return cls(
                games=games,
                policy=PolicyConfig(prompt=family.prompt),
                demonstrations=demonstrations,
                rollout=rollout,
                targets=targets,
                development=development,
            )
        precision = "bfloat16" if torch.cuda.is_available() else "float32"
        return cls(
            # Weights in float32: in bfloat16 steps of these sizes are mostly rounded away.
            model=ModelConfig(model=model, dtype="float32"),
            games=games,
            demonstrations=demonstrations,
            rollout=rollout,
            targets=targets,
            development=development,
            policy=PolicyConfig(prompt=family.chat_prompt, mode="generate"),
            sft=SFTConfig(precision=precision),
            head="scalar",
            prm=PRMConfig(contrast=1.0, batch_size=16, precision=precision),
            dpo=replace(_dpo(tiny=False), precision=precision),
            logged_states=True,
        )

    def __post_init__(self) -> None:
        if self.vocabulary_games < 0:
            raise ValueError(f"vocabulary_games must be at least 0, got {self.vocabulary_games}")
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")
        if self.stop_by_success and not self.development.episodes:
            raise ValueError("stop_by_success goes by the development games, and development.episodes is 0")
        if self.development.episodes and self.development.split == self.games.eval_split:
            raise ValueError(
                f"development.split and games.eval_split are both {self.games.eval_split!r}: a policy is not selected "
                "by the games that judge it in the end"
            )


def _dpo(*, tiny: bool) -> OnlineDPOConfig:
    preset = algorithm(_POLICY).preset(tiny=tiny)
    assert isinstance(preset, OnlineDPOConfig)
    return preset


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
    if config.development.episodes:
        games.size(config.development.split)
    check_folder(model)
    check_completer(config.targets, games)
    wanted = config.demonstrations.games + config.vocabulary_games + config.iterations * config.rollout.games
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
    trained = _iterations(run, config, demonstrations, played, say)
    imitator = _plain(config, run / "sft" / "model")
    results = evaluate_run(
        run / "eval", imitator, run / "prm" / "model", config.eval, policy, games, trained=trained, seed=seed, say=say
    )
    say(f"report: {finish(run, config.eval, say=say)}")
    return results


def _plain(config: PipelineConfig, folder: Path) -> ModelConfig:
    """A policy of the run as it is: adapters were merged into it, and it gets no new ones."""
    return replace(config.model, model=str(folder), lora_rank=0)


# --- iterations ---


def iteration_folder(run: str | Path, number: int) -> Path:
    """Where the stages of an iteration are, of which the first is number 1."""
    return Path(run) if number == 1 else Path(run) / f"iteration_{number}"


def _iterations(run: Path, config: PipelineConfig, demonstrations: Path, played: int, say: Say) -> Trained:
    """All iterations from the imitating policy on; the policy to end with.

    Args:
        run: The run's folder.
        config: All settings.
        demonstrations: File of the expert's trajectories.
        played: Training games that were played before, in the random order of the training games.
        say: Gets a line about each stage.
    """
    before = run / "sft" / "model"
    best: tuple[float, Trained] | None = None
    for number in range(1, config.iterations + 1):
        folder = iteration_folder(run, number)
        first_game = played + (number - 1) * config.rollout.games
        figures = _iterate(folder, before, config, demonstrations, first_game, number, _telling(number, say))
        trained = Trained(_plain(config, folder / "policy" / "model"), folder / "prm" / "model")
        before = folder / "policy" / "model"
        if not config.stop_by_success:
            best = (0.0, trained)
            continue
        if best is None:
            imitator = _plain(config, run / "sft" / "model")
            best = (figures["success_rate_before"], Trained(imitator, run / "prm" / "model"))
        if figures["success_rate_after"] <= best[0]:
            say(
                f"stopped after iteration {number}: {figures['success_rate_after']:.1%} of the development games won, "
                f"{best[0]:.1%} by the best policy before"
            )
            break
        best = (figures["success_rate_after"], trained)
    assert best is not None
    return best[1]


def _telling(number: int, say: Say) -> Say:
    """The first iteration's stages say what they always said."""
    return say if number == 1 else lambda line: say(f"iteration {number}, {line}")


def _iterate(
    folder: Path,
    before: Path,
    config: PipelineConfig,
    demonstrations: Path,
    first_game: int,
    number: int,
    say: Say,
) -> dict[str, Any]:
    """Rollouts, targets, reward model and policy, in FOLDER; the results of the last of these stages."""
    seed, games, policy = config.seed, config.games, config.policy
    # Adapters were merged into the policy; a reward model, and the next policy, get new ones.
    plain, model = _plain(config, before), replace(config.model, model=str(before))
    rollouts = folder / "rollout" / TRAJECTORIES
    collect_rollouts(
        folder / "rollout", plain, config.rollout, policy, games, first_game=first_game, seed=seed, say=say
    )
    make_targets(
        folder / "targets",
        rollouts,
        config.targets,
        games,
        demonstrations=demonstrations,
        model=plain,
        policy=policy,
        seed=seed,
        say=say,
    )
    train_reward_model(
        folder / "prm",
        folder / "targets",
        model,
        replace(config.prm, seed=seed),
        policy,
        head=config.head,
        seed=seed,
        say=say,
    )
    # Later iterations play their training games in another order, with other draws.
    training_seed = seed if number == 1 else mix(seed, number) % 2**32
    return train_policy(
        folder / "policy",
        model,
        _POLICY,
        replace(config.dpo, seed=training_seed),
        policy,
        games,
        development=config.development,
        rewards=[RewardSpecification("prm", str(folder / "prm"))],
        trajectories=rollouts if config.logged_states else None,
        training_cap=config.rollout.max_episode_steps,
        say=say,
    )


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
    "name", "episodes", "won", "success", "success_low", "success_high", "mean_score", "mean_steps", "grounding",
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
    lines = [f"{'agent':<24}{'success':>9}  {'95 % interval':<18}{'minus sft':<28}{'score':>6}{'steps':>6}"]
    for name, report in reports.items():
        row = report.overall
        interval = f"[{row.success_low:.1%}, {row.success_high:.1%}]"
        gain = "" if name == "sft" else points(versus(reports, name))
        rates = f"{row.success:>9.1%}  {interval:<18}{gain:<28}"
        lines.append(f"{name:<24}{rates}{row.mean_score:>6.2f}{row.mean_steps:>6.1f}")
    return "\n".join([*lines, "", *(f"{gate.claim}: {gate}" for gate in judged)])
