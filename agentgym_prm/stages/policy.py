"""The policy: demonstrations, what is learned from them, and rollouts of what was learned."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.agents.scripted import NoisyAgent, RandomAgent
from agentgym_prm.algos.consistency import sampler_trainer_gap
from agentgym_prm.algos.demonstrations import demonstrate
from agentgym_prm.algos.sft import SFTConfig, make_examples, sft
from agentgym_prm.envs import TOY, WEBSHOP, WIKISEARCH
from agentgym_prm.envs.webshop.engine import SEARCH_PATTERN
from agentgym_prm.errors import UsageError
from agentgym_prm.evaluate import make_envs, summarise
from agentgym_prm.models import TINY, ModelConfig, TinyConfig, build_tiny, load_model
from agentgym_prm.rewards.core import StepScorer
from agentgym_prm.rewards.oracle import ToyOracle
from agentgym_prm.rollout import collect, stream
from agentgym_prm.stages.config import (
    DemonstrationsConfig,
    GamesConfig,
    PolicyConfig,
    RolloutConfig,
    loading,
)
from agentgym_prm.stages.form import (
    Say,
    run_stage,
    write_folder,
)
from agentgym_prm.store import read_trajectories
from agentgym_prm.types import Action, History, InfoKey, Trajectory

_LOG: Final = logging.getLogger(__name__)
TRAJECTORIES: Final = "trajectories.jsonl"
_COMPARED: Final = 1000
"""Trajectories whose ids and log-probabilities are compared between sampler and trainer."""


# --- demonstrations ---


def make_demonstrations(
    folder: str | Path,
    config: DemonstrationsConfig,
    games: GamesConfig,
    *,
    seed: int = 0,
    say: Say = _LOG.info,
) -> dict[str, Any]:
    """Let an expert play training games, drawn by the seed, into FOLDER/trajectories.jsonl; see ``run_stage``."""
    path = Path(folder) / TRAJECTORIES

    def work() -> dict[str, Any]:
        seeds = games.training_seeds(seed, 0, config.games)
        for _ in _expert_episodes(seeds, config, games, seed, path):
            pass
        return _episode_results(path)

    return run_stage(folder, {"demonstrations": config, "games": games, "seed": seed}, work, say=say)


def _expert_episodes(
    seeds: Sequence[int], config: DemonstrationsConfig, games: GamesConfig, seed: int, path: Path
) -> Iterator[Trajectory]:
    kwargs = games.kwargs(games.train_split)
    if games.env != TOY:
        yield from demonstrate(
            games.env,
            seeds,
            expert=config.expert,
            noise=config.noise,
            noise_seed=seed,
            num_envs=games.num_envs,
            path=path,
            resume=True,
            progress=True,
            **kwargs,
        )
        return
    expert = NoisyAgent(_Greedy(ToyOracle()), config.noise, seed)
    yield from _episodes(expert, games, seeds, path=path, **kwargs)


class _Greedy(Agent):
    """Gives the admissible command that a scorer likes best."""

    def __init__(self, scorer: StepScorer) -> None:
        self.name, self._scorer = f"greedy({scorer.name})", scorer

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return [[self._best(history)] * n for history in histories]

    def _best(self, history: History) -> Action:
        actions = [Action(command) for command in history.admissible_commands]
        return actions[int(np.argmax(self._scorer.score([history] * len(actions), actions)))]


def _episodes(
    agent: Agent, games: GamesConfig, seeds: Sequence[int], *, path: Path, **kwargs: Any
) -> Iterator[Trajectory]:
    envs = make_envs(games.env, min(games.num_envs, len(seeds)), **kwargs)
    try:
        yield from stream(agent, envs, seeds, path=path, resume=True, progress=True)
    finally:
        envs.close()


def read_episodes(path: str | Path) -> list[Trajectory]:
    """The trajectories of a file by their number: the order in which they ended depends on when a run was killed."""
    return sorted(read_trajectories(path), key=lambda trajectory: trajectory.episode)


def _episode_results(path: Path) -> dict[str, Any]:
    overall = summarise("", read_trajectories(path)).overall
    figures = {"episodes": overall.episodes, "success": overall.success, "mean_steps": overall.mean_steps}
    # Where a game is won or lost, the mean score is the success once more.
    return figures if overall.mean_score == overall.success else {**figures, "mean_score": overall.mean_score}


# --- supervised fine-tuning ---


def train_sft(
    folder: str | Path,
    demonstrations: str | Path,
    model: ModelConfig,
    config: SFTConfig,
    policy: PolicyConfig,
    *,
    tiny: TinyConfig,
    vocabulary: Sequence[str] | Callable[[], Iterable[str]] = (),
    seed: int = 0,
    say: Say = _LOG.info,
) -> dict[str, Any]:
    """Imitate demonstrations; the trained model is in FOLDER/model.

    Args:
        folder: The stage's folder.
        demonstrations: File of trajectories.
        model: What to start from; ``"tiny"`` builds a model in FOLDER/base.
        config: Settings of the training.
        policy: The prompt, and how long it may be.
        tiny: Shape of a tiny model.
        vocabulary: Further texts, or what makes them, that a tiny model's tokenizer is made from; not imitated.
        seed: Of new LoRA adapters.
        say: Gets one line about the stage.

    Returns and raises as ``run_stage``.
    """
    folder = Path(folder)
    settings: dict[str, Any] = {"model": model, "sft": config, "prompt": policy.prompt, "seed": seed}
    settings["max_prompt_tokens"] = policy.max_prompt_tokens
    if model.model == TINY:
        settings["tiny"] = tiny

    def work() -> dict[str, Any]:
        import torch

        prompt, episodes = Prompt.load(policy.prompt), read_episodes(demonstrations)
        name = model.model
        if name == TINY:
            name = str(folder / "base")
            if not Path(name).is_dir():
                texts = [*_texts(episodes, prompt), *(vocabulary() if callable(vocabulary) else vocabulary)]
                write_folder(Path(name), lambda path: build_tiny(path, texts, tiny))
        torch.manual_seed(seed)  # LoRA adapters draw their start
        loaded = load_model(replace(model, model=name))
        encoder = LocalAgent(*loaded, prompt, max_prompt_tokens=policy.max_prompt_tokens).encoder
        examples = make_examples(episodes, encoder)
        pad_id = int(loaded.tokenizer.pad_token_id)
        report = sft(loaded.model, examples, config, pad_id=pad_id, run_dir=folder, resume=True, progress=True)
        # Adapters are merged: a reward model starts from the policy's body and brings adapters of its own.
        whole = loaded.model.merge_and_unload() if hasattr(loaded.model, "merge_and_unload") else loaded.model

        def write(path: Path) -> None:
            loaded.tokenizer.save_pretrained(path)
            whole.save_pretrained(path)

        write_folder(folder / "model", write)
        return {
            "examples": report.examples,
            "steps": report.steps,
            "action_tokens": report.action_tokens,
            "loss": report.loss,
            "parameters": whole.num_parameters(),
        }

    return run_stage(folder, settings, work, builds_on={"demonstrations": demonstrations}, say=say)


def vocabulary_texts(games: GamesConfig, policy: PolicyConfig, seeds: Sequence[int], seed: int) -> list[str]:
    """What prompts and replies of random play look like: words for a tokenizer, no demonstrations."""
    if not seeds:
        return []
    envs = make_envs(games.env, min(games.num_envs, len(seeds)), **games.kwargs(games.train_split))
    try:
        return list(_texts(collect(RandomAgent(seed), envs, seeds), Prompt.load(policy.prompt)))
    finally:
        envs.close()


def _texts(trajectories: Iterable[Trajectory], prompt: Prompt) -> Iterator[str]:
    for trajectory in trajectories:
        # A conversation's last prompt holds all earlier ones.
        first = 0 if prompt.style == "state" else len(trajectory.steps) - 1
        for turn, step in enumerate(trajectory.steps):
            if turn >= first:
                yield from (message.content for message in prompt.messages(trajectory.history(turn)))
            yield prompt.render_reply(step.action)


# --- rollouts ---


def load_policy(
    model: ModelConfig, policy: PolicyConfig, *, seed: int = 0, name: str = "sft", temperature: float | None = None
) -> LocalAgent:
    """The agent that a model folder, or a name on the hub, is."""
    return policy_agent(*load_model(model), policy, seed=seed, name=name, temperature=temperature)


def policy_agent(
    model: Any,
    tokenizer: Any,
    policy: PolicyConfig,
    *,
    seed: int = 0,
    name: str = "sft",
    temperature: float | None = None,
) -> LocalAgent:
    """The agent that a loaded model is; ``temperature`` other than the policy's."""
    return LocalAgent(
        model,
        tokenizer,
        policy.prompt,
        mode=policy.mode,
        temperature=policy.temperature if temperature is None else temperature,
        max_new_tokens=policy.max_new_tokens,
        max_prompt_tokens=policy.max_prompt_tokens,
        seed=seed,
        name=name,
    )


def check_choices(policy: PolicyConfig, games: GamesConfig) -> None:
    """Refuse to choose among commands of which one stands for all searches, or that are not listed.

    Raises:
        UsageError: The policy chooses, and the environment lists searches as a pattern, or nothing.
    """
    if policy.mode != "choose" or games.env not in (WEBSHOP, WIKISEARCH):
        return
    envs = make_envs(games.env, 1, **games.kwargs(games.train_split))
    _, infos = envs.reset(seed=0)
    envs.close()
    if not infos[InfoKey.ADMISSIBLE_COMMANDS][0]:
        raise UsageError(
            "--policy.mode choose takes commands as they are listed, and here none are: add --games.env-args "
            "suggestions=true, or take --policy.mode generate"
        )
    if SEARCH_PATTERN in infos[InfoKey.ADMISSIBLE_COMMANDS][0]:
        raise UsageError(
            f"--policy.mode choose takes commands as they are listed, but {SEARCH_PATTERN!r} stands for all searches: "
            "add --games.env-args searches=suggested, or take --policy.mode generate"
        )


def collect_rollouts(
    folder: str | Path,
    model: ModelConfig,
    config: RolloutConfig,
    policy: PolicyConfig,
    games: GamesConfig,
    *,
    first_game: int = 0,
    seed: int = 0,
    say: Say = _LOG.info,
) -> dict[str, Any]:
    """Let the policy play training games into FOLDER/trajectories.jsonl, and compare sampler and trainer on them.

    Args:
        folder: The stage's folder.
        model: The policy.
        config: How many rollouts.
        policy: How it acts.
        games: Which games.
        first_game: Place of the first one in the random order of the training games.
        seed: Picks games and draws.
        say: Gets one line about the stage.

    Returns and raises as ``run_stage``.
    """
    path = Path(folder) / TRAJECTORIES
    settings = {"model": loading(model), "rollout": config, "policy": policy, "games": games}

    def work() -> dict[str, Any]:
        order = games.training_seeds(seed, first_game, config.games)
        seeds = [game for game in order for _ in range(config.repeats)]
        agent = load_policy(model, policy, seed=seed)
        kwargs = games.kwargs(games.train_split, config.max_episode_steps)
        for _ in _episodes(agent, games, seeds, path=path, **kwargs):
            pass
        compared = [each for each in read_trajectories(path) if each.episode < _COMPARED]
        gap = sampler_trainer_gap(agent.model, agent.encoder, compared)
        return {
            **_episode_results(path),
            "compared": gap.trajectories,
            "identical_ids": gap.identical_ids,
            "max_logprob_gap": gap.max_gap,
            "mean_logprob_gap": gap.mean_gap,
        }

    return run_stage(
        folder,
        {**settings, "first_game": first_game, "seed": seed},
        work,
        builds_on={"policy": model.model},
        say=say,
    )
