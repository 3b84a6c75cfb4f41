"""A reader at work in an episode: it reads observations in whichever protocol they are, and gives commands in it."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Self

from agentgym_prm.envs.wiki_search.moves import Answer, Search
from agentgym_prm.envs.wiki_search.protocols import Protocol, protocol_of
from agentgym_prm.envs.wiki_search.reader import MAX_SEARCHES, Reader

NO_ANSWER = ""


class Searcher:
    """What a reader knows of one episode, up to some turn."""

    def __init__(self, protocol: Protocol, reader: Reader) -> None:
        self._protocol, self._reader = protocol, reader
        self._answered = False

    @classmethod
    def begin(cls, task: str, observation: str, admissible: Sequence[str], *, max_searches: int = MAX_SEARCHES) -> Self:
        """The opening of an episode, in which there is time for so many searches.

        Raises:
            ValueError: It is none of WikiSearch.
        """
        return cls(protocol_of(task, observation), Reader(task, max_searches=min(max_searches, MAX_SEARCHES)))

    def observe(self, command: str, observation: str, admissible: Sequence[str]) -> None:
        """Take in one more turn."""
        move = self._protocol.parse(command)
        self._answered |= isinstance(move, Answer)
        if isinstance(move, Search):
            self._reader.observe(move, self._protocol.brought(observation))

    def choose(self) -> str:
        """The next command; ``NO_ANSWER`` after the answer."""
        return NO_ANSWER if self._answered else self._protocol.render(self._reader.choose())

    def copy(self) -> Self:
        """An independent one that has read as much."""
        return deepcopy(self)
