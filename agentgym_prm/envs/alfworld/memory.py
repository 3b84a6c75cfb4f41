"""What the texts of a household episode have told so far, in a form short enough to be shown at every turn.

Unlike the handcoded expert's memory it keeps everything it has seen, wanted or not, and draws no conclusions: it says
where things were seen, not where they might be. It reads observations and admissible commands only.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

_ENTITY: Final = re.compile(r"\w+ \d+")
_LISTED: Final = re.compile(r"(?:On the (\w+ \d+), you|The (\w+ \d+) is open\. In it, you) see ([^.]*)\.")
_CLOSED: Final = re.compile(r"(?:The (\w+ \d+) is closed\.|You close the (\w+ \d+)\.)")
_PICKED_UP: Final = re.compile(r"You pick up the (\w+ \d+) from the (\w+ \d+)\.")
_PUT: Final = re.compile(r"You (?:move|put) the (\w+ \d+) (?:to|in/on) the (\w+ \d+)\.")
_CHANGED: Final = re.compile(r"You (heat|clean|cool|slice) the (\w+ \d+) ")
_STATES: Final = {"heat": "hot", "clean": "clean", "cool": "cool", "slice": "sliced"}
_INTRO: Final = re.compile(r"Looking quickly around you, you see (.*)\.")


@dataclass(frozen=True, slots=True)
class Place:
    """A receptacle: ``status`` is ``"unseen"``, ``"closed"`` or ``"open"`` (also for what cannot be closed).

    What is learned makes another one; ``contents`` are not changed either.
    """

    name: str
    status: str = "unseen"
    contents: list[str] = field(default_factory=list)


class RoomMemory:
    """Reads an episode turn by turn; ``of`` reads all of it.

    Attributes:
        places: The receptacles, in the order of the opening text.
        here: Those that can be handled from where the agent stands.
        held: The object in hand, or ``""``.
        states: Objects that were cleaned, heated, cooled or sliced: their states.
        offers: The admissible commands by verb: ``{"go to": ["fridge 1", …]}``; single words are under ``""``.
    """

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self.here: tuple[str, ...] = ()
        self.held = ""
        self.states: dict[str, list[str]] = {}
        self.offers: dict[str, list[str]] = {}

    @classmethod
    def of(cls, turns: Iterable[tuple[str, Sequence[str]]]) -> "RoomMemory":
        """After the given observations, each with the commands that were admissible then."""
        memory = cls()
        for observation, admissible in turns:
            memory.read(observation)
            memory.stand(admissible)
        return memory

    @classmethod
    def begin(cls, task: str, observation: str, admissible: Sequence[str]) -> "RoomMemory":
        """After the opening; the task is not looked at."""
        return cls.of([(observation, admissible)])

    def observe(self, command: str, observation: str, admissible: Sequence[str]) -> None:
        """Take in a turn; what was typed is not looked at."""
        self.read(observation)
        self.stand(admissible)

    def copy(self) -> "RoomMemory":
        """An independent one that has read as much."""
        twin = RoomMemory()
        twin.places, twin.states = self.places.copy(), self.states.copy()
        twin.held, twin.here, twin.offers = self.held, self.here, self.offers
        return twin

    def firsts(self, status: str) -> list[str]:
        """Of the places in a status the lowest number of each class, by class."""
        firsts: dict[str, tuple[int, str]] = {}
        for name, place in self.places.items():
            if place.status == status:
                kind, _, number = name.rpartition(" ")
                firsts[kind] = min(firsts.get(kind, (int(number), name)), (int(number), name))
        return [firsts[kind][1] for kind in sorted(firsts)]

    def read(self, observation: str) -> None:
        """Take in an observation."""
        if match := _INTRO.search(observation):
            self.places |= {name: Place(name) for name in _ENTITY.findall(match[1])}
        for surface, inside, listed in _LISTED.findall(observation):
            self._seen(surface or inside, _ENTITY.findall(listed))
        for match in _CLOSED.finditer(observation):
            self._learn(match[1] or match[2], status="closed")
        if match := _PICKED_UP.match(observation):
            self._learn(match[2], contents=[name for name in self._contents(match[2]) if name != match[1]])
            self.held = match[1]
        elif match := _PUT.match(observation):
            self._learn(match[2], contents=[*self._contents(match[2]), match[1]])
            self.held = ""
        elif match := _CHANGED.match(observation):
            self._change(match[2], _STATES[match[1]])

    def stand(self, admissible: Sequence[str]) -> None:
        """Take in what can be done now, and with it where the agent stands."""
        self.offers = _offers(tuple(admissible))
        # What may be examined is where the agent stands, or in its hand: texts of the older release do not tell.
        self.here = tuple(name for name in self.offers.get("examine", ()) if name in self.places)
        self._look_around()

    def _look_around(self) -> None:
        """Of receptacles that share a place the texts describe one; what is offered tells about the others."""
        closed = self.offers.get("open", ())
        offered: defaultdict[str, list[str]] = defaultdict(list)
        for rest in self.offers.get("take", ()):
            obj, _, place = rest.partition(" from ")
            offered[place].append(obj)
        for name in self.here:
            if name in closed:
                self._learn(name, status="closed")
            elif not self.held:
                # What cannot be taken, a lamp, was described or stays unknown.
                known = self._contents(name)
                self._learn(name, status="open", contents=[*known, *(o for o in offered[name] if o not in known)])

    def _learn(self, name: str, *, status: str | None = None, contents: list[str] | None = None) -> None:
        old = self.places.get(name) or Place(name)
        self.places[name] = Place(name, status or old.status, old.contents if contents is None else contents)

    def _contents(self, name: str) -> list[str]:
        return self.places[name].contents if name in self.places else []

    def _seen(self, name: str, contents: list[str]) -> None:
        if name in self.places or contents:
            self._learn(name, status="open", contents=contents)

    def _change(self, name: str, state: str) -> None:
        opposite = {"hot": "cool", "cool": "hot"}.get(state)
        kept = [each for each in self.states.get(name, []) if each not in (state, opposite)]
        self.states[name] = [*kept, state]


@lru_cache(4096)
def _offers(admissible: tuple[str, ...]) -> dict[str, list[str]]:
    """The commands by verb; the same lists come back again and again in a game."""
    offers: defaultdict[str, list[str]] = defaultdict(list)
    for command in admissible:
        match = _ENTITY.search(command)
        verb = command[: match.start()].rstrip() if match else ""
        offers[verb].append(command[match.start() :] if match else command)
    return dict(offers)
