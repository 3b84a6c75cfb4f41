"""Potential-based shaping: ``F = gamma * Phi(after) - Phi(before)`` at every step.

Over an episode of ``T`` steps the discounted sum of ``F`` is ``gamma**T * Phi(h_T) - Phi(h_0)``, whatever happened in
between. With Phi of a terminated state 0 the return of every way of acting from a state changes by the same number, so
no optimal policy changes (A. Y. Ng, D. Harada, S. Russell, ICML 1999). That holds for the discount of the shaping only:
``gamma`` has to be the learner's.

Phi of a *truncated* state is kept: the task was not over, and Phi stands for what would have followed. A learner that
takes a truncated episode's return as it is, without a value of the state it was cut off in, is thereby paid for ending
where Phi is high; one that calls running out of steps a failure of the task itself is not served by the theorem.

A potential is one of the *history*, which determines the state, so the theorem covers potentials that remember.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.rewards.core import Transition, distinct
from agentgym_prm.rewards.targets import check_gamma
from agentgym_prm.types import History, InfoKey


class Potential(Protocol):
    """How promising a history is. A history's potential does not depend on the others of the batch."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    def potential(self, histories: Sequence[History]) -> NDArray[np.float64]:
        """Phi of each history, shape ``(N,)``, finite, in units of the outcome."""


class ValueModel(Protocol):
    """What judges histories without an action: ``ProcessRewardModel`` with ``judges="history"``."""

    @property
    def name(self) -> str:
        """What the model is called in tables."""

    def values(self, histories: Sequence[History]) -> NDArray[np.float64]:
        """V of each history, shape ``(N,)``."""


class Shaping:
    """The reward term ``gamma * Phi(after) - Phi(before)``.

    A history is asked about once: what ``after`` was worth in one call is its worth as ``history`` in the next, while
    it is the same object, as it is in a reward wrapper. So the sum telescopes to the last model update, too, if the
    potential is learned meanwhile (S. Devlin, D. Kudenko, AAMAS 2012).

    Args:
        potential: Asked about states that are not terminated.
        gamma: The learner's discount per step, in ``[0, 1]``. 1 is the default of the policy-gradient trainers here,
            whose objective is the success within the cap.

    Raises:
        ValueError: ``gamma`` outside ``[0, 1]``.
    """

    def __init__(self, potential: Potential, gamma: float = 1.0) -> None:
        check_gamma(gamma)
        self.name = f"shaping_{potential.name}"
        self._potential = potential
        self._gamma = gamma
        self._known: dict[int, tuple[History, float]] = {}

    def rewards(self, transitions: Sequence[Transition]) -> NDArray[np.float64]:
        left = [each.after for each in transitions if not each.step.terminated]
        known = self._potentials([*(each.history for each in transitions), *left])
        self._known = {id(history): (history, known[id(history)]) for history in left}
        return np.array(
            [
                self._gamma * (0.0 if each.step.terminated else known[id(each.after)]) - known[id(each.history)]
                for each in transitions
            ],
            dtype=np.float64,
        )

    def _potentials(self, histories: Sequence[History]) -> dict[int, float]:
        """By the object: those of the last call are known, the others are asked about together."""
        known = {id(history): self._known[id(history)][1] for history in histories if id(history) in self._known}
        asked = [history for history in distinct(histories) if id(history) not in known]
        if asked:
            for history, value in zip(asked, self._potential.potential(asked).tolist(), strict=True):
                known[id(history)] = value
        return known


class FunctionPotential:
    """A plain function of one history as a potential."""

    def __init__(self, function: Callable[[History], float], name: str | None = None) -> None:
        self.name = name or getattr(function, "__name__", "function")
        self._function = function

    def potential(self, histories: Sequence[History]) -> NDArray[np.float64]:
        return np.array([self._function(history) for history in histories], dtype=np.float64)


class ValuePotential:
    """A learned value as a potential: Phi = V, with which shaped rewards are advantages of the actions taken."""

    def __init__(self, model: ValueModel) -> None:
        self.name = model.name
        self._model = model

    def potential(self, histories: Sequence[History]) -> NDArray[np.float64]:
        return self._model.values(histories)


def goal_conditions() -> FunctionPotential:
    """The share of the goal's conditions that hold, in [0, 1]: progress that the environment itself can see.

    It is read off the last step. A history without steps has potential 0, also where some conditions hold from the
    start: still a potential of the history, so the theorem holds, but the first step is then paid for them.
    """
    return FunctionPotential(_goal_condition_success_rate, "goal_conditions")


def _goal_condition_success_rate(history: History) -> float:
    if not history.steps:
        return 0.0
    info = history.steps[-1].info
    if InfoKey.GOAL_CONDITION_SUCCESS_RATE not in info:
        raise ValueError(
            f"goal_conditions reads info[{InfoKey.GOAL_CONDITION_SUCCESS_RATE!r}], which task {history.task_id!r} has "
            "not: use another potential"
        )
    return float(info[InfoKey.GOAL_CONDITION_SUCCESS_RATE])
