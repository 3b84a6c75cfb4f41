"""Scorers that know the game's state: ceilings for Best-of-N and yardsticks for learned scorers, never baselines.

A text history determines the state: its commands are given again to a fresh engine of the same game. ``EnvReplay``
does that for every environment with a native engine, ``GameReplay`` for ALFWorld in less time (it makes no ``info``),
``toy_engine`` for the toy environment; each can be the ``engine_at`` of the scorers below.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from agentgym_prm.agents.core import Agent
from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.files import open_games
from agentgym_prm.envs.alfworld.planner import plan
from agentgym_prm.envs.core import CloneableEngine
from agentgym_prm.envs.toy import QTable, ToyState, optimal_q, toy_engine, toy_task_index
from agentgym_prm.rewards.branching import Branch, branch_q
from agentgym_prm.rewards.targets import GAMMA
from agentgym_prm.types import Action, History

_E = TypeVar("_E")
_C = TypeVar("_C", bound=CloneableEngine)


class EnvReplay:
    """The native engine of an environment in the state that a history led to.

    Args:
        env_id: A registered text environment whose unwrapped form has an ``engine`` that can be cloned.
        **kwargs: Arguments of the environment, e.g. ``split="train"``.

    Raises:
        ValueError: It has no such engine.
    """

    def __init__(self, env_id: str, **kwargs: Any) -> None:
        self._env: Any = gym.make(env_id, **kwargs).unwrapped
        if not hasattr(getattr(self._env, "engine", None), "clone"):
            raise ValueError(f"{env_id} has no native engine that can be cloned")

    def __call__(self, history: History) -> CloneableEngine:
        """Give the history's commands to a fresh engine of its task.

        Raises:
            UnknownNameError: There is no task of this ``task_id``.
            ValueError: The environment answers otherwise than the history says.
        """
        observation, _ = self._env.reset(seed=history.seed, options={"task": history.task_id})
        for command in history.commands:
            observation = self._env.step(command)[0]
        _check_replayed(history, observation)
        engine: CloneableEngine = self._env.engine.clone()
        return engine


class GameReplay:
    """The native ALFWorld engine in the state that a history led to.

    Args:
        data: As for the environment, ``"builtin"``, ``"official"`` or a path.
        split: As for the environment.
        difficulty: As for the environment; builtin games only.
        put_grammar: As for the environment.
    """

    def __init__(
        self, *, data: str = "builtin", split: str = "train", difficulty: str = "full", put_grammar: str | None = None
    ) -> None:
        self._games = open_games(data, split, difficulty)
        self._put_grammar = put_grammar

    def __call__(self, history: History) -> Engine:
        """Give the history's commands to a fresh engine of its game.

        Raises:
            UnknownNameError: The split has no game of this ``task_id``.
            ValueError: The game answers otherwise than the history says.
        """
        engine = Engine(self._put_grammar)
        observation = engine.reset(self._games.game(self._games.index(history.task_id)))
        for command in history.commands:
            observation = engine.step(command)
        _check_replayed(history, observation)
        return engine


def _check_replayed(history: History, observation: str) -> None:
    if observation != history.observation:
        raise ValueError(
            f"replaying {history.task_id!r} ends with {observation!r:.80}, but the history with "
            f"{history.observation!r:.80}: it comes from another game or another version of it"
        )


class ToyOracle:
    """Exact Q of the toy environment.

    Args:
        table: Gives the values of a task; by default those of best play without a cap, at ``GAMMA``.
            With a horizon, the steps left are read off the history.
    """

    def __init__(self, table: Callable[[int], QTable] | None = None) -> None:
        self.name = "exact_q"
        self._table = table or (lambda task_index: optimal_q(task_index, GAMMA))
        self._tables: dict[int, QTable] = {}

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        engines, pairs = _engines(toy_engine, histories), zip(histories, actions, strict=True)
        return np.array([self._q(h, engines[id(h)].state, a.command) for h, a in pairs], dtype=np.float64)

    def _q(self, history: History, state: ToyState, command: str) -> float:
        index = toy_task_index(history.task_id)
        if index not in self._tables:
            self._tables[index] = self._table(index)
        table = self._tables[index]
        steps_left = None if table.horizon is None else table.horizon - len(history.steps)
        return table.q(state, command, steps_left)


class PlannerScorer:
    """Minus the length of a shortest plan after the action, and ``-unsolvable`` where there is none; ALFWorld only."""

    def __init__(self, engine_at: Callable[[History], Engine], *, unsolvable: float = 1000.0) -> None:
        self.name = "planner"
        self._engine_at = engine_at
        self._unsolvable = unsolvable

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        engines = _engines(self._engine_at, histories)
        scores = np.empty(len(histories))
        for number, (history, action) in enumerate(zip(histories, actions, strict=True)):
            engine = engines[id(history)].clone()
            engine.step(action.command)
            commands = plan(engine)
            scores[number] = -self._unsolvable if commands is None else -len(commands)
        return scores


class BranchingScorer:
    """Q under an agent's play, estimated by ``n`` continuations of each action (see ``branching.py``).

    Args:
        engine_at: The engine in the state of a history.
        agent: Plays on.
        n: Continuations of each action.
        max_episode_steps: The environment's cap.
        **settings: Further arguments of ``branch_q``: ``gamma``, ``signed``, ``seed``, ``batch_size``.
    """

    def __init__(
        self,
        engine_at: Callable[[History], CloneableEngine],
        agent: Agent,
        *,
        n: int,
        max_episode_steps: int,
        **settings: Any,
    ) -> None:
        self.name = f"branching_{agent.name}"
        self._engine_at = engine_at
        self._agent = agent
        self._settings = {"n": n, "max_episode_steps": max_episode_steps, **settings}

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        engines = _engines(self._engine_at, histories)
        branches = [
            Branch(history, engines[id(history)], (action.command,))
            for history, action in zip(histories, actions, strict=True)
        ]
        estimates = branch_q(branches, self._agent, **self._settings)
        return np.array([float(estimate.q_N[0]) for estimate in estimates], dtype=np.float64)


class Chooser(Protocol):
    """Says what to do next in the state of an engine."""

    def choose(self) -> str:
        """A command; ``""`` where there is none."""


class ExpertScorer(Generic[_C]):
    """Q of an expert that knows the full state: the discounted outcome when it plays on after the action.

    Args:
        engine_at: The engine in the state of a history.
        make_expert: The expert that plays on an engine.
        max_episode_steps: The environment's cap; what it ends has outcome 0.
        gamma: Discount per step, counted from the action, so that the shorter way is the better one.
    """

    def __init__(
        self,
        engine_at: Callable[[History], _C],
        make_expert: Callable[[_C], Chooser],
        *,
        max_episode_steps: int,
        gamma: float = GAMMA,
    ) -> None:
        self.name = "expert"
        self._engine_at, self._make_expert = engine_at, make_expert
        self._cap, self._gamma = max_episode_steps, gamma

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        engines = _engines(self._engine_at, histories)
        scores = np.empty(len(histories))
        for number, (history, action) in enumerate(zip(histories, actions, strict=True)):
            engine = engines[id(history)].clone()
            left = self._cap - len(history.steps)
            scores[number] = self._return(engine, action.command, left)
        return scores

    def _return(self, engine: _C, command: str, left: int) -> float:
        expert = self._make_expert(engine)
        for turn in range(left):
            engine.step(command)
            if engine.done:
                return self._gamma**turn * engine.outcome
            command = expert.choose()
        return 0.0


def _engines(engine_at: Callable[[History], _E], histories: Sequence[History]) -> dict[int, _E]:
    """One replay for each history object: Best-of-N asks for several actions of the same."""
    return {key: engine_at(history) for key, history in {id(history): history for history in histories}.items()}
