"""What a builtin encyclopedia knows, before it is put into words: entities, facts, and what questions ask of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from agentgym_prm.draws import mix, uniform

T = TypeVar("T")

SPLITS: Final = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Entity:
    """Something that has a passage of its own.

    Attributes:
        title: Of its passage: its name, with a qualifier in brackets if another one has that name.
        names: What it is called, at least once; no two entities share any but the first, which is the usual one.
        kind: ``person``, ``town``, ``work``, …; what facts there are about it depends on this.
        description: A noun for it: ``painter``, ``town``, ``novel``.
        split: The split whose questions may be about it.
        female: Of a person: which pronouns stand for them.
    """

    title: str
    names: tuple[str, ...]
    kind: str
    description: str
    split: str
    female: bool = False

    @property
    def name(self) -> str:
        """The usual name."""
        return self.names[0]


class Fact(NamedTuple):
    """One thing that is so; an entity has at most one value of a relation."""

    subject: str
    """Title of the entity that it is about, in whose passage it stands."""
    relation: str
    value: str
    """Title of an entity, or a year, number or word."""


class Mention(NamedTuple):
    """How a question names an entity."""

    name: str
    description: str
    """What it says that the entity is, or empty; entities of this name that are something else are not meant."""


class Query(NamedTuple):
    """What a question means.

    ``follow``: the value at the end of ``path`` from the one mention. ``lower``, ``higher``: which of the two mentioned
    has the smaller or greater number there. ``same``: whether both have the same value there, yes or no.
    """

    operation: str
    mentions: tuple[Mention, ...]
    path: tuple[str, ...]


class Knowledge:
    """Entities and facts, by title and by name."""

    def __init__(self, entities: Sequence[Entity], facts: Sequence[Fact]) -> None:
        self.entities = {entity.title: entity for entity in entities}
        self._named: dict[str, list[Entity]] = {}
        for entity in entities:
            for name in entity.names:
                self._named.setdefault(name, []).append(entity)
        self.facts: dict[str, dict[str, str]] = {title: {} for title in self.entities}
        for fact in facts:
            self.facts[fact.subject][fact.relation] = fact.value
        # What has other things named after it.
        self.honoured = {fact.value for fact in facts if fact.relation in ("namesake", "honours")}

    def is_ambiguous(self, name: str) -> bool:
        """Whether several entities have this name."""
        return len(self._named.get(name, ())) > 1

    def names(self, value: str) -> tuple[str, ...]:
        """Forms of a value: an entity's names, or the value itself, a number with and without its comma."""
        if value in self.entities:
            return self.entities[value].names
        plain = value.replace(",", "")
        return (value, plain) if plain != value and plain.isdecimal() else (value,)

    def answers(self, query: Query) -> set[str]:
        """Everything that answers ``query``, as values of facts are written."""
        meant = [
            [entity for entity in self._named.get(name, ()) if description in ("", entity.description)]
            for name, description in query.mentions
        ]
        if query.operation == "follow":
            return {value for entity in meant[0] if (value := self._follow(entity.title, query.path)) is not None}
        pairs = [(one.title, other.title) for one in meant[0] for other in meant[1]]
        return {answer for pair in pairs if (answer := self._compared(query, *pair)) is not None}

    def _follow(self, title: str, path: Sequence[str]) -> str | None:
        value: str | None = title
        for relation in path:
            value = None if value is None else self.facts.get(value, {}).get(relation)
        return value

    def _compared(self, query: Query, one: str, other: str) -> str | None:
        values = [self._follow(title, query.path) for title in (one, other)]
        if values[0] is None or values[1] is None:
            return None
        if query.operation == "same":
            return "yes" if values[0] == values[1] else "no"
        first, second = (int(value.replace(",", "")) for value in values if value)
        if first == second:
            return None
        return one if (first < second) == (query.operation == "lower") else other


class Draws:
    """A sequence of random numbers that is the same everywhere."""

    def __init__(self, *seed: int) -> None:
        self._seed = mix(*seed)
        self._drawn = 0

    def uniform(self) -> float:
        """A number in [0, 1)."""
        self._drawn += 1
        return uniform(self._drawn, after=self._seed)

    def chance(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return self.uniform() < probability

    def between(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        """One of ``items``."""
        return items[int(self.uniform() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """``items`` in random order."""
        left = list(items)
        for place in range(len(left) - 1, 0, -1):
            other = int(self.uniform() * (place + 1))
            left[place], left[other] = left[other], left[place]
        return left


class Deck:
    """Deals the same items over and over in new orders, so that each comes up about equally often."""

    def __init__(self, draws: Draws, items: Sequence[str]) -> None:
        self._draws, self._items = draws, items
        self._left: list[str] = []

    def deal(self) -> str:
        """The next one."""
        if not self._left:
            self._left = self._draws.shuffled(self._items)
        return self._left.pop()

    def put_back(self, items: Sequence[str]) -> None:
        """Deal these after those that are left."""
        self._left[:0] = items
