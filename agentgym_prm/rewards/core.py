"""The one shape of everything that judges a step: a score for each pair of history and action."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.draws import mix
from agentgym_prm.rewards.identity import action_key
from agentgym_prm.types import Action, History


class StepScorer(Protocol):
    """Judges actions: process reward model, progress estimator, rubric, oracle or plain function.

    Deterministic, and a pair's score does not depend on the others of the batch; ``testing.check_scorer`` checks it.
    """

    @property
    def name(self) -> str:
        """What the scorer is called in ``Action.scores`` and in tables."""

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        """How good each action is after the history at the same place; shape ``(N,)``, finite, higher is better."""


class FunctionScorer:
    """Scores with a plain function of one history and one action."""

    def __init__(self, function: Callable[[History, Action], float], name: str | None = None) -> None:
        self.name = name or getattr(function, "__name__", "function")
        self._function = function

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        pairs = zip(histories, actions, strict=True)
        return np.array([self._function(history, action) for history, action in pairs], dtype=np.float64)


class RandomScorer:
    """Uniform numbers in ``[0, 1)`` that depend on the seed, the history and the command only: the control."""

    def __init__(self, seed: int = 0) -> None:
        self.name = "random"
        self._seed = seed

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        pairs = zip(histories, actions, strict=True)
        # The upper 53 bits, so that the quotient is exact.
        return np.array([(mix(self._seed, action_key(h, a.command)) >> 11) / 2**53 for h, a in pairs], dtype=np.float64)
