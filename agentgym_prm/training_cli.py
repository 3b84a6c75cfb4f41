"""The commands that train, or play with, a model; ``cli.py`` imports them when one is asked for, as they load torch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

from tyro.conf import arg

from agentgym_prm.agents.best_of_n import BestOfN
from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.algos.presets import TINY_WIDTH, algorithm, is_tiny, model_width
from agentgym_prm.algos.prm import PRMConfig
from agentgym_prm.algos.processes import Processes
from agentgym_prm.algos.progress import ProgressConfig
from agentgym_prm.algos.sft import SFTConfig
from agentgym_prm.algos.step_labels import StepLabelsConfig
from agentgym_prm.algos.tracking import TRACKERS
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.errors import UnknownNameError, UsageError, needs_extra
from agentgym_prm.models import TINY, ModelConfig, TinyConfig, check_folder
from agentgym_prm.pipeline import PipelineConfig, run_pipeline
from agentgym_prm.report import write_report
from agentgym_prm.rewards.baselines import LikelihoodScorer
from agentgym_prm.rewards.core import RandomScorer, StepScorer
from agentgym_prm.rewards.prm import ProcessRewardModel
from agentgym_prm.rewards.progress import MAX_LENGTH, ProgressEstimator
from agentgym_prm.rewards.remote import KEY_VARIABLE
from agentgym_prm.rewards.server import ScorerServer
from agentgym_prm.rewards.specification import RewardSpecification
from agentgym_prm.rewards.step_labels import read_step_labels
from agentgym_prm.rewards.step_quality import BASELINES, THRESHOLD, best_threshold, evaluate_steps
from agentgym_prm.rewards.targets import TRAIN_SHARE
from agentgym_prm.rewards.token_labels import SETTINGS_FILE, TokenLabelScorer
from agentgym_prm.stages.config import DevelopmentConfig, GamesConfig, PolicyConfig, TargetsConfig
from agentgym_prm.stages.form import DONE
from agentgym_prm.stages.policy import TRAJECTORIES, load_policy, train_sft, vocabulary_texts
from agentgym_prm.stages.progress import train_progress_estimator
from agentgym_prm.stages.reward import train_reward_model
from agentgym_prm.stages.step_labels import evaluation_table, step_scorer, train_on_step_labels
from agentgym_prm.stages.targets import make_targets
from agentgym_prm.stages.training import train_policy

SCORERS: Final = ("random", "likelihood")
_ALGORITHM: Final = "grpo"
"""Whose settings ``train --help`` shows if it names none."""


def commands(arguments: Sequence[str]) -> dict[str, Callable[..., int]]:
    """The commands; defaults are those of the model, environment and algorithm that the arguments name."""
    model = _named("--model", arguments) or TINY
    tiny = is_tiny(model_folder(model))
    env = _named("--env", arguments) or _named("--games.env", arguments) or ALFWORLD
    defaults = PipelineConfig.of(TINY if tiny else model, env)
    return {
        "pipeline": _pipeline_command(defaults),
        "sft": _sft_command(defaults),
        "targets": _targets_command(defaults),
        "train-prm": _train_prm_command(defaults),
        "train-progress": _train_progress_command(defaults),
        "train-step-labels": _train_step_labels_command(tiny=tiny),
        "eval-steps": eval_steps,
        "train": _train_command(defaults, _named("--algo", arguments) or _ALGORITHM, tiny=tiny),
        "serve-prm": serve_prm,
    }


def _named(flag: str, arguments: Sequence[str]) -> str:
    """What the arguments give for a flag; empty if they do not."""
    for number, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == flag:
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
        games: GamesConfig = defaults.games,
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
            seed: Seed of everything random; stands in place of the seeds of single settings.
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
        games: GamesConfig = defaults.games,
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
            seed: Seed of everything random; stands in place of the seeds of single settings.
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
            seed: Seed of everything random; stands in place of the seeds of single settings.
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
            seed: Seed of everything random; stands in place of the seeds of single settings.
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


def _train_step_labels_command(*, tiny: bool) -> Callable[..., int]:
    # A tiny model starts from scratch, which takes higher rates and more passes (benchmarks/step_labels.py).
    preset = StepLabelsConfig(epochs=8, batch_size=16, learning_rate=5e-3, optimizer="muon")

    def train_step_labels(
        labels: Path,
        run_dir: Path,
        model: Annotated[ModelConfig, arg(name="")] = ModelConfig(model=""),
        steps: StepLabelsConfig = preset if tiny else StepLabelsConfig(),
        form: str | None = None,
        tiny: TinyConfig = TinyConfig(),
        train_share: float = TRAIN_SHARE,
        seed: int = 0,
    ) -> int:
        """Train a model to judge steps, by labels of steps: RUN_DIR/model, RUN_DIR/quality.json.

        Args:
            labels: File of step labels: {"input": ..., "value": [...], "label": ["+", "-", ...]} a line, PRM800K,
                Math-Shepherd, ProcessBench or AgentProcessBench; .gz too.
            run_dir: Folder to write to; one that is done is skipped.
            model: What to start from: tiny, a name on the hub or a folder.
            steps: The training.
            form: Of the file, by default told by its first row: steps, prm800k, math_shepherd, processbench or
                agentprocessbench.
            tiny: Shape of a tiny model.
            train_share: Share of the problems that is trained on; the others judge.
            seed: Seed of everything random; stands in place of the seeds of single settings.
        """
        quiet()
        if not model.model:
            raise UsageError("--model is missing: tiny, or the folder or name of the model that training starts from")
        chosen = replace(model, model=model_folder(model.model))
        if chosen.model != TINY:
            check_model(chosen.model)
        train_on_step_labels(
            run_dir,
            labels,
            chosen,
            replace(steps, seed=seed),
            tiny=replace(tiny, seed=seed),
            form=form,
            train_share=train_share,
            seed=seed,
            say=_say,
        )
        return 0

    return train_step_labels


def eval_steps(
    labels: Path,
    scorer: tuple[str, ...] = tuple(BASELINES),
    form: str | None = None,
    threshold: float = THRESHOLD,
    threshold_from: Path | None = None,
) -> int:
    """Judge scorers of steps by step labels: accuracy and AUC of steps, and ProcessBench's F1 of first errors.

    Args:
        labels: File of step labels, as for train-step-labels.
        scorer: Folders of models, and baselines: correct (every step is right), length (long ones are wrong), random.
        form: Of the file, by default told by its first row.
        threshold: Below it a step counts as wrong.
        threshold_from: File of step labels; each scorer takes the threshold that finds first errors best there.
            ProcessBench's authors take its gsm8k part.
    """
    quiet()
    attempts = read_step_labels(labels, form)
    tuned = [] if threshold_from is None else [a for a in read_step_labels(threshold_from) if a.first_error is not None]
    rows = []
    for name in scorer:
        chosen, found = step_scorer(name), threshold
        if threshold_from is not None:
            found = best_threshold(
                chosen.step_scores(tuned), [a.first_error for a in tuned if a.first_error is not None]
            )
        rows.append((name, evaluate_steps(chosen, attempts, threshold=found)))
    print(evaluation_table(rows))
    return 0


def _train_command(defaults: PipelineConfig, algorithm_name: str, *, tiny: bool) -> Callable[..., int]:
    preset = algorithm(algorithm_name).preset(tiny=tiny)

    def train(
        algo: str,
        run_dir: Path,
        model: Annotated[ModelConfig, arg(name="")] = ModelConfig(model=""),
        reward: tuple[str, ...] = (),
        games: GamesConfig = defaults.games,
        policy: PolicyConfig = defaults.policy,
        train: Any = preset,
        development: DevelopmentConfig = defaults.development,
        trajectories: Path | None = None,
        training_cap: int | None = None,
        tracker: str | None = None,
        seed: int = 0,
    ) -> int:
        """Train a policy by playing: RUN_DIR/model, RUN_DIR/metrics.jsonl, RUN_DIR/report.html.

        --train.* are the settings of the algorithm that --algo names (of grpo if there is none), with defaults that
        follow the size of --model. Several processes train one policy: `accelerate launch --num-processes 2 -m
        agentgym_prm train ...` with a GPU each, `torchrun --nproc-per-node 2 -m agentgym_prm train ...` on a CPU. The
        same command goes on with a run that was stopped.

        Args:
            algo: grpo, mt_grpo, ms_po, gigpo, rloo, ppo or online_dpo.
            run_dir: Folder to write to; one that was started is continued.
            model: Folder or name of what training starts from; the folder of `sft` stands for the model in it.
            reward: What is paid besides the outcome, KIND:ARGUMENT or KIND:ARGUMENT@COEFFICIENT, any number of them:
                prm:FOLDER (a reward model's score less that of the best command), prm-advantage:FOLDER (less the mean),
                prm-score:FOLDER, spa:FOLDER (progress estimator),
                shaping:gcsr, shaping:value:FOLDER, rubric:NAME, judge:openai:MODEL (a chat model; what it may cost is
                not limited). http://HOST:PORT may stand for the FOLDER of a served model (serve-prm).
                SPA-RL is spa:FOLDER rubric:valid_action@0.5.
                online_dpo takes one judge of actions (prm, spa) and no outcome.
            games: Which games are trained on; --env is short for --games.env.
            policy: What the policy is shown, and how it acts.
            train: The training.
            development: Held-out games that judge it meanwhile.
            trajectories: File or folder of logged trajectories to train on instead of games, sampled by the model.
            training_cap: Step cap of the games that are trained on; by default that of the games. A shorter one makes
                an update cheaper: what comes late in an episode is mostly one state again and again.
            tracker: Also log to tensorboard or wandb.
            seed: Seed of everything random; stands in place of the seeds of single settings.
        """
        quiet()
        if not model.model:
            raise UsageError("--model is missing: the folder or name of the policy that training starts from")
        folder = model_folder(model.model)
        check_model(folder)
        if tracker is not None and tracker not in TRACKERS:
            raise UnknownNameError.of("tracker", tracker, TRACKERS)
        rewards = [RewardSpecification.parse(each) for each in reward]
        first = Processes.launched().is_first
        say = _say if first else _silent
        say(f"{algo}: defaults for {_size(folder, tiny=tiny)}")
        train_policy(
            run_dir,
            replace(model, model=folder),
            algo,
            replace(train, seed=seed),
            policy,
            games,
            development=development,
            rewards=rewards,
            trajectories=_trajectories(trajectories) if trajectories else None,
            training_cap=training_cap,
            tracker=tracker,
            say=say,
        )
        if first:
            say(f"report: {write_report(run_dir)}")
        return 0

    # The flags below --train are the fields of this class.
    train.__annotations__["train"] = type(preset)
    return train


def serve_prm(
    folder: Path,
    /,
    host: str = "127.0.0.1",
    port: int = 8008,
    device: str = "auto",
    dtype: str = "auto",
    window: float = 0.005,
    pairs: int = 1024,
) -> int:
    """Serve a reward model or progress estimator to other machines, until Ctrl-C.

    POST /score takes histories and actions; GET /health tells that it runs. --scorer http://HOST:PORT and the reward
    prm:http://HOST:PORT use it. A key is asked for if SCORER_API_KEY is set.

    Args:
        folder: Folder of the model, or of the stage that trained it.
        host: Name or address to listen on: 0.0.0.0 for all networks of this machine.
        port: Where it listens; 0 takes a free one.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32 or bfloat16.
        window: Seconds to wait for further requests, which are then read in one batch.
        pairs: Most actions that are waited for.
    """
    quiet()
    if not 0 <= port < 1 << 16:
        raise UsageError(f"--port must be in [0, 65536), got {port}")
    scorer = _judge_in(folder, device=device, dtype=dtype)
    try:
        server = ScorerServer(scorer, host=host, port=port, window=window, pairs=pairs)
    except OSError as error:
        raise UsageError(f"{host}:{port} cannot be used ({error.strerror}): choose another --port or --host") from error
    with server:
        _say(f"{scorer.name} at {server.address}  (Ctrl-C stops)")
        if server.is_open:
            _say(f"anybody who reaches {host} may ask: set {KEY_VARIABLE} to ask for a key")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            _say("")
    return 0


def _judge_in(folder: Path, **options: str) -> StepScorer:
    """The model in a folder, or in that of the stage that trained it."""
    for place in (folder, folder / "model"):
        if (place / "progress.json").is_file():
            return ProgressEstimator.load(place, **options)
        if (place / "prm.json").is_file():
            model = ProcessRewardModel.load(place, **options)
            if model.settings.judges != "action":
                raise UsageError(f"{folder} is a value model, which judges no actions: it is not served")
            return model
    raise UsageError(f"{folder} holds neither a process reward model nor a progress estimator")


def _size(folder: str, *, tiny: bool) -> str:
    width = model_width(folder)
    if tiny:
        return f"a tiny model ({width} wide, pretrained ones have at least {TINY_WIDTH})"
    return f"a pretrained model, as in the papers{f' ({width} wide)' if width else ''}"


def model_folder(name: str) -> str:
    """The model that a name means: the folder of a run's stage stands for the model in it."""
    inner = Path(name) / "model"
    return str(inner) if (inner / "config.json").is_file() else name


def check_model(name: str) -> None:
    """Refuse a folder that holds no model, and what is written like a path but leads nowhere.

    Raises:
        UsageError: It is such a folder.
        FileNotFoundError: There is no such folder.
    """
    check_folder(name)
    files = ("config.json", "adapter_config.json")
    if Path(name).is_dir() and not any((Path(name) / file).is_file() for file in files):
        raise UsageError(f"{name} holds no model: no config.json in it, nor in {Path(name) / 'model'}")


def model_agent(name: str, policy: PolicyConfig, seed: int) -> LocalAgent:
    """The agent that a model folder or a name on the hub is; the folder of a run's stage stands for the model in it."""
    quiet()
    try:
        return load_policy(ModelConfig(model=model_folder(name)), policy, seed=seed, name=_agent_name(name))
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
    if not Path(name).exists():
        raise UnknownNameError.of("scorer", name, [*SCORERS, "a folder of a reward model"])
    inner = Path(name) / "model"
    folder = inner if any((inner / file).is_file() for file in ("prm.json", SETTINGS_FILE)) else Path(name)
    return TokenLabelScorer.load(folder) if (folder / SETTINGS_FILE).is_file() else ProcessRewardModel.load(folder)


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


def _silent(line: str) -> None:
    """What the other processes of a launcher say."""


def quiet() -> None:
    """Keep the model library's bars and remarks off the terminal: the stages have lines of their own."""
    with needs_extra("train"):
        from transformers.utils import logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
