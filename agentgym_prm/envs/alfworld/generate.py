"""Builtin games: rooms furnished and tasks drawn by rule, solvable by construction, the same on every machine.

``describe(split, index, difficulty)`` is a pure function. What distinguishes the splits:

============ =========================== ===============================================================================
split        room layouts                where the objects of the goal's class lie at the start
============ =========================== ===============================================================================
train        train                       on ``PLACES`` pairs of object and receptacle class
valid_seen   train                       likewise, in combinations of layout, goal and receptacles train never uses
valid_unseen unseen: other receptacles   on ``HELD_OUT`` pairs, which neither of the others uses for any object
============ =========================== ===============================================================================

No goal of any split asks for a held-out pair. The task types take turns: each block of six games, from index 0 on, has
all six. ``small`` games have 5-8 receptacles and 6-12 objects, ``full`` ones as many as the benchmark's.

Simpler than the benchmark: an object lies in one receptacle at most and at that receptacle's location, nothing is
clean, hot or cool at the start, no object lies in another, and a goal's receptacles hold no object of its class.

Every number comes from ``random.Random(text).random()``, which Python keeps stable across versions and platforms; a
change of the tables or of the order of the draws changes the games and must bump ``VERSION``.
"""

import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeVar

from agentgym_prm.envs.alfworld.game import Fact, GameDescription
from agentgym_prm.envs.alfworld.goal import TASK_TYPES, Goal
from agentgym_prm.envs.alfworld.rooms import (
    ACCEPTS,
    AFFORDANCES,
    DOORS,
    GOAL_RECEPTACLES,
    HELD_OUT,
    LAMP,
    PLACES,
    ROOMS,
    Room,
    Size,
)
from agentgym_prm.errors import UnknownNameError

T = TypeVar("T")
Position = tuple[int, int, int]
"""x, height and z in centimetres."""

VERSION: Final = "alfworld-builtin-1"
SPLIT_SIZES: Final = {"train": 10_000, "valid_seen": 1_000, "valid_unseen": 1_000}
DIFFICULTIES: Final = ("small", "full")
TRAIN_LAYOUTS: Final = 40
"""Layouts of each kind of room and difficulty that train and valid_seen share: numbers 0 to 39."""
UNSEEN_LAYOUTS: Final = 20
"""Layouts of each kind of room and difficulty that only valid_unseen uses: numbers 40 to 59."""

_CAPABILITY = {
    "pick_clean_then_place_in_recep": "cleanable",
    "pick_heat_then_place_in_recep": "heatable",
    "pick_cool_then_place_in_recep": "coolable",
}
_APPLIANCE = {
    "pick_clean_then_place_in_recep": "SinkBasin",
    "pick_heat_then_place_in_recep": "Microwave",
    "pick_cool_then_place_in_recep": "Fridge",
}
_SENTENCES = {
    "pick_and_place_simple": ("put a {obj} in {recep}.", "put some {obj} on {recep}."),
    "look_at_obj_in_light": ("look at {obj} under the {lamp}.", "examine the {obj} with the {lamp}."),
    "pick_clean_then_place_in_recep": ("put a clean {obj} in {recep}.", "clean some {obj} and put it in {recep}."),
    "pick_heat_then_place_in_recep": ("put a hot {obj} in {recep}.", "heat some {obj} and put it in {recep}."),
    "pick_cool_then_place_in_recep": ("put a cool {obj} in {recep}.", "cool some {obj} and put it in {recep}."),
    "pick_two_obj_and_place": ("put two {obj} in {recep}.", "find two {obj} and put them in {recep}."),
}
_HEIGHTS = {
    "Cabinet": (40, 50, 195),
    "CounterTop": (95,),
    "DiningTable": (75,),
    "Drawer": (20, 40, 60, 80),
    "HandTowelHolder": (150,),
    "Microwave": (90, 160),
    "Shelf": (60, 110, 150, 190),
    "SinkBasin": (85,),
    "StoveBurner": (92,),
    "TowelHolder": (140,),
}
_NEIGHBOURS = ("Cabinet", "Drawer", "Shelf", "StoveBurner")
"""Classes of which, in full rooms, a few stand so close together that the agent reaches them from one location."""
_NEARNESS = 0.15
"""How likely each of them shares the location of the one before it."""
_RARITY = 0.35
"""Probability that a full room has objects of a rare class."""
_RESERVED = 4
"""One in so many combinations of layout, goal and start receptacles belongs to valid_seen instead of train."""


@dataclass(frozen=True, slots=True)
class Receptacle:
    """A receptacle of a layout: its id and location as in the game's facts, its class and where it stands."""

    entity: str
    kind: str
    location: str
    position: Position
    openable: bool


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """A room without its objects. Each exists once, so two are equal only if they are the same.

    ``floor`` are locations without a receptacle: the agent starts at one of them, and fixtures stand at others.
    """

    name: str
    room: Room
    by_kind: dict[str, tuple[Receptacle, ...]]
    floor: tuple[str, ...]

    @property
    def receptacles(self) -> list[Receptacle]:
        """All receptacles, class by class."""
        return [receptacle for group in self.by_kind.values() for receptacle in group]


@dataclass(frozen=True, slots=True)
class _Thing:
    entity: str
    kind: str
    location: str
    receptacle: str = ""


@dataclass(frozen=True, slots=True)
class _Task:
    """A layout and a goal in it: the classes of the objects and of the receptacle, which is empty for looking."""

    layout: Layout
    task_type: str
    kind: str
    destination: str


def describe(split: str, index: int, difficulty: str) -> GameDescription:
    """Game ``index`` of ``split``.

    Args:
        split: A key of ``SPLIT_SIZES``.
        index: Number of the game, from 0 to ``SPLIT_SIZES[split] - 1``.
        difficulty: One of ``DIFFICULTIES``.

    Returns:
        The game. Its ``walkthrough`` is empty.

    Raises:
        UnknownNameError: No such split or difficulty.
        ValueError: ``index`` is out of range.
    """
    if split not in SPLIT_SIZES:
        raise UnknownNameError.of("split", split, SPLIT_SIZES)
    if difficulty not in DIFFICULTIES:
        raise UnknownNameError.of("difficulty", difficulty, DIFFICULTIES)
    if not 0 <= index < SPLIT_SIZES[split]:
        raise ValueError(f"index must be in [0, {SPLIT_SIZES[split]}) for split {split!r}, got {index}")
    rng = random.Random(f"{VERSION}/{difficulty}/{split}/{index}")
    task, places = _draw_task(rng, split, difficulty, _task_type(split, index, difficulty))
    things = _draw_things(rng, task, places, unseen=split == "valid_unseen", full=difficulty == "full")

    look = task.task_type == "look_at_obj_in_light"
    goal = Goal(task.task_type, _type(task.kind), _type(task.destination), _type(LAMP) if look else "")
    sentence = _pick(rng, _SENTENCES[task.task_type])
    name = f"{task.task_type}-{task.kind}-{task.destination or LAMP}"
    return GameDescription(
        task_id=f"builtin-{difficulty}/{split}/{index:06d}/{name}",
        task=sentence.format(obj=task.kind.lower(), recep=task.destination.lower(), lamp=LAMP.lower()),
        facts=_facts(task.layout, things, start=_pick(rng, task.layout.floor)),
        goal=goal,
    )


@cache
def layouts(split: str, difficulty: str) -> tuple[Layout, ...]:
    """All layouts that the games of ``split`` use, kitchens first."""
    numbers = slice(TRAIN_LAYOUTS, None) if split == "valid_unseen" else slice(TRAIN_LAYOUTS)
    return tuple(layout for room in ROOMS for layout in _pool(room, difficulty)[numbers])


def layout(room: str, difficulty: str, number: int) -> Layout:
    """Layout ``number`` of a kind of room: below ``TRAIN_LAYOUTS`` for train and valid_seen, else for valid_unseen."""
    return _pool(room, difficulty)[number]


# --- drawing ---


def _pick(rng: random.Random, items: Sequence[T]) -> T:
    return items[int(rng.random() * len(items))]


def _between(rng: random.Random, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    return low + int(rng.random() * (high - low + 1))


def _shuffled(rng: random.Random, items: Sequence[T]) -> Iterator[T]:
    """The items in random order, drawn one by one as they are asked for."""
    remaining = list(items)
    while remaining:
        position = int(rng.random() * len(remaining))
        remaining[position], remaining[-1] = remaining[-1], remaining[position]
        yield remaining.pop()


# --- layouts ---


@cache
def _pool(room: str, difficulty: str) -> tuple[Layout, ...]:
    """All layouts of a kind of room. No two have the same receptacle classes in the same numbers."""
    rng = random.Random(f"{VERSION}/layouts/{room}/{difficulty}")
    size = ROOMS[room].sizes[difficulty]
    pool: list[Layout] = []
    seen: list[dict[str, int]] = []
    while len(pool) < TRAIN_LAYOUTS + UNSEEN_LAYOUTS:
        counts = _draw_counts(rng, size)
        if counts not in seen:
            seen.append(counts)
            name = f"{room}-{difficulty}-{len(pool):02d}"
            pool.append(_furnish(rng, name, ROOMS[room], counts, full=difficulty == "full"))
    return tuple(pool)


def _draw_counts(rng: random.Random, size: Size) -> dict[str, int]:
    while True:
        counts = {kind: _between(rng, low, high) for kind, (low, high) in size.counts.items()}
        doors = sum(number for kind, number in counts.items() if kind in DOORS)
        if size.total[0] <= sum(counts.values()) <= size.total[1] and size.doors[0] <= doors <= size.doors[1]:
            return {kind: number for kind, number in counts.items() if number}


def _furnish(rng: random.Random, name: str, room: Room, counts: dict[str, int], *, full: bool) -> Layout:
    half_width, half_depth = (_between(rng, *((12, 24) if full else (7, 10))) * 25 for _ in "xz")
    locations: list[str] = []
    by_kind: dict[str, list[Receptacle]] = {}
    for kind, number in counts.items():
        group = by_kind.setdefault(kind, [])
        while len(group) < number:
            position, location = _draw_place(rng, kind, half_width, half_depth)
            if full and group and kind in _NEIGHBOURS and rng.random() < _NEARNESS:
                location = group[-1].location
            elif location in locations:
                continue
            entity = _receptacle_id(kind, position)
            if all(entity != other.entity for other in group):
                locations.append(location)
                group.append(Receptacle(entity, kind, location, position, rng.random() < DOORS.get(kind, 0.0)))
    floor: list[str] = []
    while len(floor) < 8:
        steps = (_between(rng, -half // 25 + 4, half // 25 - 4) for half in (half_width, half_depth))
        location = _location_id(*steps, turn=_between(rng, 0, 3), horizon=15)
        if location not in floor:
            floor.append(location)
    return Layout(name, room, {kind: tuple(group) for kind, group in by_kind.items()}, tuple(floor))


def _draw_place(rng: random.Random, kind: str, half_width: int, half_depth: int) -> tuple[Position, str]:
    """A place at a wall, and the location half a metre in front of it from which the agent faces it."""
    turn, height = _between(rng, 0, 3), _pick(rng, _HEIGHTS.get(kind, (50,)))
    along_x = turn in (0, 2)
    half_wall, distance = (half_width, half_depth) if along_x else (half_depth, half_width)
    along = _between(rng, 2 - half_wall // 25, half_wall // 25 - 2)
    outwards = 1 if turn in (0, 1) else -1
    horizon = -30 if height > 180 else 0 if height > 120 else 30 if height > 90 else 45 if height > 45 else 60
    x, z = (along * 25, outwards * distance) if along_x else (outwards * distance, along * 25)
    step_x, step_z = (along, z // 25 - 2 * outwards) if along_x else (x // 25 - 2 * outwards, along)
    return (x, height, z), _location_id(step_x, step_z, turn=turn, horizon=horizon)


def _location_id(x: int, z: int, *, turn: int, horizon: int) -> str:
    """Grid cell (25 cm), direction faced (quarter turns) and how far down the agent looks (degrees)."""
    return "loc" + "".join(f"_bar_{'_minus_' if v < 0 else ''}{abs(v)}" for v in (x, z, turn, horizon))


def _entity_id(stem: str, position: Position) -> str:
    """Id of an entity whose name is ``stem``.

    >>> _entity_id("Apple", (120, 95, -7))
    'apple_bar__plus_01_dot_20_bar__plus_00_dot_95_bar__minus_00_dot_07'
    """
    x, y, z = (f"_bar_{'_minus' if v < 0 else '_plus'}_{abs(v) // 100:02d}_dot_{abs(v) % 100:02d}" for v in position)
    return f"{stem.lower()}{x}{y}{z}"


def _receptacle_id(kind: str, position: Position) -> str:
    """Basins are parts of the sink or bathtub at their place and named after it."""
    stem = kind.removesuffix("Basin")
    return _entity_id(stem, position) + (f"_bar_{kind.lower()}" if stem != kind else "")


# --- tasks ---


def _task_type(split: str, index: int, difficulty: str) -> str:
    block, position = divmod(index, len(TASK_TYPES))
    rng = random.Random(f"{VERSION}/{difficulty}/{split}/block {block}")
    return list(_shuffled(rng, TASK_TYPES))[position]


def _draw_task(rng: random.Random, split: str, difficulty: str, task_type: str) -> tuple[_Task, tuple[Receptacle, ...]]:
    """A task, and the start receptacle of each object of its class."""
    for room_layout in _shuffled(rng, layouts(split, difficulty)):
        for kind, destination in _shuffled(rng, _goals(room_layout, task_type)):
            task = _Task(room_layout, task_type, kind, destination)
            needed = 2 if task_type == "pick_two_obj_and_place" else 1
            copies = max(needed, _draw_copies(rng, full=difficulty == "full"))
            if places := _draw_target_places(rng, split, task, copies):
                return task, places
    raise AssertionError(f"no layout of {split} has a {difficulty} task of type {task_type}")


@cache
def _goals(room_layout: Layout, task_type: str) -> tuple[tuple[str, str], ...]:
    """Classes of the target object and of the goal's receptacle (empty for looking) that the layout allows."""
    room, present = room_layout.room, room_layout.by_kind
    appliance = _APPLIANCE.get(task_type, "")
    if appliance and appliance not in present:
        return ()
    capable = AFFORDANCES[_CAPABILITY.get(task_type, "pickupable")]
    kinds = [kind for kind in room.common + room.rare if kind in capable]
    if task_type == "look_at_obj_in_light":
        lit = LAMP in room.rare and any(place in present for place in PLACES[LAMP])
        return tuple((kind, "") for kind in kinds if lit)
    return tuple(
        (kind, destination)
        for kind in kinds
        for destination in present
        if destination in GOAL_RECEPTACLES
        and destination != appliance
        and kind in ACCEPTS[destination]
        and destination not in HELD_OUT[kind]
    )


@cache
def _met(room_layout: Layout, kind: str) -> tuple[tuple[Receptacle, ...], ...]:
    """Groups of receptacles where objects of class ``kind`` lie in train, repeated by their weights."""
    return _groups(room_layout, PLACES.get(kind, {}))


@cache
def _held_out(room_layout: Layout, kind: str) -> tuple[tuple[Receptacle, ...], ...]:
    return _groups(room_layout, HELD_OUT.get(kind, {}))


def _groups(room_layout: Layout, weights: Mapping[str, int]) -> tuple[tuple[Receptacle, ...], ...]:
    present = room_layout.by_kind
    return tuple(present[place] for place, weight in weights.items() if place in present for _ in range(weight))


def _draw_copies(rng: random.Random, *, full: bool) -> int:
    return _pick(rng, (1, 1, 1, 2, 2, 3) if full else (1, 1, 1, 2))


def _draw_target_places(rng: random.Random, split: str, task: _Task, copies: int) -> tuple[Receptacle, ...]:
    """Start receptacles for all objects of the goal's class, none of them one of the goal; empty if none fit."""
    unseen = split == "valid_unseen"
    groups = _held_out(task.layout, task.kind) if unseen else _met(task.layout, task.kind)
    groups = tuple(group for group in groups if group[0].kind != task.destination)
    for _ in range(32 if groups else 0):
        places = tuple(_pick(rng, _pick(rng, groups)) for _ in range(copies))
        if unseen or _is_reserved(task, places) == (split == "valid_seen"):
            return places
    return ()


def _is_reserved(task: _Task, places: tuple[Receptacle, ...]) -> bool:
    """Whether this combination is one that only valid_seen may use."""
    words = [task.layout.name, task.task_type, task.kind, task.destination, *sorted(place.entity for place in places)]
    return zlib.crc32(" ".join(words).encode()) % _RESERVED == 0


# --- objects ---


def _draw_things(
    rng: random.Random, task: _Task, places: tuple[Receptacle, ...], *, unseen: bool, full: bool
) -> list[_Thing]:
    """All objects of a game, in the order of their ids. ``places`` are those of the goal's objects."""
    room_layout, room = task.layout, task.layout.room
    placed: list[tuple[str, Receptacle | None]] = [(task.kind, receptacle) for receptacle in places]

    def place(kind: str, copies: int, *, or_floor: bool = False) -> None:
        groups = _met(room_layout, kind) + (_held_out(room_layout, kind) if unseen else ())
        if groups or or_floor:
            placed.extend((kind, _pick(rng, _pick(rng, groups)) if groups else None) for _ in range(copies))

    if task.task_type == "look_at_obj_in_light":
        place(LAMP, 1)
    others = [kind for kind in room.common + room.rare if all(kind != known for known, _ in placed)]
    if full:
        for kind in others:
            if kind in room.common or rng.random() < _RARITY:
                place(kind, _draw_copies(rng, full=True))
        for kind, (low, high) in room.fixtures.items():
            place(kind, _between(rng, low, high), or_floor=True)
    else:
        total = _between(rng, 6, 12)
        for kind in _shuffled(rng, others):
            place(kind, min(_draw_copies(rng, full=False), total - len(placed)))
    return _name_things(rng, room_layout, placed, plumbing=full)


def _name_things(
    rng: random.Random, room_layout: Layout, placed: list[tuple[str, Receptacle | None]], *, plumbing: bool
) -> list[_Thing]:
    """Give each object an id, made of where it lies, that no other has; ``plumbing`` adds what the basins belong to."""
    things: dict[str, _Thing] = {}
    for kind, receptacle in placed:
        entity = _draw_entity(rng, kind, receptacle)
        while entity in things:
            entity = _draw_entity(rng, kind, receptacle)
        location = receptacle.location if receptacle else _pick(rng, room_layout.floor)
        things[entity] = _Thing(entity, kind, location, receptacle.entity if receptacle else "")
    for basin in room_layout.receptacles if plumbing else ():
        stem = basin.kind.removesuffix("Basin")
        if stem != basin.kind:
            entity = _entity_id(stem, basin.position)
            things[entity] = _Thing(entity, stem, basin.location)
    return [things[entity] for entity in sorted(things)]


def _draw_entity(rng: random.Random, kind: str, receptacle: Receptacle | None) -> str:
    x, y, z = receptacle.position if receptacle else (0, 0, 0)
    reach = 20 if receptacle else 150
    return _entity_id(kind, (x + _between(rng, -reach, reach), y + 5, z + _between(rng, -reach, reach)))


# --- facts ---


@cache
def _type(kind: str) -> str:
    """PDDL name of a class: ``"Apple"`` is ``"appletype"``."""
    return f"{kind.lower()}type" if kind else ""


def _facts(room_layout: Layout, things: list[_Thing], start: str) -> tuple[Fact, ...]:
    """Facts in the order in which the benchmark's files have them."""
    receptacles = room_layout.receptacles
    present = dict.fromkeys(thing.kind for thing in things)
    facts: list[Fact] = [("receptacletype", r.entity, _type(r.kind)) for r in receptacles]
    facts += [("objecttype", thing.entity, _type(thing.kind)) for thing in things]
    facts += [
        ("cancontain", _type(receptacle), _type(kind))
        for receptacle in room_layout.by_kind
        for kind in ACCEPTS[receptacle]
        if kind in present
    ]
    facts += [("openable", r.entity) for r in receptacles if r.openable]
    facts.append(("atlocation", "agent1", start))
    for affordance, kinds in AFFORDANCES.items():
        facts += [(affordance, thing.entity) for thing in things if thing.kind in kinds]
    facts += [("inreceptacle", thing.entity, thing.receptacle) for thing in things if thing.receptacle]
    facts += [("receptacleatlocation", r.entity, r.location) for r in receptacles]
    facts += [("objectatlocation", thing.entity, thing.location) for thing in things]
    return tuple(facts)
