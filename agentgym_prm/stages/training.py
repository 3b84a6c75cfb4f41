"""The policy, trained by playing: one of the algorithms of ``algos/presets.py`` on games or on logged trajectories.

While it trains, the policy plays held-out development games from time to time. Their true success is recorded beside
what the reward models say of the very same episodes: a policy that has learned to please its reward model, and not to
win, shows as a score that rises while success falls.

Several processes, as ``accelerate launch`` starts them on GPUs and ``torchrun`` anywhere, train one policy together:
``torchrun --nproc-per-node 2 -m agentgym_prm train ...``. The first one plays the development games and writes.
"""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from agentgym_prm.agents.core import Agent
from agentgym_prm.algos.core import Logged, Metrics, Rollouts, Source, TrainerConfig, evaluation_metrics
from agentgym_prm.algos.loop import CHECKPOINT, METRICS
from agentgym_prm.algos.policy import Policy
from agentgym_prm.algos.presets import Algorithm, algorithm
from agentgym_prm.algos.processes import Processes
from agentgym_prm.algos.tracking import open_tracker
from agentgym_prm.errors import UsageError
from agentgym_prm.evaluate import EvalReport, make_envs, summarise
from agentgym_prm.models import ModelConfig, load_model
from agentgym_prm.rewards.core import AdvantageScorer, StepScorer, Weighted
from agentgym_prm.rewards.specification import SCORERS, RewardSpecification, load_terms
from agentgym_prm.rewards.wrappers import VectorStepReward, rewarded
from agentgym_prm.rollout import collect
from agentgym_prm.stages.config import DevelopmentConfig, GamesConfig, PolicyConfig, loading
from agentgym_prm.stages.form import Say, run_stage, write_atomically, write_folder
from agentgym_prm.stages.policy import check_choices, policy_agent, read_episodes
from agentgym_prm.types import Trajectory

_LOG: Final = logging.getLogger(__name__)
_EVAL: Final = "eval/"
_INTERVAL: Final = ("eval/success_low", "eval/success_high")


def train_policy(
    folder: str | Path,
    model: ModelConfig,
    name: str,
    config: TrainerConfig,
    policy: PolicyConfig,
    games: GamesConfig,
    *,
    development: DevelopmentConfig | None = None,
    rewards: Sequence[RewardSpecification] = (),
    trajectories: str | Path | None = None,
    training_cap: int | None = None,
    tracker: str | None = None,
    say: Say = _LOG.info,
) -> dict[str, Any]:
    """Train a policy; its weights are in FOLDER/model, what happened is in FOLDER/metrics.jsonl.

    The first line of the metrics is the policy before training, update 0.

    Args:
        folder: The stage's folder.
        model: What to start from, and the reference that it is kept near to.
        name: The algorithm, one of ``algos.presets.ALGORITHMS``.
        config: Its settings, of the algorithm's class.
        policy: What the policy is shown, and how it acts.
        games: Which games it trains on: all of the training split.
        development: Which held-out games judge it meanwhile.
        rewards: What is paid besides the outcome. Online DPO takes one, which judges actions, and no outcome.
        trajectories: File of logged ones to train on instead of games, sampled by ``model``; rewards are paid anew.
        training_cap: Step cap of the games that are trained on; by default that of ``games``.
        tracker: Also log to ``tensorboard`` or ``wandb``.
        say: Gets one line about the stage.

    Returns and raises as ``run_stage``; ``UsageError`` for rewards that the algorithm cannot use. The results hold the
    success on the development games before and after, and the scores of reward models there.
    """
    folder, development = Path(folder), development or DevelopmentConfig()
    chosen, processes = algorithm(name), Processes.launched()
    _check(name, chosen, config, rewards, development, games, training_cap)
    check_choices(policy, games)
    settings: dict[str, Any] = {"algorithm": name, "model": loading(model), "train": config, "policy": policy}
    settings |= {"games": games, "development": development, "training_cap": training_cap}
    settings["rewards"] = [each.kind if each.folder else str(each) for each in rewards]
    settings["coefficients"] = [each.coef for each in rewards]
    builds_on: dict[str, str | Path] = {"policy": model.model}
    builds_on |= {f"reward {number}": each.folder for number, each in enumerate(rewards, 1) if each.folder}
    builds_on |= {"trajectories": trajectories} if trajectories else {}

    def work() -> dict[str, Any]:
        import torch

        torch.manual_seed(config.seed)  # LoRA adapters draw their start
        loaded = load_model(model)
        agent = policy_agent(*loaded, policy, seed=config.seed, name=name)
        options = {"device": model.device, "dtype": model.dtype, "attention": model.attention}
        scorers = [each.scorer(**options) for each in rewards if each.kind in SCORERS]
        held_out = _Development(games, development, scorers) if development.episodes else None
        trained = Policy(agent, value_head=chosen.values, batch_tokens=config.batch_tokens, precision=config.precision)
        if getattr(config, "kl_coef", 0.0) > 0:
            trained.keep_reference()
        terms = () if chosen.judged else load_terms(rewards, gamma=getattr(config, "gamma", 1.0), **options)
        if held_out is not None and processes.is_first:
            _record_start(folder, lambda: held_out(agent))
        log = open_tracker(tracker, folder, settings) if tracker and processes.is_first else None
        with _source(games, training_cap, config, processes, terms, trajectories) as source:
            _check_groups(name, chosen, source)
            judges = scorers if chosen.judged else ()
            trainer = chosen.trainer(
                trained,
                *judges,
                config,
                source,
                run_dir=folder,
                evaluation=held_out,
                tracker=log,
                processes=processes,
                progress=True,
            )
            try:
                report = trainer.run(resume=True)
            finally:
                if log is not None:
                    log.close()
        if processes.is_first:
            _save(folder / "model", agent.model, loaded.tokenizer)
        return {"updates": report.updates, "env_steps": report.env_steps, **_outcome(folder / METRICS, config)}

    return _together(processes, work, lambda joined: run_stage(folder, settings, joined, builds_on=builds_on, say=say))


def _check(
    name: str,
    chosen: Algorithm,
    config: TrainerConfig,
    rewards: Sequence[RewardSpecification],
    development: DevelopmentConfig,
    games: GamesConfig,
    training_cap: int | None,
) -> None:
    """Let what is wrong show before anything is made."""
    if not isinstance(config, chosen.config):
        raise TypeError(f"{name} takes a {chosen.config.__name__}, got a {type(config).__name__}")
    if chosen.judged and (len(rewards) != 1 or rewards[0].kind not in SCORERS):
        got = ", ".join(map(str, rewards)) or "none"
        raise UsageError(f"{name} learns from one judge of actions ({', '.join(SCORERS)}) as its reward; got {got}")
    if chosen.judged and rewards[0].coef != 1:
        raise UsageError(
            f"{name} compares scores, so the coefficient of {rewards[0]} would change nothing: leave it out"
        )
    if training_cap is not None and training_cap < 1:
        raise UsageError(f"training_cap must be at least 1, got {training_cap}")
    if development.episodes and development.split == games.train_split:
        raise UsageError(
            f"the policy would be judged on the games that it is trained on, both are {games.train_split!r}: choose "
            "another development split"
        )
    games.size(games.train_split)
    if development.episodes:
        games.size(development.split)


def _check_groups(name: str, chosen: Algorithm, source: Source) -> None:
    if isinstance(source, Logged) and source.largest_group == 1 and not (chosen.values or chosen.judged):
        raise UsageError(
            f"there is only one trajectory of each task: {name} compares those of a task with one another, so it would "
            "learn nothing; collect several of each (rollout --repeats 8)"
        )


def _together(
    processes: Processes, work: Callable[[], dict[str, Any]], stage: Callable[[Callable[[], Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Let the first process run a stage, and the others do its work beside it if there is any left to do."""
    if not processes.is_first:
        return work() if processes.gather([])[0] else {}
    joined: list[bool] = []

    def joined_work() -> dict[str, Any]:
        joined.append(True)
        processes.gather(joined)
        return work()

    try:
        return stage(joined_work)
    finally:
        if not joined:
            processes.gather([False])


@contextmanager
def _source(
    games: GamesConfig,
    training_cap: int | None,
    config: TrainerConfig,
    processes: Processes,
    terms: Sequence[Weighted],
    trajectories: str | Path | None,
) -> Any:
    """Where trajectories come from: a file, or games with reward terms around them."""
    if trajectories is not None:
        episodes = read_episodes(trajectories)
        yield Logged(rewarded(episodes, terms) if terms else episodes)
        return
    most = -(-config.tasks // processes.count) * config.group_size
    envs: Any = make_envs(games.env, min(games.num_envs, most), **games.kwargs(games.train_split, training_cap))
    for each in terms:
        envs = VectorStepReward(envs, each.term, each.coef, each.name)
    try:
        source: Source = Rollouts(envs, range(games.size(games.train_split)))
        yield source
    finally:
        envs.close()


class _Development:
    """Plays the development games, and asks the reward models about the episodes."""

    def __init__(self, games: GamesConfig, config: DevelopmentConfig, scorers: Sequence[StepScorer]) -> None:
        self._games, self._config = games, config
        self._seeds = range(min(config.episodes, games.size(config.split)))
        self._scorers = scorers

    def __call__(self, agent: Agent) -> EvalReport:
        envs = make_envs(
            self._games.env,
            min(self._games.num_envs, len(self._seeds)),
            **self._games.kwargs(self._config.split),
        )
        try:
            episodes = collect(agent, envs, self._seeds, progress=False)
        finally:
            envs.close()
        scores: Metrics = {}
        for scorer in self._scorers:
            means = mean_scores(scorer, episodes, self._config.judged_turns)
            # Two reward models may have one name.
            suffix = f"_{1 + sum(name.startswith(scorer.name) for name in scores)}" if scorer.name in scores else ""
            scores |= {name + suffix: value for name, value in means.items()}
        return replace(summarise(agent.name, episodes), scores=scores)


def mean_scores(scorer: StepScorer, episodes: Sequence[Trajectory], turns: int) -> Metrics:
    """What a scorer says of executed actions: mean score, and mean advantage over the other admissible commands.

    Each episode counts the same, however long it is: its share is the mean over at most ``turns`` turns, evenly spaced,
    the first and the last among them. The advantage compares with what else could have been done in the same state, so
    that it does not rise merely because better states are reached.

    Args:
        scorer: Judges the actions.
        episodes: At least one, with at least one turn each.
        turns: Most turns of each that are judged.
    """
    histories, actions, owners = [], [], []
    for number, episode in enumerate(episodes):
        all_histories = list(episode.histories())
        for turn in _spread(len(episode.steps), turns):
            histories.append(all_histories[turn])
            actions.append(episode.steps[turn].action)
            owners.append(number)
    means = {scorer.name: _by_owner(scorer.score(histories, actions), owners)}
    if all(history.admissible_commands for history in histories):
        advantage = AdvantageScorer(scorer)
        means[advantage.name] = _by_owner(advantage.score(histories, actions), owners)
    return means


def _by_owner(scores_N: np.ndarray, owners: Sequence[int]) -> float:
    """The mean over owners of the mean of their scores."""
    totals, counts = np.bincount(owners, scores_N), np.bincount(owners)
    return float((totals / counts).mean())


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers below ``count``, evenly spaced from the first to the last.

    >>> _spread(9, 3), _spread(2, 3)
    ([0, 4, 8], [0, 1])
    """
    return sorted({round(place) for place in np.linspace(0, count - 1, min(most, count))})


def _record_start(folder: Path, evaluate: Callable[[], EvalReport]) -> None:
    """The policy before training as update 0, unless there is a run to go on with."""
    metrics = folder / METRICS
    if not (folder / CHECKPOINT).exists() and not metrics.exists():
        write_atomically(metrics, json.dumps({"update": 0, **evaluation_metrics(evaluate())}) + "\n")


def _outcome(metrics: Path, config: TrainerConfig) -> dict[str, Any]:
    """Development results before training and of the weights that were kept, off the file, which knows them all."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    last = {"last_batch_success": lines[-1].get("rollout/success_rate")}
    judged = [line for line in lines if f"{_EVAL}success_rate" in line]
    if not judged:
        return last
    trained = [line for line in judged if line["update"]] or judged
    kept = max(trained, key=lambda line: line[f"{_EVAL}success_rate"]) if config.keep_best else trained[-1]
    results = {**last, "kept_update": kept["update"]}
    names = [name for name in kept if name.startswith(_EVAL) and name not in _INTERVAL]
    for when, line in (("before", judged[0]), ("after", kept)):
        results |= {f"{name.removeprefix(_EVAL)}_{when}": line[name] for name in names}
    return results


def _save(folder: Path, model: Any, tokenizer: Any) -> None:
    """The policy as a model folder, adapters merged."""
    whole = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model

    def write(path: Path) -> None:
        tokenizer.save_pretrained(path)
        whole.save_pretrained(path)

    write_folder(folder, write)
