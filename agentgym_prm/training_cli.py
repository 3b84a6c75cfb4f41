"""The commands that train, or play with, a model; ``cli.py`` imports them when one is asked for, as they load torch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

from tyro.conf import arg

from agentgym_prm.agents.best_of_n import BestOfN
from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.algos.prm import PRMConfig
from agentgym_prm.algos.progress import ProgressConfig
from agentgym_prm.algos.sft import SFTConfig
from agentgym_prm.errors import UnknownNameError, UsageError, needs_extra
from agentgym_prm.models import TINY, ModelConfig, TinyConfig
from agentgym_prm.pipeline import PipelineConfig, run_pipeline
from agentgym_prm.rewards.baselines import LikelihoodScorer
from agentgym_prm.rewards.core import RandomScorer, StepScorer
from agentgym_prm.rewards.prm import ProcessRewardModel
from agentgym_prm.rewards.progress import MAX_LENGTH
from agentgym_prm.rewards.targets import TRAIN_SHARE
from agentgym_prm.stages.config import GamesConfig, PolicyConfig, TargetsConfig
from agentgym_prm.stages.form import DONE
from agentgym_prm.stages.policy import TRAJECTORIES, load_policy, train_sft, vocabulary_texts
from agentgym_prm.stages.progress import train_progress_estimator
from agentgym_prm.stages.reward import train_reward_model
from agentgym_prm.stages.targets import make_targets

SCORERS: Final = ("random", "likelihood")


def commands(arguments: Sequence[str]) -> dict[str, Callable[..., int]]:
    """The commands; defaults are those of the model that the arguments name."""
    defaults = PipelineConfig.of(_model_named(arguments) or TINY)
    return {
        "pipeline": _pipeline_command(defaults),
        "sft": _sft_command(defaults),
        "targets": _targets_command(defaults),
        "train-prm": _train_prm_command(defaults),
        "train-progress": _train_progress_command(defaults),
    }


def _model_named(arguments: Sequence[str]) -> str:
    for number, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--model":
            return value or next(iter(arguments[number + 1 :]), "")
    return ""


def _pipeline_command(defaults: PipelineConfig) -> Callable[..., int]:
    def pipeline(run_dir: Path, config: Annotated[PipelineConfig, arg(name="")] = defaults) -> int:
        """Train a policy and a process reward model and judge both: all stages in one folder.

        The same command goes on with a run that was stopped, and skips what is done.

        Args:
            run_dir: Folder of the run.
            config: All settings.
        """
        quiet()
        run_pipeline(run_dir, config, say=_say)
        return 0

    return pipeline


def _sft_command(defaults: PipelineConfig) -> Callable[..., int]:
    def sft(
        demonstrations: Path,
        run_dir: Path,
        model: Annotated[ModelConfig, arg(name="")] = defaults.model,
        sft: SFTConfig = defaults.sft,
        policy: PolicyConfig = defaults.policy,
        tiny: TinyConfig = TinyConfig(),
        games: GamesConfig = GamesConfig(),
        vocabulary_games: int = 200,
        seed: int = 0,
    ) -> int:
        """Imitate demonstrations; the model is in RUN_DIR/model.

        Args:
            demonstrations: Trajectories to imitate, or the folder that they are in.
            run_dir: Folder to write to; one that was started is continued.
            model: What to start from: tiny, a name on the hub or a folder.
            sft: The training.
            policy: What the model is shown.
            tiny: Shape of a tiny model.
            games: Games that a tiny model's tokenizer gets words from.
            vocabulary_games: How many; played at random, and not imitated.
            seed: Seed of everything random.
        """
        quiet()
        path = _trajectories(demonstrations)

        def vocabulary() -> list[str]:
            return vocabulary_texts(games, policy, games.training_seeds(seed, 0, vocabulary_games), seed)

        train_sft(
            run_dir,
            path,
            model,
            replace(sft, seed=seed),
            policy,
            tiny=replace(tiny, seed=seed),
            vocabulary=vocabulary,
            seed=seed,
            say=_say,
        )
        return 0

    return sft


def _targets_command(defaults: PipelineConfig) -> Callable[..., int]:
    def targets(
        rollouts: Path,
        run_dir: Path,
        targets: Annotated[TargetsConfig, arg(name="")] = TargetsConfig(),
        games: GamesConfig = GamesConfig(),
        demonstrations: Path | None = None,
        model: Annotated[ModelConfig, arg(name="")] = ModelConfig(model=""),
        policy: PolicyConfig = defaults.policy,
        seed: int = 0,
    ) -> int:
        """Estimate Q of commands at states of rollouts, for a reward model to learn.

        Args:
            rollouts: Trajectories of a policy, or the folder that they are in.
            run_dir: Folder to write to; one that was started is continued.
            targets: What is estimated.
            games: Which games the rollouts are of.
            demonstrations: Trajectories of an expert, for --expert-share.
            model: Folder or name of the policy, for --completer policy.
            policy: How it acts.
            seed: Seed of everything random.
        """
        quiet()
        make_targets(
            run_dir,
            _trajectories(rollouts),
            targets,
            games,
            demonstrations=_trajectories(demonstrations) if demonstrations else None,
            model=model if model.model else None,
            policy=policy,
            seed=seed,
            say=_say,
        )
        return 0

    return targets


def _train_prm_command(defaults: PipelineConfig) -> Callable[..., int]:
    def train_prm(
        targets: Path,
        run_dir: Path,
        model: Annotated[ModelConfig, arg(name="")] = ModelConfig(model=""),
        prm: PRMConfig = defaults.prm,
        policy: PolicyConfig = defaults.policy,
        head: str = defaults.head,
        train_share: float = TRAIN_SHARE,
        seed: int = 0,
    ) -> int:
        """Train a process reward model and judge it on held-out tasks: RUN_DIR/model, RUN_DIR/quality.json.

        Args:
            targets: Folder that `targets` wrote.
            run_dir: Folder to write to; one that was started is continued.
            model: Folder or name of the policy, whose body it starts from.
            prm: The training.
            policy: What the policy is shown; the reward model is shown the same.
            head: Of the reward model: scalar (arXiv:2502.10325) or likelihood.
            train_share: Share of the tasks that is trained on.
            seed: Seed of everything random.
        """
        quiet()
        if not model.model:
            raise UsageError(
                "--model is missing: the folder or name of the policy, whose body the reward model starts from"
            )
        if not (targets / DONE).is_file():
            raise UsageError(f"{targets} holds no finished targets: `agentgym-prm targets` makes them")
        train_reward_model(
            run_dir,
            targets,
            model,
            replace(prm, seed=seed),
            policy,
            head=head,
            train_share=train_share,
            seed=seed,
            say=_say,
        )
        return 0

    return train_prm


def _train_progress_command(defaults: PipelineConfig) -> Callable[..., int]:
    def train_progress(
        rollouts: Path,
        run_dir: Path,
        model: Annotated[ModelConfig, arg(name="")] = ModelConfig(model=""),
        progress: ProgressConfig = ProgressConfig(),
        policy: PolicyConfig = defaults.policy,
        max_length: int = MAX_LENGTH,
        train_share: float = TRAIN_SHARE,
        seed: int = 0,
    ) -> int:
        """Train a progress estimator and judge it on held-out tasks: RUN_DIR/model, RUN_DIR/quality.json.

        Args:
            rollouts: Trajectories of a policy, or the folder that they are in.
            run_dir: Folder to write to; one that was started is continued.
            model: Folder or name of the policy, whose body it starts from.
            progress: The training.
            policy: What the policy was shown; the estimator is shown the same.
            max_length: Most tokens of a transcript; a longer one is an error.
            train_share: Share of the tasks that is trained on.
            seed: Seed of everything random.
        """
        quiet()
        if not model.model:
            raise UsageError(
                "--model is missing: the folder or name of the policy, whose body the progress estimator starts from"
            )
        train_progress_estimator(
            run_dir,
            _trajectories(rollouts),
            model,
            replace(progress, seed=seed),
            policy,
            max_length=max_length,
            train_share=train_share,
            seed=seed,
            say=_say,
        )
        return 0

    return train_progress


def model_agent(name: str, policy: PolicyConfig, seed: int) -> LocalAgent:
    """The agent that a model folder or a name on the hub is; the folder of a run's stage stands for the model in it."""
    quiet()
    folder = Path(name) / "model" if (Path(name) / "model" / "config.json").is_file() else Path(name)
    try:
        model = ModelConfig(model=str(folder) if folder.exists() else name)
        return load_policy(model, policy, seed=seed, name=_agent_name(name))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot play with the model {name!r}: {_first_line(error)}") from error


def _agent_name(name: str) -> str:
    parts = [part for part in Path(name).parts if part not in ("/", "model")]
    return parts[-1] if parts else "model"


def best_of(agent: Agent, n: int, scorer: str, seed: int) -> BestOfN:
    """``agent`` as the generator of Best-of-N.

    Args:
        agent: Draws the candidates.
        n: How many.
        scorer: Folder of a reward model, or one of ``SCORERS``.
        seed: Of the random scorer.
    """
    quiet()
    return BestOfN(agent, _scorer(agent, scorer, seed), n)


def _scorer(agent: Agent, name: str, seed: int) -> StepScorer:
    if name == "random":
        return RandomScorer(seed)
    if name == "likelihood":
        if not isinstance(agent, LocalAgent):
            raise UsageError(f"--scorer likelihood needs a model as --agent, not {agent.name!r}")
        return LikelihoodScorer(agent)
    folder = Path(name) / "model" if (Path(name) / "model" / "prm.json").is_file() else Path(name)
    if not folder.exists():
        raise UnknownNameError.of("scorer", name, [*SCORERS, "a folder of a reward model"])
    return ProcessRewardModel.load(folder)


def _trajectories(path: Path) -> Path:
    """The file itself, or the one in a run's folder."""
    file = path / TRAJECTORIES if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"there are no trajectories: no file {file}")
    return file


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _say(line: str) -> None:
    print(line, flush=True)


def quiet() -> None:
    """Keep the model library's bars and remarks off the terminal: the stages have lines of their own."""
    with needs_extra("train"):
        from transformers.utils import logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
