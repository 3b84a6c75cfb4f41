"""An expert that acts from the text alone, as a person would: go where the thing probably is, look, take, do, put.

It reads what an agent reads (task sentence, observations, admissible commands) and knows where things usually lie
(``priors.py``). Whatever another agent does meanwhile, it is told, and goes on from there; so it can name a good
command in states that it would never reach itself.

Every way to get hold of an object is priced alike. A receptacle that takes ``c`` steps to look into, holds the object with
probability ``p`` and leaves ``v`` steps to do from there has the index ``c / p + v``. If receptacles are independent,
trying them in the order of this index takes the fewest steps to be expected; an object in sight is a way with ``p = 1``.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from statistics import fmean
from typing import Final

from agentgym_prm.envs.alfworld.priors import placement_priors
from agentgym_prm.envs.alfworld.task import TaskSentence, parse_task

_DOORS: Final = {"cabinet": 0.8, "drawer": 0.8, "fridge": 1.0, "microwave": 1.0, "safe": 0.8}
"""Share of the receptacles of a class that are closed at the start; the others of the class stand open for good."""

_TOOLS: Final = {
    "clean": ("clean", ("sinkbasin", "sink", "bathtubbasin")),
    "hot": ("heat", ("microwave",)),
    "cool": ("cool", ("fridge",)),
}
"""How to bring an object into a state: verb, and receptacle classes, the later ones for rooms without the earlier."""

_LAMP_SEARCH: Final = 3.0
"""Steps reckoned for finding a lamp that has not been seen yet."""

_SMOOTHING: Final = 0.05
"""Share of what a receptacle class holds of any one object class that is added to each placement the rules permit."""

_UNHEARD_OF: Final = 1e-4
"""Expected number of objects where the rules permit none, or where no training game had the classes."""

_CONTENTS: Final = re.compile(r"(?:On the (\w+ \d+), you|The (\w+ \d+) is open\. In it, you) see ([^.]*)\.")
_PICKED_UP: Final = re.compile(r"You pick up the (\w+ \d+) from the (\w+ \d+)\.")
_CHANGED: Final = re.compile(r"You (heat|clean|cool) the (\w+ \d+) using ")
_DESCRIBED: Final = re.compile(r"This is a (.*?)(\w+ \d+)\.")


class Memory:
    """What the texts of one episode have told about the room.

    Attributes:
        admissible: The commands that would be executed now.
        receptacles: All receptacles of the room, in natural order.
        here: Those that can be handled where the agent stands.
        held: The object in hand, if any.
        closed: For each receptacle that the agent has stood at, whether it was closed when last seen.
        beside: For each of them all the receptacles at the same place.
        contents: For each receptacle that has been looked into: the wanted objects in it.
        lamps: For each receptacle from which a wanted lamp can be used: that lamp.
        prepared: Objects in the state that the task asks for.
        refused: Verb, object, receptacle: what was not offered although the agent stood there with the object in hand.
    """

    def __init__(self, task: TaskSentence, admissible: Iterable[str]) -> None:
        self._task = task
        self._wanted = re.compile(rf"\b{task.object} \d+")
        self._tool_verb, self._tool_classes = _TOOLS.get(task.condition, ("", ()))
        named = (command.removeprefix("go to ").removeprefix("examine ") for command in admissible)
        self.receptacles = tuple(sorted({name for name in named if re.fullmatch(r"\w+ \d+", name)}, key=natural))
        self.closed: dict[str, bool] = {}
        self.beside: dict[str, tuple[str, ...]] = {}
        self.contents: dict[str, set[str]] = {}
        self.lamps: dict[str, str] = {}
        self.prepared: set[str] = set()
        self.refused: set[tuple[str, str, str]] = set()

    def update(self, observation: str, admissible: Iterable[str]) -> None:
        """Take in an answer, and what can be done now."""
        self.admissible = frozenset(admissible)
        offers = [command.partition(" ")[::2] for command in self.admissible]
        examined = {name for verb, name in offers if verb == "examine"}
        self.here = tuple(name for name in self.receptacles if name in examined)
        self.held = next(iter(examined.difference(self.here)), None)
        for name in self.here:
            self.beside[name] = self.here
            self.closed[name] = f"open {name}" in self.admissible
        self._read_text(observation)
        self._read_lamps(offers)
        if self.held is None:
            self._read_takes(offers)
        else:
            self._read_refusals(self.held)

    def _read_text(self, observation: str) -> None:
        for surface, inside, listed in _CONTENTS.findall(observation):
            self.contents[surface or inside] = set(self._wanted.findall(listed))
        if match := _PICKED_UP.match(observation):
            self.contents.get(match[2], set()).discard(match[1])
        elif match := _CHANGED.match(observation):
            self._note_state(match[2], {"heat": "hot"}.get(match[1], match[1]))
        elif match := _DESCRIBED.match(observation):
            for word in match[1].split():
                self._note_state(match[2], {"cold": "cool"}.get(word, word))

    def _note_state(self, obj: str, state: str) -> None:
        if state == self._task.condition:
            self.prepared.add(obj)
        elif {state, self._task.condition} == {"hot", "cool"}:
            self.prepared.discard(obj)

    def _read_lamps(self, offers: Iterable[tuple[str, str]]) -> None:
        for verb, name in offers:
            if verb == "use" and class_of(name) == self._task.lamp:
                self.lamps.update(dict.fromkeys(self.here, name))

    def _read_takes(self, offers: Iterable[tuple[str, str]]) -> None:
        """With an empty hand, what lies in every open receptacle here is offered, described or not."""
        self.contents.update((name, set()) for name in self.here if not self.closed[name])
        for verb, rest in offers:
            if verb == "take":
                obj, _, place = rest.partition(" from ")
                if self._wanted.fullmatch(obj):
                    self.contents[place].add(obj)

    def _read_refusals(self, held: str) -> None:
        for name in self.here:
            if not self.closed[name] and self.put_command(name) is None:
                self.refused.add(("put", held, name))
            if class_of(name) in self._tool_classes and f"{self._tool_verb} {held} with {name}" not in self.admissible:
                self.refused.add((self._tool_verb, held, name))

    def put_command(self, receptacle: str) -> str | None:
        """The command that puts the held object into ``receptacle``, if it is offered."""
        forms = (f"move {self.held} to {receptacle}", f"put {self.held} in/on {receptacle}")
        return next((form for form in forms if form in self.admissible), None)

    def door(self, receptacle: str) -> float:
        """Steps to be expected for opening ``receptacle``."""
        return self.closed.get(receptacle, _DOORS.get(class_of(receptacle), 0.0))

    def way(self, start: str, end: str) -> int:
        """Steps from one receptacle to another, as far as is known."""
        return 0 if start == end or end in self.beside.get(start, ()) else 1

    def reach(self, receptacle: str) -> float:
        """Steps until ``receptacle`` stands open before the agent."""
        return (receptacle not in self.here) + self.door(receptacle)


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
        self._tools = next(filter(None, map(self._named, classes)), ())
        self._places = self._named(self._task.receptacle)
        self._memory.update(observation, admissible)

    def observe(self, command: str, observation: str, admissible: Sequence[str]) -> None:
        """``command`` was given, by whomever; ``observation`` is the answer, ``admissible`` what can be done now."""
        self._memory.update(observation, admissible)

    def choose(self) -> str:
        """The command for the present state; changes nothing, so asking again gives the same."""
        memory, held = self._memory, self._memory.held
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
        # Nothing is left to try in a room that cannot give what is asked for.
        return command if command in memory.admissible else min(memory.admissible & {"look"} or memory.admissible)

    def _named(self, kind: str) -> tuple[str, ...]:
        return tuple(name for name in self._memory.receptacles if class_of(name) == kind)

    # --- one command towards one aim ---

    def _fetch(self) -> str:
        ways = list(self._ways())
        if not ways:
            return ""
        _, _, receptacle, obj = min(ways)
        return self._approach(receptacle) or f"take {obj} from {receptacle}"

    def _put_down(self, held: str) -> str:
        """Rid the hand of what is of no use: here if possible, else on the way to where the search goes on."""
        memory = self._memory
        offered = (memory.put_command(name) for name in memory.here)
        if command := next(filter(None, offered), None):
            return command
        index = {receptacle: index for index, _, receptacle, _ in self._ways()}
        fits = placement_priors().get(class_of(held), {})
        places = [name for name in memory.receptacles if ("put", held, name) not in memory.refused]
        place = min(
            places,
            key=lambda name: (memory.reach(name) + 2 * (class_of(name) not in fits), index.get(name, math.inf)),
            default="",
        )
        return self._approach(place)

    def _prepare(self, held: str) -> str:
        tool = min(self._tools_for(held), key=lambda name: name not in self._memory.here)
        return f"{self._tool_verb} {held} with {tool}" if tool in self._memory.here else f"go to {tool}"

    def _place(self, held: str) -> str:
        place = min(self._goals(held), key=self._memory.reach)
        return self._approach(place) or self._memory.put_command(place) or ""

    def _light(self) -> str:
        memory = self._memory
        if lamp := next((memory.lamps[name] for name in memory.here if name in memory.lamps), None):
            return f"use {lamp}"
        if memory.lamps:
            return f"go to {min(memory.lamps, key=natural)}"
        # A lamp can be used from where it stands even if it stands behind a door: going there is enough.
        unvisited = [name for name in memory.receptacles if name not in memory.beside]
        return f"go to {max(unvisited, key=lambda name: expected(self._task.lamp, class_of(name)), default='')}"

    def _approach(self, receptacle: str) -> str:
        """What brings the agent nearer to the open ``receptacle``; empty when it is there."""
        if receptacle not in self._memory.here:
            return f"go to {receptacle}"
        return f"open {receptacle}" if self._memory.closed[receptacle] else ""

    # --- prices ---

    def _ways(self) -> Iterator[tuple[float, int, str, str]]:
        """The ways to get hold of a useful object: index, rank, receptacle, and the object if it has been seen there."""
        memory = self._memory
        for rank, receptacle in enumerate(memory.receptacles):
            reach = memory.reach(receptacle)
            if receptacle in memory.contents:
                for obj in sorted(memory.contents[receptacle], key=natural):
                    if self._is_useful(obj):
                        yield reach + self._onward(receptacle, obj), rank, receptacle, obj
            else:
                # Standing before it with a full hand, one can examine it.
                yield max(reach, 1) / self._hope(receptacle) + self._onward(receptacle, ""), rank, receptacle, ""

    def _hope(self, receptacle: str) -> float:
        """Probability that looking into ``receptacle`` helps."""
        task, kind = self._task, class_of(receptacle)
        if kind == task.receptacle and task.count == 1 and not task.condition:
            return _UNHEARD_OF  # what lies where it should go would have ended the game
        number = expected(task.object, kind)
        if task.lamp and not self._memory.lamps:
            number += expected(task.lamp, kind)
        return 1 - math.exp(-number)

    def _onward(self, receptacle: str, obj: str) -> float:
        """Steps from the open ``receptacle`` to the end, after taking ``obj`` there ("" for any)."""
        memory = self._memory
        if self._task.lamp:
            return min((memory.way(receptacle, name) + 1 for name in memory.lamps), default=_LAMP_SEARCH)
        goals = self._goals(obj)
        if not self._needs_tool(obj):
            return self._delivery(receptacle, goals)
        return min(
            (memory.way(receptacle, tool) + 1 + self._delivery(tool, goals) for tool in self._tools_for(obj)),
            default=math.inf,
        )

    def _delivery(self, start: str, goals: Sequence[str]) -> float:
        memory = self._memory
        return 1 + min((memory.way(start, goal) + memory.door(goal) for goal in goals), default=math.inf)

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
        """Where to put ``obj``: of two, the second has to join the first, and an object can lie in two places at once."""
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


def class_of(name: str) -> str:
    """``"drawer"`` for ``"drawer 10"``."""
    return name.rpartition(" ")[0]


@cache
def expected(kind: str, place: str) -> float:
    """Expected number of objects of class ``kind`` in a receptacle of class ``place``, never 0."""
    numbers = placement_priors().get(kind, {})
    return numbers[place] + _SMOOTHING * _density(place) if place in numbers else _UNHEARD_OF


@cache
def _density(place: str) -> float:
    """Mean expected number over the object classes that may lie in receptacles of class ``place``."""
    return fmean(numbers[place] for numbers in placement_priors().values() if place in numbers)
