"""What a reward model is to learn: Q of commands at states of rollouts."""

import logging
import os
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Final

from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Encoder
from agentgym_prm.agents.scripted import RandomAgent
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.envs.core import CloneableEngine
from agentgym_prm.errors import MissingDependencyError, StoreError, UsageError
from agentgym_prm.models import ModelConfig
from agentgym_prm.rewards.branches_file import BranchRecord, append_branches, read_branches, whole_chunks
from agentgym_prm.rewards.branching import Branch, branch_q
from agentgym_prm.rewards.oracle import EnvReplay, GameReplay
from agentgym_prm.rewards.targets import ActionValues, QTarget, by_history
from agentgym_prm.stages.config import (
    GamesConfig,
    PolicyConfig,
    TargetsConfig,
)
from agentgym_prm.stages.form import (
    DONE,
    Say,
    run_stage,
)
from agentgym_prm.stages.policy import load_policy, read_episodes
from agentgym_prm.types import Action, History

_LOG: Final = logging.getLogger(__name__)
BRANCHES: Final = "branches.jsonl"


@dataclass(frozen=True, slots=True)
class _State:
    """A state to branch from: where it is, and what to try there."""

    source: str
    episode: int
    turn: int
    history: History
    commands: tuple[str, ...]


def make_targets(
    folder: str | Path,
    rollouts: str | Path,
    config: TargetsConfig,
    games: GamesConfig,
    *,
    demonstrations: str | Path | None = None,
    model: ModelConfig | None = None,
    policy: PolicyConfig = PolicyConfig(),
    seed: int = 0,
    say: Say = _LOG.info,
) -> dict[str, Any]:
    """Estimate Q at states of rollouts: FOLDER/branches.jsonl, or FOLDER/steps and FOLDER/q for Monte-Carlo targets.

    Args:
        folder: The stage's folder.
        rollouts: File of trajectories.
        config: What is estimated.
        games: Which games the trajectories are of (their training split), and the cap for continuations.
        demonstrations: File of an expert's trajectories, for ``config.expert_share``.
        model: The policy, if that plays on.
        policy: How it acts.
        seed: Picks states, commands and continuations.
        say: Gets one line about the stage.

    Raises:
        UsageError: Branching without a native engine to branch with, or completer "policy" without a model.

    Returns and raises otherwise as ``run_stage``.
    """
    folder = Path(folder)
    sources = {"rollouts": rollouts}
    # Other settings change nothing in Monte-Carlo targets; workers never do.
    decisive: dict[str, Any] = {"kind": config.kind, "gamma": config.gamma, "signed": config.signed}
    if config.kind == "branching":
        decisive = {name: value for name, value in asdict(config).items() if name != "workers"}
        engine_source(games, games.train_split)
        check_completer(config, games)
        if demonstrations is not None and config.expert_share:
            sources["demonstrations"] = demonstrations
        if config.completer == "policy":
            if model is None:
                raise UsageError("completer policy needs the policy's model")
            sources["policy"] = model.model
            decisive["policy"] = policy

    def work() -> dict[str, Any]:
        if config.kind == "monte_carlo":
            return _monte_carlo(folder, Path(rollouts), config, seed)
        completer = (
            _Encoding(load_policy(model, policy, seed=seed))
            if config.completer == "policy" and model is not None
            else text_completer(config.completer, games, seed)
        )
        expert = sources.get("demonstrations")
        states = _drawn_states(folder, Path(rollouts), Path(expert) if expert else None, config, games.cap, seed)
        return _branch(folder / BRANCHES, states, completer, config, games, seed)

    return run_stage(folder, {"targets": decisive, "games": games, "seed": seed}, work, builds_on=sources, say=say)


def check_completer(config: TargetsConfig, games: GamesConfig) -> None:
    """Refuse an expert where there is none.

    Raises:
        UsageError: No agent plays the environment from its texts alone.
    """
    if config.kind == "branching" and config.completer == "expert" and games.family.make_text_expert is None:
        raise UsageError(f"{games.env} has no expert that reads texts: use --targets.completer policy or random")


def engine_source(games: GamesConfig, split: str) -> Callable[[History], CloneableEngine]:
    """What recovers the native engine from a history.

    Raises:
        UsageError: The environment has none.
    """
    if games.env == ALFWORLD:
        return GameReplay(data=games.data, split=split, difficulty=games.difficulty, put_grammar=games.put_grammar)
    try:
        return EnvReplay(games.env, **games.kwargs(split))
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"{games.env} has no native engine that can be cloned, so commands cannot be tried out: "
            f"use --targets.kind monte_carlo ({error})"
        ) from error


def text_completer(name: str, games: GamesConfig, seed: int = 0) -> Agent:
    """An agent that plays on from the texts alone."""
    make = games.family.make_text_expert
    return make(games.cap) if name == "expert" and make is not None else RandomAgent(seed)


class _Encoding(Agent):
    """A model's agent, shown histories in which it did not act itself: what others did is encoded once."""

    def __init__(self, agent: LocalAgent) -> None:
        self.name, self._agent = agent.name, agent

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return self._agent.sample([encoded_history(each, self._agent.encoder) for each in histories], n)


def encoded_history(history: History, encoder: Encoder) -> History:
    """The history with token ids for replies that have none, as a conversation shows them."""
    if encoder.prompt.style == "state":
        return history
    steps = tuple(
        step if step.action.token_ids else replace(step, action=encoder.with_token_ids(step.action))
        for step in history.steps
    )
    return replace(history, steps=steps)


def _drawn_states(
    folder: Path, rollouts: Path, demonstrations: Path | None, config: TargetsConfig, cap: int, seed: int
) -> list[_State]:
    states = list(_states_of(rollouts, folder, config, cap, seed))
    if demonstrations is None:
        return states
    wanted = round(len(states) * config.expert_share / (1 - config.expert_share))
    return states + list(islice(_states_of(demonstrations, folder, config, cap, seed), wanted))


def _states_of(path: Path, folder: Path, config: TargetsConfig, cap: int, seed: int) -> Iterator[_State]:
    source = os.path.relpath(path, folder)
    for trajectory in read_episodes(path):
        rng = random.Random(f"{seed}/{path.parent.name}/{trajectory.episode}")
        turns = range(min(len(trajectory.steps), cap))
        for turn in sorted(rng.sample(turns, min(config.states_per_episode, len(turns)))):
            history = trajectory.history(turn)
            taken = trajectory.steps[turn].action.command
            commands = _tried(history.admissible_commands, taken, config.max_commands, rng)
            if len(commands) > 1:
                yield _State(source, trajectory.episode, turn, history, commands)


def _tried(admissible: tuple[str, ...], taken: str, most: int | None, rng: random.Random) -> tuple[str, ...]:
    if most is None or len(admissible) <= most:
        return admissible
    others = [command for command in admissible if command != taken]
    kept = set(rng.sample(others, most - (taken in admissible))) | {taken}
    return tuple(command for command in admissible if command in kept)


def _branch(
    path: Path, states: Sequence[_State], completer: Agent, config: TargetsConfig, games: GamesConfig, seed: int
) -> dict[str, Any]:
    from tqdm import tqdm

    if not states:
        raise UsageError("no state of these rollouts has two commands to compare: there is nothing to estimate")
    done = whole_chunks(path, config.chunk)
    chunks = (states[start : start + config.chunk] for start in range(done, len(states), config.chunk))
    workers = 1 if config.completer == "policy" else config.workers  # a model stays in this process
    estimated = _estimated(chunks, _Estimator(completer, config, games, seed), workers)
    with tqdm(total=len(states), initial=done, unit="state", desc="targets", disable=None) as bar:
        for records in estimated:
            append_branches(path, records)
            bar.update(len(records))
    values = [group.values for group in read_branches(path)]
    everything = [value for each in values for value in each]
    return {
        "states": len(values),
        "commands": len(everything),
        "mean_value": sum(everything) / len(everything),
        "states_that_differ": sum(max(each) > min(each) for each in values),
    }


class _Estimator:
    """Estimates chunks of states; can be sent to another process unless the completer holds a model."""

    def __init__(self, completer: Agent, config: TargetsConfig, games: GamesConfig, seed: int) -> None:
        self._completer, self._config, self._games, self._seed = completer, config, games, seed

    def __call__(self, states: Sequence[_State]) -> list[BranchRecord]:
        config = self._config
        engine_at = engine_source(self._games, self._games.train_split)
        estimates = branch_q(
            [Branch(state.history, engine_at(state.history), state.commands) for state in states],
            self._completer,
            n=config.n,
            max_episode_steps=self._games.cap,
            gamma=config.gamma,
            signed=config.signed,
            seed=self._seed,
        )
        return [
            BranchRecord(state.source, state.episode, state.turn, state.commands, tuple(each.q_N.tolist()), config.n)
            for state, each in zip(states, estimates, strict=True)
        ]


def _estimated(chunks: Iterator[Sequence[_State]], estimate: _Estimator, workers: int) -> Iterator[list[BranchRecord]]:
    """The estimates of each chunk, in order."""
    if workers == 1:
        yield from map(estimate, chunks)
        return
    # Spawned, because threads of a numerical library do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        waiting: deque[Future[list[BranchRecord]]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(estimate, chunk))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def end_with_parent() -> None:
    """Let a worker end when its parent was killed: it would wait for work forever."""
    parent = parent_process()
    assert parent is not None, "runs in a worker"

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _monte_carlo(folder: Path, rollouts: Path, config: TargetsConfig, seed: int) -> dict[str, Any]:
    from agentgym_prm.rewards.dataset import StepTable, write_q_targets, write_steps

    try:
        steps = StepTable(folder / "steps")
    except StoreError:
        steps = write_steps(read_episodes(rollouts), folder / "steps", gamma=config.gamma)
    targets = write_q_targets(steps, folder / "q", signed=config.signed, seed=seed).collect()
    groups = targets.group_by("split", "history").len()
    return {
        "states": groups.height,
        "commands": targets.height,
        "mean_value": sum(targets["q"]) / targets.height,
        "states_that_differ": int((groups["len"] > 1).sum()),
    }


def read_targets(folder: str | Path) -> list[ActionValues]:
    """The groups that ``make_targets`` wrote.

    Raises:
        StoreError: The folder holds no finished targets.
    """
    folder = Path(folder)
    if not (folder / DONE).is_file():
        raise StoreError(f"{folder} holds no finished targets: there is no {folder / DONE}")
    if (folder / BRANCHES).is_file():
        return list(read_branches(folder / BRANCHES))
    return _read_monte_carlo(folder)


def _read_monte_carlo(folder: Path) -> list[ActionValues]:
    from agentgym_prm.rewards.dataset import StepTable

    try:
        import polars as pl
    except ImportError as error:
        raise MissingDependencyError("Polars is not installed: pip install 'agentgym_prm[data]'") from error
    rows = pl.scan_parquet(sorted((folder / "q").glob("q-*.parquet"))).sort("position").collect()
    visits = StepTable(folder / "steps").visits(rows["position"].to_list())
    sides: dict[str, list[QTarget]] = {"train": [], "held_out": []}
    for (history, action), row in zip(visits, rows.iter_rows(named=True), strict=True):
        sides[row["split"]].append(QTarget(history, action, row["q"], row["visits"]))
    # A history that tasks of both sides share has values of its own on each.
    return [group for targets in sides.values() for group in by_history(targets)]
