"""What was read from recent histories, kept, so that a turn costs one reading instead of one of every turn before it.

Agents are stateless: all that they may know is in the ``History``. This does not change it. A ``HistoryFold`` remembers
what the very same turns came to when they were last read; what it forgets is read again, and only the time differs.
"""

from collections.abc import Callable
from operator import is_
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from agentgym_prm.types import History, Step

SIZE: Final = 4096
"""Two turns of a thousand continuations side by side, the turns that they branched from, and as much again."""


class Reading(Protocol):
    """What the turns of one episode have told, up to some turn."""

    def observe(self, command: str, observation: str, admissible: tuple[str, ...]) -> None:
        """Take in one more turn: the command given, the answer to it, and what can be done now."""

    def copy(self) -> Self:
        """An independent one that has read as much."""


R = TypeVar("R", bound=Reading)
_Key = tuple[str, str, tuple[str, ...], int]


class HistoryFold(Generic[R]):
    """The readings of histories: each is a copy of that of the turn before, and one turn more.

    A kept reading is used for a history with the same task, observation and admissible commands, and the *same* steps:
    objects, not equal ones, since comparing those would cost what is to be saved. Histories that grew by
    ``History.after``, or belong to one ``Trajectory``, share theirs. Copies and pickles start with nothing kept.

    Args:
        begin: The reading of an opening: task, observation, admissible commands.
        size: Most readings kept, at least 1; those used longest ago go first.
    """

    def __init__(self, begin: Callable[[str, str, tuple[str, ...]], R], size: int = SIZE) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self._begin, self._size = begin, size
        # The steps are kept with the reading: as long as they live, no other object has their ids.
        self._kept: dict[_Key, tuple[tuple[Step, ...], R]] = {}

    def of(self, history: History) -> R:
        """The reading of the whole ``history``. It is shared: who wants to change it takes a copy."""
        last = len(history.steps)
        turn, reading = self._nearest(history)
        while turn < last:
            turn += 1
            reading = reading.copy()
            reading.observe(history.steps[turn - 1].action.command, *_seen(history, turn))
            # That of the turn before is kept too: other continuations may branch off there.
            if turn >= last - 1:
                self._keep(history, turn, reading)
        return reading

    def _nearest(self, history: History) -> tuple[int, R]:
        """The latest turn whose reading is kept, else the first, and the reading."""
        for turn in range(len(history.steps), -1, -1):
            steps, reading = self._kept.get(_key(history, turn), (None, None))
            if steps is not None and reading is not None and _are_those_of(history, turn, steps):
                break
        else:
            turn, reading = 0, self._begin(history.task, *_seen(history, 0))
        self._keep(history, turn, reading)
        return turn, reading

    def _keep(self, history: History, turn: int, reading: R) -> None:
        key = _key(history, turn)
        self._kept.pop(key, None)  # a dict is ordered by insertion: what is put in again goes to the end
        self._kept[key] = (history.steps[:turn], reading)
        if len(self._kept) > self._size:
            del self._kept[next(iter(self._kept))]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


def _seen(history: History, turn: int) -> tuple[str, tuple[str, ...]]:
    """What was observed at a turn, and could be done."""
    now = history.steps[turn] if turn < len(history.steps) else history
    return now.observation, now.admissible_commands


def _key(history: History, turn: int) -> _Key:
    return history.task, *_seen(history, turn), id(history.steps[turn - 1]) if turn else 0


def _are_those_of(history: History, turn: int, steps: tuple[Step, ...]) -> bool:
    return len(steps) == turn and all(map(is_, steps, history.steps))
