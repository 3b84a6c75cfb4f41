"""The one interface that all agents share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import overload

from agentgym_prm.types import Action, History


class Agent(ABC):
    """Chooses commands.

    Stateless: everything it may know is in the histories, so one agent plays any number of episodes at a time.

    A subclass writes ``sample``. The loop that calls it, in full, is ``rollout.stream``.
    """

    name: str = "agent"
    waits: bool = False
    """Whether it waits for others rather than computes, and may be asked from several threads: then episodes are best
    played each at its own pace."""

    @abstractmethod
    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        """Candidates for the next turn: ``n`` actions for each of the histories, in their order."""

    @overload
    def act(self, histories: History) -> Action: ...

    @overload
    def act(self, histories: Sequence[History]) -> list[Action]: ...

    def act(self, histories: History | Sequence[History]) -> Action | list[Action]:
        """The action to execute: one for each history, or one alone for a single history."""
        if isinstance(histories, History):
            return self.sample([histories], n=1)[0][0]
        return [candidates[0] for candidates in self.sample(histories, n=1)]

    def give_up(self) -> None:  # noqa: B027 - most agents have nothing to give up
        """Called when a rollout ends early: stop waiting, if this agent waits."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"
