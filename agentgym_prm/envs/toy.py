"""A household game small enough to be solved exactly: the yardstick for targets, scorers and algorithms.

Four rooms around a hall, two objects, a chest that may be shut, a pond. A task asks to bring one of the objects to a
room; the hand holds one object; what is thrown into the pond is gone for good, and with it perhaps the game, which goes
on all the same until the cap. Looking around, carrying the wrong object and walking in circles waste steps. Reward: 1.0
on the step that reaches the goal, else 0.0.

The text does not show the state (where the objects are has to be found out), but task and commands together determine
it: ``toy_engine`` recovers it from a ``History``. Every reachable state of a task is in its ``ToyModel``; from that,
``optimal_q`` and ``policy_q`` are exact, by backward induction over the steps left or, without a horizon, as fixpoint.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.envs.core import Outcome, TextEnv, TextVectorEnv
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.types import History, InfoKey

NOTHING_HAPPENS: Final = "Nothing happens."
START: Final = "hall"
CHEST: Final = "chest"
HAND: Final = "hand"
POND: Final = "pond"
_CHEST_ROOM, _POND_ROOM = "bedroom", "garden"
_EXITS: Final = {
    "bedroom": (START,),
    "garden": (START,),
    START: ("bedroom", "garden", "kitchen"),
    "kitchen": (START,),
}


@dataclass(frozen=True, slots=True)
class ToyTask:
    """Bring ``target`` to ``destination``; ``places`` says where the target and the other object start."""

    target: str
    other: str
    places: tuple[str, str]
    destination: str

    @property
    def text(self) -> str:
        """The instruction; no two tasks share it."""
        return f"bring the {self.target} to the {self.destination}."

    @property
    def task_type(self) -> str:
        """``unpack`` if the target starts in the chest, else ``fetch``."""
        return "unpack" if self.places[0] == CHEST else "fetch"


TOY_TASKS: Final = (
    ToyTask("apple", "book", ("kitchen", "hall"), "bedroom"),
    ToyTask("book", "cup", (CHEST, "garden"), "kitchen"),
    ToyTask("cup", "apple", ("garden", "kitchen"), "hall"),
    ToyTask("apple", "cup", (CHEST, "bedroom"), "garden"),
    ToyTask("book", "apple", ("hall", "hall"), "garden"),
    ToyTask("cup", "book", ("kitchen", CHEST), "bedroom"),
)
TOY_TASK_IDS: Final = tuple(f"toy/{i}-{task.target}-{task.destination}" for i, task in enumerate(TOY_TASKS))


class ToyState(NamedTuple):
    """All that matters for what happens next; ``places`` are those of the task's target and other object."""

    task_index: int
    room: str
    places: tuple[str, str]
    open: bool

    @property
    def won(self) -> bool:
        """Whether the target lies in the room where it belongs."""
        return self.places[0] == TOY_TASKS[self.task_index].destination

    @property
    def lost(self) -> bool:
        """Whether the target is gone, so that nothing can win any more."""
        return self.places[0] == POND


class ToyEngine:
    """One toy game in progress; the interface of the other native engines."""

    __slots__ = ("state", "valid")

    def __init__(self, state: ToyState | None = None) -> None:
        """``state`` continues a game from there."""
        if state is not None:
            self.state = state
        self.valid = True

    def reset(self, task_index: int) -> str:
        """Start a task and return the opening text."""
        self.state = ToyState(task_index, START, TOY_TASKS[task_index].places, open=False)
        self.valid = True
        return f"{self._look()} Your task is to: {TOY_TASKS[task_index].text}"

    def step(self, command: str) -> str:
        """Execute ``command`` and return the feedback; anything not executable changes nothing."""
        command = command.strip()
        self.valid = command in self.admissible_commands()
        if not self.valid:
            return NOTHING_HAPPENS
        if command == "look":
            return self._look()
        verb, _, rest = command.partition(" ")
        if verb == "go":
            self.state = self.state._replace(room=rest.removeprefix("to "))
            return self._look()
        if verb in ("open", "close"):
            self.state = self.state._replace(open=verb == "open")
            return f"You {verb} the chest. {self._look()}"
        thing = rest.removesuffix(" into the pond")
        place = {"take": HAND, "drop": self.state.room, "throw": POND}[verb]
        target, other = self.state.places
        is_target = thing == TOY_TASKS[self.state.task_index].target
        self.state = self.state._replace(places=(place, other) if is_target else (target, place))
        return f"You {command}."

    def clone(self) -> "ToyEngine":
        """An independent copy that goes on from the present state."""
        copy = ToyEngine(self.state)
        copy.valid = self.valid
        return copy

    @property
    def won(self) -> bool:
        """Whether the goal holds."""
        return self.state.won

    @property
    def done(self) -> bool:
        """Whether the task ended: only winning does that."""
        return self.won

    @property
    def outcome(self) -> float:
        """1.0 if the goal holds, else 0.0."""
        return float(self.won)

    def admissible_commands(self) -> tuple[str, ...]:
        """Every command that would be executed now, sorted."""
        return _admissible(self.state)

    def _look(self) -> str:
        state = self.state
        seen = [f"{_a(name)}" for name in _names_at(state, state.room)]
        if state.room == _CHEST_ROOM:
            inside = " and ".join(_a(name) for name in _names_at(state, CHEST)) or "nothing"
            seen.append(f"an open chest with {inside} in it" if state.open else "a closed chest")
        if state.room == _POND_ROOM:
            seen.append("a pond")
        return f"You are in the {state.room}. You see {', '.join(seen) or 'nothing'}."


def _a(name: str) -> str:
    return f"an {name}" if name[0] == "a" else f"a {name}"


def _names_at(state: ToyState, place: str) -> list[str]:
    task = TOY_TASKS[state.task_index]
    return sorted(name for name, where in zip((task.target, task.other), state.places, strict=True) if where == place)


@cache
def _admissible(state: ToyState) -> tuple[str, ...]:
    commands = ["look", *(f"go to {room}" for room in _EXITS[state.room])]
    if state.room == _CHEST_ROOM:
        commands.append("close chest" if state.open else "open chest")
    if held := _names_at(state, HAND):
        commands.append(f"drop {held[0]}")
        if state.room == _POND_ROOM:
            commands.append(f"throw {held[0]} into the pond")
    else:
        reachable = _names_at(state, state.room)
        if state.room == _CHEST_ROOM and state.open:
            reachable += _names_at(state, CHEST)
        commands += [f"take {name}" for name in reachable]
    return tuple(sorted(commands))


class ToyEnv(TextEnv):
    """Six small household tasks whose exact Q-values are known.

    Args:
        render_mode: ``"ansi"`` lets ``render`` return the last observation.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.engine = ToyEngine()

    @property
    def num_tasks(self) -> int:
        return len(TOY_TASKS)

    def task_index(self, task_id: str) -> int:
        return toy_task_index(task_id)

    def _begin(self, task_index: int) -> Outcome:
        return Outcome(self.engine.reset(task_index), info=self._info())

    def _advance(self, command: str) -> Outcome:
        observation = self.engine.step(command)
        won = self.engine.won
        return Outcome(observation, 1.0 if won else 0.0, won, self._info())

    def _info(self) -> dict[str, Any]:
        engine, index = self.engine, self.engine.state.task_index
        share = 1.0 if engine.won else 0.0
        return {
            InfoKey.TASK: TOY_TASKS[index].text,
            InfoKey.TASK_ID: TOY_TASK_IDS[index],
            InfoKey.TASK_TYPE: TOY_TASKS[index].task_type,
            InfoKey.ADMISSIBLE_COMMANDS: engine.admissible_commands(),
            InfoKey.WON: engine.won,
            InfoKey.SCORE: share,
            InfoKey.GOAL_CONDITION_SUCCESS_RATE: share,
            InfoKey.VALID_ACTION: engine.valid,
        }


def make_vector_env(num_envs: int = 1, max_episode_steps: int | None = None, **kwargs: Any) -> TextVectorEnv:
    """Entry point of ``gym.make_vec``: ``num_envs`` environments stepped together in this process."""
    return TextVectorEnv(partial(ToyEnv, **kwargs), num_envs, max_episode_steps=max_episode_steps)


def toy_task_index(task_id: str) -> int:
    """The index of the task with this id; ``UnknownNameError`` if there is none."""
    if task_id not in TOY_TASK_IDS:
        raise UnknownNameError.of("task id", task_id, TOY_TASK_IDS)
    return TOY_TASK_IDS.index(task_id)


def toy_engine(history: History) -> ToyEngine:
    """The game in the state that ``history`` led to."""
    engine = ToyEngine()
    engine.reset(toy_task_index(history.task_id))
    for command in history.commands:
        engine.step(command)
    return engine


# --- exact solutions ---


@dataclass(frozen=True, eq=False, slots=True)
class ToyModel:
    """Every state of a task that can be reached before it is won, and where each admissible command leads.

    Pairs ``P`` of state and admissible command are numbered state by state: those of state ``s`` are
    ``offsets[s] … offsets[s + 1] - 1``, in the order of its commands. ``next_P`` numbers the next state, with
    ``len(states)`` for won.
    """

    states: tuple[ToyState, ...]
    commands: tuple[tuple[str, ...], ...]
    offsets: NDArray[np.intp]
    next_P: NDArray[np.intp]
    index: dict[ToyState, int]

    @property
    def wins_P(self) -> NDArray[np.float64]:
        """1.0 where the pair wins, which is also its reward."""
        return np.where(self.next_P == len(self.states), 1.0, 0.0)


@cache
def toy_model(task_index: int) -> ToyModel:
    """Explore a task breadth first."""
    engine = ToyEngine()
    engine.reset(task_index)
    index = {engine.state: 0}
    states, commands, successors = [engine.state], [], []
    for state in states:
        commands.append(_admissible(state))
        for command in commands[-1]:
            engine = ToyEngine(state)
            engine.step(command)
            if not engine.won and engine.state not in index:
                index[engine.state] = len(states)
                states.append(engine.state)
            successors.append(engine.state)
    return ToyModel(
        states=tuple(states),
        commands=tuple(commands),
        offsets=np.cumsum([0, *map(len, commands)]),
        next_P=np.array([index.get(state, len(states)) for state in successors]),
        index=index,
    )


@dataclass(frozen=True, eq=False, slots=True)
class QTable:
    """Exact values of one task under one way of acting.

    With a horizon, row ``l - 1`` of ``q_L_P`` holds the values with ``l`` steps left; without one there is one row.
    """

    model: ToyModel
    gamma: float
    failure_reward: float
    horizon: int | None
    q_L_P: NDArray[np.float64]
    v_L_S: NDArray[np.float64]

    def q(self, state: ToyState, command: str, steps_left: int | None = None) -> float:
        """Expected return of giving ``command`` in ``state``, which is not won; any string is a command.

        Args:
            state: A state of this task.
            command: An admissible command, or one that changes nothing.
            steps_left: Steps that may still be taken, this one included; only with a horizon, and by default all of it.
        """
        number, row = self.model.index[state], self._row(steps_left)
        commands = self.model.commands[number]
        if command.strip() in commands:
            return float(self.q_L_P[row, self.model.offsets[number] + commands.index(command.strip())])
        if self.horizon is None:
            return float(self.gamma * self.v_L_S[0, number])
        return self.failure_reward if row == 0 else float(self.gamma * self.v_L_S[row - 1, number])

    def v(self, state: ToyState, steps_left: int | None = None) -> float:
        """Expected return from ``state`` on, which is not won."""
        return float(self.v_L_S[self._row(steps_left), self.model.index[state]])

    def _row(self, steps_left: int | None) -> int:
        if self.horizon is None:
            if steps_left is not None:
                raise ValueError("steps_left has no meaning in a table without a horizon")
            return 0
        left = self.horizon if steps_left is None else steps_left
        if not 1 <= left <= self.horizon:
            raise ValueError(f"steps_left must be in [1, {self.horizon}], got {left}")
        return left - 1


Policy = Callable[[ToyState, tuple[str, ...]], Sequence[float]]
"""Probabilities of a state's admissible commands, in their order."""


def uniform(state: ToyState, commands: tuple[str, ...]) -> Sequence[float]:
    """The policy that draws among the admissible commands, as ``RandomAgent`` does."""
    return [1 / len(commands)] * len(commands)


def optimal_q(task_index: int, gamma: float, horizon: int | None = None, *, failure_reward: float = 0.0) -> QTable:
    """Values under the best play; arguments and errors as for ``policy_q``."""
    model = toy_model(task_index)

    def best(q_P: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum.reduceat(q_P, model.offsets[:-1])

    if horizon is None:
        _check(gamma, None, failure_reward)
        # Moves are deterministic and the reward comes last, so a fixpoint is reached after the longest shortest way.
        v_S = np.zeros(len(model.states))
        while True:
            q_P = model.wins_P + gamma * np.append(v_S, 0.0)[model.next_P]
            if np.array_equal(best(q_P), v_S):
                return QTable(model, gamma, 0.0, None, q_P[None], v_S[None])
            v_S = best(q_P)
    return _backward(model, best, gamma, horizon, failure_reward)


def policy_q(
    task_index: int, policy: Policy, gamma: float, horizon: int | None = None, *, failure_reward: float = 0.0
) -> QTable:
    """Values of a stationary policy.

    Args:
        task_index: Which task.
        policy: Probabilities over the admissible commands of each state.
        gamma: Discount per step, in ``[0, 1]``; below 1 without a horizon.
        horizon: Steps after which an episode is cut off; ``None`` for never.
        failure_reward: Paid with the last step of the horizon unless that step wins: -1 gives the values of outcomes
            that are mapped to [-1, 1]. Needs a horizon.

    Returns:
        Exact values, in units of the outcome: with ``gamma = 1`` and a horizon the probability of winning in time.

    Raises:
        ValueError: ``gamma`` out of range, or the policy's numbers are no probabilities.
    """
    model = toy_model(task_index)
    weights = []
    for state, commands in zip(model.states, model.commands, strict=True):
        row = np.asarray(policy(state, commands), dtype=np.float64)
        if row.shape != (len(commands),) or row.min() < 0 or abs(row.sum() - 1) > 1e-9:
            raise ValueError(f"a policy gives one probability for each of {commands}, got {row!r}")
        weights.append(row)
    weights_P = np.concatenate(weights)

    def mean(q_P: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.add.reduceat(weights_P * q_P, model.offsets[:-1])

    if horizon is not None:
        return _backward(model, mean, gamma, horizon, failure_reward)
    _check(gamma, None, failure_reward)
    if gamma == 1:
        raise ValueError("gamma must be below 1 without a horizon, got 1: lost states are never left")
    count = len(model.states)
    transitions_S_S = np.zeros((count, count + 1))
    np.add.at(transitions_S_S, (np.repeat(np.arange(count), np.diff(model.offsets)), model.next_P), weights_P)
    system_S_S = np.eye(count) - gamma * transitions_S_S[:, :count]
    v_S = np.linalg.solve(system_S_S, transitions_S_S[:, count]).astype(np.float64)
    q_P = model.wins_P + gamma * np.append(v_S, 0.0)[model.next_P]
    return QTable(model, gamma, 0.0, None, q_P[None], v_S[None])


def _backward(
    model: ToyModel,
    backup: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    gamma: float,
    horizon: int,
    failure_reward: float,
) -> QTable:
    _check(gamma, horizon, failure_reward)
    q_L_P = np.empty((horizon, len(model.next_P)))
    v_L_S = np.empty((horizon, len(model.states)))
    wins_P = model.wins_P
    q_L_P[0] = wins_P + failure_reward * (1 - wins_P)
    v_L_S[0] = backup(q_L_P[0])
    for row in range(1, horizon):
        q_L_P[row] = wins_P + gamma * np.append(v_L_S[row - 1], 0.0)[model.next_P]
        v_L_S[row] = backup(q_L_P[row])
    return QTable(model, gamma, failure_reward, horizon, q_L_P, v_L_S)


def _check(gamma: float, horizon: int | None, failure_reward: float) -> None:
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}")
    if horizon is not None and horizon < 1:
        raise ValueError(f"horizon must be at least 1, got {horizon}")
    if horizon is None and failure_reward:
        raise ValueError("failure_reward needs a horizon: without one no episode fails")
