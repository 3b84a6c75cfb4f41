"""What a search engine is to its users: many queries in, for each the best documents or passages out."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Hit(NamedTuple):
    """A document that was found."""

    document: int
    """Its number: 0 for the first that was indexed."""
    score: float
    """How well it answers the query; above 0, comparable within one query only."""


class SearchIndex(Protocol):
    """Documents that can be searched, by several threads at once."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """For each query the ``k`` documents that answer it best, best first; fewer where fewer match at all."""
        ...


def check_request(queries: Sequence[str], k: int) -> None:
    """Refuse what no index can answer.

    Raises:
        TypeError: ``queries`` is a single text.
        ValueError: ``k`` is not positive.
    """
    if isinstance(queries, str):
        raise TypeError("queries must be a sequence of texts, got one text: search([text], k)")
    if k < 1:
        raise ValueError(f"k must be positive, got {k}")


class Passage(NamedTuple):
    """A piece of text of an encyclopedia."""

    id: str
    title: str
    text: str


class Found(NamedTuple):
    """A passage that was found."""

    passage: Passage
    score: float
    """How well it answers the query; comparable within one query only."""


class PassageSearch(Protocol):
    """Passages that can be searched, by several threads at once: here, in Lucene, on a server, densely."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Found]]:
        """For each query the ``k`` passages that answer it best, best first; fewer where fewer match at all."""
        ...
