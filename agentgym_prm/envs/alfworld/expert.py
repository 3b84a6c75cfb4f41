"""Experts inside the environment: what to do next, from any state, for ``info["expert_action"]``.

=============  ================================================  ===========================================
name           knows                                             off its own path
=============  ================================================  ===========================================
``walkthrough``  the solution stored in the game file            has no answer once the game took another turn
``planner``      the full state; plans are shortest              plans anew
``handcoded``    the texts alone, as a person would              goes on searching from what it has seen
=============  ================================================  ===========================================

A builtin game has no stored solution; its walkthrough is the planner's plan from the start.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from agentgym_prm.envs.alfworld.engine import NOTHING_HAPPENS, Engine, in_put_grammar
from agentgym_prm.envs.alfworld.handcoded import HandcodedExpert
from agentgym_prm.envs.alfworld.planner import plan

NO_ANSWER: Final = ""


class Expert(Protocol):
    """Told everything that happens in an episode; asked what it would do."""

    def begin(self, task: str, observation: str, admissible: Sequence[str]) -> None:
        """A new episode starts."""

    def observe(self, command: str, observation: str, admissible: Sequence[str]) -> None:
        """Somebody gave ``command``, and this came of it."""

    def choose(self) -> str:
        """The expert's command for the present state, or ``""`` if it has none."""


class WalkthroughExpert:
    """Follows a stored solution while the episode keeps to it; commands that change nothing do not count."""

    def __init__(self, walkthrough: Callable[[], Sequence[str]]) -> None:
        self._walkthrough = walkthrough

    def begin(self, task: str, observation: str, admissible: Sequence[str]) -> None:
        self._remaining: list[str] | None = list(self._walkthrough())

    def observe(self, command: str, observation: str, admissible: Sequence[str]) -> None:
        if self._remaining and _same(command, self._remaining[0]):
            self._remaining.pop(0)
        elif observation != NOTHING_HAPPENS and command.split()[0] not in ("look", "inventory", "help", "examine"):
            self._remaining = None

    def choose(self) -> str:
        return self._remaining[0] if self._remaining else NO_ANSWER


class PlannerExpert:
    """Shortest plans on the engine's state; a plan is kept while the episode follows it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, task: str, observation: str, admissible: Sequence[str]) -> None:
        self._plan: tuple[str, ...] | None = None

    def observe(self, command: str, observation: str, admissible: Sequence[str]) -> None:
        if self._plan and _same(command, self._plan[0]):
            self._plan = self._plan[1:]
        else:
            self._plan = None

    def choose(self) -> str:
        if self._plan is None:
            self._plan = plan(self._engine) or ()
        return self._plan[0] if self._plan else NO_ANSWER


def _same(command: str, other: str) -> bool:
    """Whether two commands are one, put in either grammar."""
    return in_put_grammar(command.strip(), "move") == in_put_grammar(other, "move")


EXPERTS: Final = ("walkthrough", "planner", "handcoded")


def make_expert(name: str, engine: Engine | None, walkthrough: Callable[[], Sequence[str]]) -> Expert:
    """The expert called ``name``.

    Args:
        name: One of ``EXPERTS``.
        engine: The native engine being played; ``None`` under the original one, which the planner cannot read.
        walkthrough: Returns the current game's stored solution.
    """
    if name == "walkthrough":
        return WalkthroughExpert(walkthrough)
    if name == "handcoded":
        return HandcodedExpert()
    if engine is None:
        raise ValueError("expert='planner' reads the native engine's state: use engine='native', or expert='handcoded'")
    return PlannerExpert(engine)
