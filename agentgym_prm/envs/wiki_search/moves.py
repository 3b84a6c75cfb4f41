"""What an agent can do, whatever form a protocol writes it in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Search:
    """Ask the search engine."""

    query: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Give the final answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """A reply that is neither, with what its author is told about it."""

    error: str
