"""Requests, completions, and what a model behind a network is asked through."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

STOP_REASONS: Final = ("end", "length", "stop", "refusal")
"""How a completion ends: by itself, at ``max_tokens``, at a stop text, or because model or filter refused. An API's
other reasons are passed on in its own words."""
_SEED_RANGE: Final = 2**31


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to be continued.

    Attributes:
        messages: Pairs of role (``"system"``, ``"user"`` or ``"assistant"``) and content; a ``Message`` is one.
        n: Completions wanted, at least 1.
        temperature: ``None`` for the API's own. Left out where the model takes none, see the tables of each vendor.
        max_tokens: Longest completion; a reasoning model's thoughts count.
        stop: Texts that end a completion; they are not part of it.
        draw: What tells this draw from others of the same conversation, e.g. seed, episode and turn. Where an API takes
            a seed, it follows from this and the sample's number; an empty one sends none. Part of the cache's key.
    """

    messages: tuple[tuple[str, str], ...]
    n: int = 1
    temperature: float | None = None
    max_tokens: int = 4096
    stop: tuple[str, ...] = ()
    draw: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n must be at least 1, got {self.n}")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}")
        if not self.messages:
            raise ValueError("a request needs at least one message")

    def seed(self, sample: int) -> int | None:
        """What is sent as the seed of samples from number ``sample`` on, in ``[0, 2**31)``."""
        if not self.draw:
            return None
        digest = hashlib.sha256(repr((*self.draw, sample)).encode()).digest()
        return int.from_bytes(digest[:8], "big") % _SEED_RANGE


@dataclass(frozen=True, slots=True)
class Usage:
    """What was spent.

    Attributes:
        prompt_tokens: As the API counts them, those of its prompt cache included.
        completion_tokens: Thoughts included.
        cached_tokens: Of the prompt tokens, those that the API had in its prompt cache.
        requests: Sent, retries included.
        retries: Of these, those that followed a failure.
        cost: In US dollars; ``None`` if a price is not known.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    requests: int = 0
    retries: int = 0
    cost: float | None = 0.0

    def __str__(self) -> str:
        cost = "cost unknown" if self.cost is None else f"{self.cost:.4f} USD"
        return f"{self.requests:,} requests ({self.retries:,} retries), {self.tokens:,} tokens, {cost}"

    @property
    def tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in _COUNTS}, cost=cost)

    def __sub__(self, other: "Usage") -> "Usage":
        cost = None if self.cost is None or other.cost is None else self.cost - other.cost
        return Usage(**{name: getattr(self, name) - getattr(other, name) for name in _COUNTS}, cost=cost)

    def shares(self, n: int) -> list["Usage"]:
        """``n`` parts that add up to this: whole numbers, the first ones larger by what does not divide.

        >>> [share.completion_tokens for share in Usage(completion_tokens=8).shares(3)]
        [3, 3, 2]
        """
        cost = None if self.cost is None else self.cost / n
        counts = {name: divmod(getattr(self, name), n) for name in _COUNTS}
        return [
            Usage(**{name: whole + (part < rest) for name, (whole, rest) in counts.items()}, cost=cost)
            for part in range(n)
        ]

    def to_json(self) -> dict[str, float]:
        """As ``Action.usage`` holds it: an unknown cost is left out."""
        counts: dict[str, float] = {name: getattr(self, name) for name in _COUNTS}
        return counts if self.cost is None else {**counts, "cost": self.cost}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Usage":
        """Inverse of ``to_json``."""
        return cls(**{name: int(record[name]) for name in _COUNTS}, cost=record.get("cost"))


_COUNTS: Final = tuple(field.name for field in fields(Usage) if field.name != "cost")


@dataclass(frozen=True, slots=True)
class Completion:
    """One continuation.

    ``usage`` is what it took when it was asked for; completions of one request share its usage evenly. With
    ``from_cache`` that was an earlier time: nothing was sent. ``token_ids`` and ``logprobs`` are as sampled, from
    servers that tell them.
    """

    text: str
    stop_reason: str = "end"
    usage: Usage = Usage()
    from_cache: bool = False
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


class ChatModel(Protocol):
    """A model that continues conversations."""

    @property
    def name(self) -> str:
        """How it is called in reports, e.g. ``"openai:gpt-5-mini"``."""

    def complete(self, requests: Sequence[ChatRequest]) -> list[list[Completion]]:
        """``request.n`` completions of each, in the order of the requests, which are sent side by side.

        Safe to call from several threads.
        """

    def give_up(self) -> None:
        """End the calls that are running in other threads: nothing more is sent, what is out is waited for."""
