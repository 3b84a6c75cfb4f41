"""An expert that acts from the text alone, as a person would: go where the thing probably is, look, take, do, put.

It reads what an agent reads (task sentence, observations, admissible commands) and knows where things usually lie
(``priors.py``). Whatever another agent does meanwhile, it is told, and goes on from there; so it can name a good
command in states that it would never reach itself.

Every way to get hold of an object is priced alike. A receptacle that takes ``c`` steps to look into, holds the object
with probability ``p`` and leaves ``v`` steps to do from there has the index ``c / p + v``. If receptacles are
independent, trying them in the order of this index takes the fewest steps to be expected; an object that has been seen
is a way with ``p = 1``.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from statistics import fmean
from typing import Final

from agentgym_prm.envs.alfworld.game import class_of
from agentgym_prm.envs.alfworld.task import TaskSentence, parse_task

_DOORS: Final = frozenset({"cabinet", "drawer", "fridge", "microwave", "safe"})
"""Receptacle classes taken to be closed until seen. A sixth of the cabinets, drawers and safes stand open for good."""

_TOOLS: Final = {
    "clean": ("clean", ("sinkbasin", "sink", "bathtubbasin")),
    "hot": ("heat", ("microwave",)),
    "cool": ("cool", ("fridge",)),
}
"""How to bring an object into a state: verb, and receptacle classes, the later ones for rooms without the earlier."""

_SMOOTHING: Final = 0.05
"""What a placement that the rules permit gets on top: this share of the receptacle class's mean over object classes."""

_UNHEARD_OF: Final = 1e-4
"""Expected number of objects where neither rules nor training games know of any: those receptacles come last."""

_CONTENTS: Final = re.compile(r"(?:On the (\w+ \d+), you|The (\w+ \d+) is open\. In it, you) see ([^.]*)\.")
_PICKED_UP: Final = re.compile(r"You pick up the (\w+ \d+) from the (\w+ \d+)\.")
_CHANGED: Final = re.compile(r"You (heat|clean|cool) the (\w+ \d+) using ")
_DESCRIBED: Final = re.compile(r"This is a (.*?)(\w+ \d+)\.")
_STATES: Final = {"heat": "hot", "cold": "cool"}
"""Words of the texts for the states that tasks call otherwise."""


class Memory:
    """What the texts of one episode have told about the room.

    Attributes:
        admissible: The commands that would be executed now.
        receptacles: All receptacles of the room, in natural order.
        here: Those that can be handled where the agent stands.
        held: The object in hand, if any.
        closed: For each receptacle that the agent has stood at: whether it was closed then.
        beside: For each of those: all the receptacles at the same place.
        contents: For each receptacle that has been looked into: the wanted objects in it.
        lamps: For each receptacle from which a wanted lamp can be used: that lamp.
        prepared: Objects in the state that the task asks for.
        refused: Verb, object, receptacle: what was not offered although the agent stood there with the object in hand.
    """

    def __init__(self, task: TaskSentence, admissible: Iterable[str]) -> None:
        self._task = task
        self._wanted = re.compile(rf"\b{re.escape(task.object)} \d+\b")
        self._tool_verb, self._tool_classes = _TOOLS.get(task.condition, ("", ()))
        named = {command.removeprefix("go to ").removeprefix("examine ") for command in admissible}
        self.receptacles = tuple(sorted(filter(re.compile(r"\w+ \d+").fullmatch, named), key=natural))
        self.closed: dict[str, bool] = {}
        self.beside: dict[str, tuple[str, ...]] = {}
        # Sets and tuples in the mappings are replaced, never changed: ``copy`` shares them.
        self.contents: dict[str, frozenset[str]] = {}
        self.lamps: dict[str, str] = {}
        self.prepared: set[str] = set()
        self.refused: set[tuple[str, str, str]] = set()

    def copy(self) -> "Memory":
        """An independent one that has been told as much."""
        twin = Memory.__new__(Memory)
        twin.__dict__.update(self.__dict__)
        for name in ("closed", "beside", "contents", "lamps", "prepared", "refused"):
            setattr(twin, name, getattr(self, name).copy())
        return twin

    def update(self, observation: str, admissible: Iterable[str]) -> None:
        """Take in an answer, and what can be done now."""
        self.admissible, offers = _offers(tuple(admissible))
        # Where the agent stands follows from what it may examine: texts of the older release do not tell.
        examine, closed = offers.get("examine", ()), offers.get("open", ())
        self.here = tuple(name for name in self.receptacles if name in examine)
        self.held = next((name for name in examine if name not in self.here), None)
        for name in self.here:
            self.beside[name] = self.here
            self.closed[name] = name in closed
        self._read_text(observation)
        self._read_offers(offers)

    def _read_text(self, observation: str) -> None:
        for surface, inside, listed in _CONTENTS.findall(observation):
            self.contents[surface or inside] = frozenset(self._wanted.findall(listed))
        if match := _PICKED_UP.match(observation):
            if match[2] in self.contents:
                self.contents[match[2]] -= {match[1]}
        elif match := _CHANGED.match(observation):
            self._note_state(match[2], match[1])
        elif match := _DESCRIBED.match(observation):
            for word in match[1].split():
                self._note_state(match[2], word)

    def _note_state(self, obj: str, word: str) -> None:
        state = _STATES.get(word, word)
        if state == self._task.condition:
            self.prepared.add(obj)
        elif {state, self._task.condition} == {"hot", "cool"}:
            self.prepared.discard(obj)

    def _read_offers(self, offers: Mapping[str, Sequence[str]]) -> None:
        for name in offers.get("use", ()):
            if class_of(name) == self._task.lamp:
                self.lamps.update(dict.fromkeys(self.here, name))
        if self.held is not None:
            self._note_refusals(self.held)
            return
        # With an empty hand, what lies in any open receptacle here is offered, whether described or not.
        self.contents.update((name, frozenset()) for name in self.here if not self.closed[name])
        for rest in offers.get("take", ()):
            obj, _, place = rest.partition(" from ")
            if self._wanted.fullmatch(obj):
                self.contents[place] |= {obj}

    def _note_refusals(self, held: str) -> None:
        for name in self.here:
            if not self.closed[name] and self.put_command(name) is None:
                self.refused.add(("put", held, name))
            if class_of(name) in self._tool_classes and f"{self._tool_verb} {held} with {name}" not in self.admissible:
                self.refused.add((self._tool_verb, held, name))

    def put_command(self, receptacle: str) -> str | None:
        """The command that puts the held object into ``receptacle``, if it is offered."""
        forms = (f"move {self.held} to {receptacle}", f"put {self.held} in/on {receptacle}")
        return next((form for form in forms if form in self.admissible), None)

    def door(self, receptacle: str) -> bool:
        """Whether ``receptacle`` is closed, as far as is known: one more step."""
        return self.closed.get(receptacle, class_of(receptacle) in _DOORS)

    def way(self, start: str, end: str) -> bool:
        """Whether ``end`` is somewhere else than ``start``, as far as is known: one more step."""
        return start != end and end not in self.beside.get(start, ())

    def reach(self, receptacle: str) -> int:
        """Steps until ``receptacle`` stands open before the agent."""
        return (receptacle not in self.here) + self.door(receptacle)


@lru_cache(4096)
def _offers(admissible: tuple[str, ...]) -> tuple[frozenset[str], Mapping[str, Sequence[str]]]:
    """The commands, and by their first word what follows it; the same lists come back again and again in a game."""
    commands = frozenset(admissible)
    offers: defaultdict[str, list[str]] = defaultdict(list)
    for command in sorted(commands):
        verb, _, rest = command.partition(" ")
        offers[verb].append(rest)
    return commands, dict(offers)


class HandcodedExpert:
    """Says what to do next; told everything that happens in an episode, whoever decided it."""

    def begin(self, task: str, observation: str, admissible: Sequence[str]) -> None:
        """A new episode starts.

        Raises:
            ValueError: ``task`` has none of the benchmark's sentence forms.
        """
        self._task = parse_task(task)
        self._memory = Memory(self._task, admissible)
        self._tool_verb, classes = _TOOLS.get(self._task.condition, ("", ()))
        self._tools: tuple[str, ...] = next(filter(None, map(self._of_class, classes)), ())
        self._places = self._of_class(self._task.receptacle)
        self._memory.update(observation, admissible)

    def observe(self, command: str, observation: str, admissible: Sequence[str]) -> None:
        """``command`` was given, by whomever; ``observation`` is the answer, ``admissible`` what can be done now."""
        self._memory.update(observation, admissible)

    def copy(self) -> "HandcodedExpert":
        """An independent one that has been told as much."""
        twin = HandcodedExpert()
        twin.__dict__.update(self.__dict__)
        twin._memory = self._memory.copy()
        return twin

    def choose(self) -> str:
        """The command for the present state; changes nothing, so asking again gives the same."""
        held = self._memory.held
        if held is None:
            command = self._fetch()
        elif not self._is_useful(held):
            command = self._put_down(held)
        elif self._task.lamp:
            command = self._light()
        elif self._needs_tool(held):
            command = self._prepare(held)
        else:
            command = self._place(held)
        admissible = self._memory.admissible
        # Otherwise nothing is left to try: the game is over, or holds something that fits nowhere.
        return command if command in admissible else min(admissible & {"look"} or admissible, default="")

    def _of_class(self, kind: str) -> tuple[str, ...]:
        return tuple(name for name in self._memory.receptacles if class_of(name) == kind)

    # --- one command towards one aim ---

    def _fetch(self) -> str:
        _, _, receptacle, obj = min(self._ways(), default=(0.0, 0, "", ""))
        return self._approach(receptacle) or f"take {obj} from {receptacle}"

    def _put_down(self, held: str) -> str:
        """Rid the hand of what is of no use: here if possible, else on the way to where the search goes on."""
        memory = self._memory
        if command := next(filter(None, map(memory.put_command, memory.here)), None):
            return command
        index = {receptacle: index for index, _, receptacle, _ in self._ways()}
        fits = _placements().get(class_of(held), {})

        def price(receptacle: str) -> tuple[int, float]:
            doubt = 0 if class_of(receptacle) in fits else 2
            return memory.reach(receptacle) + doubt, index.get(receptacle, math.inf)

        places = (name for name in memory.receptacles if ("put", held, name) not in memory.refused)
        return self._approach(min(places, key=price, default=""))

    def _prepare(self, held: str) -> str:
        tool = min(self._tools_for(held), key=lambda name: name not in self._memory.here)
        return f"{self._tool_verb} {held} with {tool}" if tool in self._memory.here else f"go to {tool}"

    def _place(self, held: str) -> str:
        place = min(self._goals(held), key=self._memory.reach)
        return self._approach(place) or self._memory.put_command(place) or ""

    def _light(self) -> str:
        """Switch the lamp on with the object in hand; a lamp can be used from where it stands, even behind a door."""
        memory = self._memory
        if lamp := next((memory.lamps[name] for name in memory.here if name in memory.lamps), None):
            return f"use {lamp}"
        if memory.lamps:
            return f"go to {min(memory.lamps, key=natural)}"
        unvisited = (name for name in memory.receptacles if name not in memory.beside)
        return f"go to {max(unvisited, key=lambda name: expected(self._task.lamp, class_of(name)), default='')}"

    def _approach(self, receptacle: str) -> str:
        """What brings the agent nearer to the open ``receptacle``; empty when it is there."""
        if receptacle not in self._memory.here:
            return f"go to {receptacle}"
        return f"open {receptacle}" if self._memory.closed[receptacle] else ""

    # --- prices ---

    def _ways(self) -> Iterator[tuple[float, int, str, str]]:
        """The ways to get hold of a useful object: index, rank, receptacle, and the object if it was seen there."""
        memory = self._memory
        for rank, receptacle in enumerate(memory.receptacles):
            reach = memory.reach(receptacle)
            if receptacle in memory.contents:
                for obj in sorted(memory.contents[receptacle], key=natural):
                    if self._is_useful(obj):
                        yield reach + self._onward(receptacle, obj), rank, receptacle, obj
            else:
                # At least one step even here: with a full hand, one has to examine what is open.
                yield max(reach, 1) / self._hope(receptacle) + self._onward(receptacle, ""), rank, receptacle, ""

    def _hope(self, receptacle: str) -> float:
        """Probability that looking into ``receptacle`` helps."""
        task, kind = self._task, class_of(receptacle)
        if kind == task.receptacle and task.count == 1 and not task.condition:
            return _UNHEARD_OF  # an object there would have won the game
        number = expected(task.object, kind)
        if task.lamp and not self._memory.lamps:
            number += expected(task.lamp, kind)
        return -math.expm1(-number)

    def _onward(self, receptacle: str, obj: str) -> float:
        """Steps to the goal after taking ``obj`` ("" for any) from ``receptacle``."""
        memory = self._memory
        if self._task.lamp:
            return min((memory.way(receptacle, lamp) for lamp in memory.lamps), default=0)
        goals = self._goals(obj)
        if not self._needs_tool(obj):
            return self._delivery(receptacle, goals)
        prices = (memory.way(receptacle, tool) + 1 + self._delivery(tool, goals) for tool in self._tools_for(obj))
        return min(prices, default=math.inf)

    def _delivery(self, start: str, goals: Sequence[str]) -> float:
        memory = self._memory
        return min((memory.way(start, goal) + memory.door(goal) + 1 for goal in goals), default=math.inf)

    # --- what an object is good for ---

    def _is_useful(self, obj: str) -> bool:
        if class_of(obj) != self._task.object:
            return False
        if self._task.lamp:
            return True
        return bool(self._goals(obj)) and not (self._needs_tool(obj) and not self._tools_for(obj))

    def _needs_tool(self, obj: str) -> bool:
        return bool(self._task.condition) and obj not in self._memory.prepared

    def _tools_for(self, obj: str) -> list[str]:
        return [tool for tool in self._tools if (self._tool_verb, obj, tool) not in self._memory.refused]

    def _goals(self, obj: str) -> list[str]:
        """Where to put ``obj``: of two, the second has to join the first; one object can lie in two places at once."""
        memory = self._memory
        places = [place for place in self._places if ("put", obj, place) not in memory.refused]
        if self._task.count == 1:
            return places
        contents = {place: memory.contents.get(place, ()) for place in places}
        most = max(map(len, contents.values()), default=0)
        return [place for place in places if len(contents[place]) == most and obj not in contents[place]]


def natural(name: str) -> tuple[str, int]:
    """Sort key that puts ``"drawer 10"`` behind ``"drawer 9"``."""
    kind, _, number = name.rpartition(" ")
    return kind, int(number)


def _placements() -> Mapping[str, Mapping[str, float]]:
    # Imported late: ``python -m agentgym_prm.envs.alfworld.priors`` wants its module not to be loaded by the package.
    from agentgym_prm.envs.alfworld.priors import placement_priors

    return placement_priors()


@cache
def expected(kind: str, place: str) -> float:
    """Expected number of objects of class ``kind`` in a receptacle of class ``place``, never 0."""
    numbers = _placements().get(kind, {})
    smoothed = numbers[place] + _SMOOTHING * _density(place) if place in numbers else 0.0
    return max(smoothed, _UNHEARD_OF)


@cache
def _density(place: str) -> float:
    """Mean expected number over the object classes that may lie in receptacles of class ``place``."""
    return fmean(numbers[place] for numbers in _placements().values() if place in numbers)
