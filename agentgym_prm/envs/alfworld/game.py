"""One ALFWorld game: what its file states, and the indexed form that the engine plays.

``GameDescription`` is the content of a game file or of a generated game: facts, goal, task sentence. ``Game`` is the
same, compiled once and shared by every environment that plays it: entities as small integers in the order of their ids
(which is the order in which the original lists them), sets of entities as bit masks.

Names follow the original: the part of the id before ``_bar_``, plus "basin" where the id holds that word, and a number
that runs *downwards* over the sorted ids.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agentgym_prm.envs.alfworld.dialect import CURRENT, Dialect
from agentgym_prm.envs.alfworld.goal import Goal, parse_goal
from agentgym_prm.errors import GameFormatError

Fact = tuple[str, ...]
"""Predicate and arguments, lower-case: ``("inreceptacle", "apple_bar_…", "fridge_bar_…")``."""

_FACT = re.compile(r"\(\s*(\w+)((?:\s+[^\s()]+)*)\s*\)")
_ARITY = {
    **dict.fromkeys(("openable", "opened", "isreceptacleobject"), 1),
    **dict.fromkeys(("pickupable", "cleanable", "heatable", "coolable", "toggleable", "sliceable"), 1),
    **dict.fromkeys(("isclean", "ishot", "iscool", "istoggled", "issliced"), 1),
    **dict.fromkeys(("atlocation", "receptacleatlocation", "objectatlocation", "inreceptacle"), 2),
    **dict.fromkeys(("inreceptacleobject", "receptacletype", "objecttype", "cancontain"), 2),
}
"""The predicates that may hold initially, with the number of their arguments."""


@dataclass(frozen=True, slots=True)
class GameDescription:
    """Everything that is particular to one game. ``facts`` hold initially; ``walkthrough`` may be empty."""

    task_id: str
    task: str
    facts: tuple[Fact, ...]
    goal: Goal
    walkthrough: tuple[str, ...] = ()
    dialect: Dialect = CURRENT


def parse_problem(problem: str) -> tuple[tuple[Fact, ...], Goal]:
    """Initial facts and goal of a PDDL problem.

    Raises:
        GameFormatError: The text is cut off, a fact has an unknown predicate, or the goal is of none of the six types.
    """
    init, goal = problem.find("(:init"), problem.find("(:goal")
    if init < 0 or goal < init:
        raise GameFormatError("the PDDL problem is damaged: it needs (:init …) followed by (:goal …)")
    facts = []
    for match in _FACT.finditer(problem, init + 1, goal):
        predicate, arguments = match[1].lower(), match[2].lower().split()
        arity = _ARITY.get(predicate)
        if arity is None:
            raise GameFormatError(f"PDDL problem: fact {match[0]} has a predicate that the native engine does not know")
        if len(arguments) != arity:
            raise GameFormatError(f"PDDL problem: fact {match[0]} needs {arity} argument(s), got {len(arguments)}")
        facts.append((predicate, *arguments))
    return tuple(facts), parse_goal(problem[goal:])


class Game:
    """A compiled game: read-only, shared by all engines that play it.

    Objects and receptacles are numbered by the order of their ids; ``bit i`` of a mask stands for object (or
    receptacle) ``i``. ``receptacle_texts``, ``commands``, ``take_commands``, ``go_commands`` and ``parsed`` are caches
    that the engine fills.
    """

    __slots__ = (
        "accepts",
        "cleanable",
        "commands",
        "containers",
        "coolable",
        "dialect",
        "fridges",
        "go_commands",
        "goal",
        "heatable",
        "inner_objects",
        "knives",
        "lamps",
        "location_names",
        "microwaves",
        "object_ids",
        "object_index",
        "object_names",
        "openable",
        "parsed",
        "pickupable",
        "receptacle_ids",
        "receptacle_index",
        "receptacle_location",
        "receptacle_masks",
        "receptacle_names",
        "receptacle_texts",
        "receptacles_at",
        "sinks",
        "sliceable",
        "start_clean",
        "start_contents",
        "start_cool",
        "start_hot",
        "start_location",
        "start_objects_at",
        "start_opened",
        "start_sliced",
        "start_toggled",
        "take_commands",
        "target_objects",
        "target_receptacles",
        "task",
        "task_id",
        "task_type",
        "toggleable",
        "walkthrough",
    )

    def __init__(self, description: GameDescription) -> None:
        """Compile ``description``.

        Raises:
            GameFormatError: The facts contradict what every game of the benchmark keeps to, e.g. a receptacle without
                a type or with two locations.
        """
        self.task_id, self.task = description.task_id, description.task
        self.goal, self.task_type = description.goal, description.goal.task_type
        self.walkthrough, self.dialect = description.walkthrough, description.dialect

        facts: defaultdict[str, list[Fact]] = defaultdict(list)
        for predicate, *arguments in description.facts:
            facts[predicate].append(tuple(arguments))
        self._index_entities(facts)
        self._index_affordances(facts)
        self._index_start(facts)
        self._index_goal(facts)

        self.receptacle_texts: dict[tuple[int, int], str] = {}
        self.take_commands: dict[tuple[int, int], tuple[str, ...]] = {}
        self.go_commands: dict[int, tuple[str, ...]] = {}
        self.commands: dict[tuple[object, ...], tuple[str, ...]] = {}
        self.parsed: dict[str, tuple[int, int, int]] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> "Game":
        return self  # read-only, so a copied environment goes on sharing it

    def _index_entities(self, facts: dict[str, list[Fact]]) -> None:
        names = _name_entities(argument for arguments in facts.values() for fact in arguments for argument in fact)
        types = _function(facts["receptacletype"], "receptacleType")
        places = _function(facts["receptacleatlocation"], "receptacleAtLocation")
        if types.keys() != places.keys():
            odd = sorted(types.keys() ^ places.keys())[0]
            raise GameFormatError(f"receptacle {odd} needs both a receptacleType and a receptacleAtLocation")
        self.receptacle_ids = tuple(sorted(types))
        self.receptacle_names = tuple(names[r] for r in self.receptacle_ids)
        self.receptacle_index = {name: i for i, name in enumerate(self.receptacle_names)}
        self.object_ids = tuple(sorted(_function(facts["objecttype"], "objectType")))
        self.object_names = tuple(names[o] for o in self.object_ids)
        self.object_index = {name: i for i, name in enumerate(self.object_names)}

        if len(facts["atlocation"]) != 1:
            raise GameFormatError(f"the agent needs exactly one atLocation, got {len(facts['atlocation'])}")
        start = facts["atlocation"][0][1]
        locations = sorted({start, *places.values()})
        self.location_names = tuple(names[location] for location in locations)
        self.start_location = locations.index(start)
        self.receptacle_location = tuple(locations.index(places[r]) for r in self.receptacle_ids)
        at: list[list[int]] = [[] for _ in locations]
        for receptacle, location in enumerate(self.receptacle_location):
            at[location].append(receptacle)
        self.receptacles_at = tuple(tuple(receptacles) for receptacles in at)
        self.receptacle_masks = tuple(sum(1 << receptacle for receptacle in receptacles) for receptacles in at)
        number = {location: i for i, location in enumerate(locations)}
        objects_at = [0] * len(locations)
        object_number = {o: i for i, o in enumerate(self.object_ids)}
        for obj, place in facts["objectatlocation"]:
            # The agent can never stand at a location without a receptacle other than its first.
            if place in number and obj in object_number:
                objects_at[number[place]] |= 1 << object_number[obj]
        self.start_objects_at = tuple(objects_at)

    def _index_affordances(self, facts: dict[str, list[Fact]]) -> None:
        def objects(predicate: str) -> int:
            return _mask(self.object_ids, {fact[0] for fact in facts[predicate]})

        def receptacles(*types: str) -> int:
            return _mask(self.receptacle_ids, {r for r, kind in facts["receptacletype"] if kind in types})

        self.pickupable, self.cleanable = objects("pickupable"), objects("cleanable")
        self.heatable, self.coolable = objects("heatable"), objects("coolable")
        self.toggleable, self.sliceable = objects("toggleable"), objects("sliceable")
        self.containers = objects("isreceptacleobject")
        self.knives = self._of_type(facts, "knifetype") | self._of_type(facts, "butterknifetype")
        self.openable = _mask(self.receptacle_ids, {r for (r,) in facts["openable"]})
        self.sinks, self.microwaves = receptacles("sinktype", "sinkbasintype"), receptacles("microwavetype")
        self.fridges = receptacles("fridgetype")

        of_type: defaultdict[str, int] = defaultdict(int)
        object_types = _function(facts["objecttype"], "objectType")
        for i, obj in enumerate(self.object_ids):
            of_type[object_types[obj]] |= 1 << i
        accepted: defaultdict[str, int] = defaultdict(int)
        for receptacle_type, object_type in facts["cancontain"]:
            accepted[receptacle_type] |= of_type[object_type]
        types = _function(facts["receptacletype"], "receptacleType")
        self.accepts = tuple(accepted[types[r]] for r in self.receptacle_ids)

        names = dict(zip(self.object_ids, self.object_names, strict=True))
        inner: defaultdict[int, list[str]] = defaultdict(list)
        for held, container in sorted(facts["inreceptacleobject"]):
            if container in names and held in names:
                inner[self.object_ids.index(container)].append(names[held])
        self.inner_objects = {container: tuple(held) for container, held in inner.items()}

    def _index_start(self, facts: dict[str, list[Fact]]) -> None:
        number = {o: i for i, o in enumerate(self.object_ids)}
        contents = dict.fromkeys(self.receptacle_ids, 0)
        for obj, receptacle in facts["inreceptacle"]:
            if obj not in number or receptacle not in contents:
                raise GameFormatError(f"inReceptacle {obj} {receptacle}: both need a type")
            contents[receptacle] |= 1 << number[obj]
        self.start_contents = tuple(contents.values())
        self.start_opened = _mask(self.receptacle_ids, {r for (r,) in facts["opened"]})
        self.start_clean = _mask(self.object_ids, {o for (o,) in facts["isclean"]})
        self.start_hot = _mask(self.object_ids, {o for (o,) in facts["ishot"]})
        self.start_cool = _mask(self.object_ids, {o for (o,) in facts["iscool"]})
        self.start_sliced = _mask(self.object_ids, {o for (o,) in facts["issliced"]})
        self.start_toggled = _mask(self.object_ids, {o for (o,) in facts["istoggled"]})

    def _index_goal(self, facts: dict[str, list[Fact]]) -> None:
        capable = {"clean": self.cleanable, "hot": self.heatable, "cool": self.coolable, "": -1}[self.goal.condition]
        self.target_objects = self._of_type(facts, self.goal.object_type) & capable
        self.target_receptacles = tuple(
            self.receptacle_ids.index(r)
            for r, kind in sorted(facts["receptacletype"])
            if kind == self.goal.receptacle_type
        )
        self.lamps = self._of_type(facts, self.goal.lamp_type) & self.toggleable

    def _of_type(self, facts: dict[str, list[Fact]], object_type: str) -> int:
        return _mask(self.object_ids, {o for o, kind in facts["objecttype"] if kind == object_type})


def bits(mask: int) -> Iterator[int]:
    """The positions of the set bits of ``mask``, lowest first.

    >>> list(bits(0b1101))
    [0, 2, 3]
    """
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def class_of(name: str) -> str:
    """The class in an entity's name.

    >>> class_of("drawer 10")
    'drawer'
    """
    return name.rpartition(" ")[0]


def _mask(ids: tuple[str, ...], members: set[str]) -> int:
    return sum(1 << i for i, entity in enumerate(ids) if entity in members)


def _function(facts: list[Fact], predicate: str) -> dict[str, str]:
    """A relation that every game keeps as a function."""
    mapping: dict[str, str] = {}
    for key, value in facts:
        if mapping.setdefault(key, value) != value:
            raise GameFormatError(f"{predicate} {key} has two values: {mapping[key]} and {value}")
    return mapping


def _name_entities(ids: Iterable[str]) -> dict[str, str]:
    ordered = sorted(set(ids))
    stems = {}
    for entity in ordered:
        stem, bar, _ = entity.partition("_bar_")
        if bar:
            stems[entity] = stem + ("basin" if "basin" in entity else "")
    remaining = Counter(stems.values())
    names = {}
    for entity in ordered:
        if entity not in stems:
            names[entity] = f"{entity} "  # as the original leaves it; no such name occurs in a command
            continue
        names[entity] = f"{stems[entity]} {remaining[stems[entity]]}"
        remaining[stems[entity]] -= 1
    return names
