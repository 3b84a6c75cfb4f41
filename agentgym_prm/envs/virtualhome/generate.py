"""Builtin tasks: apartments and activities drawn by rule, solvable by construction, the same on every machine.

``record(split, index, difficulty, unseen)`` is a pure function and returns a task file's record (kind "whole" in
``task.py``). What distinguishes the splits:

============ ========================== =====================================================================
split        scenes                     activities
============ ========================== =====================================================================
train        0 to ``SEEN_SCENES`` - 1   ``ACTIVITIES``
valid_seen   the same                   the same, with other draws
valid_unseen the same                   ``UNSEEN_ACTIVITIES``; with ``unseen="scene"`` the others, in new scenes
============ ========================== =====================================================================

Of the unseen activities ``Work`` is one of full apartments only: no small one happens to hold a desk and a computer.

A scene is rooms and furniture; a task adds things, states and where the character stands. ``small`` apartments have
three rooms, 10-12 pieces of furniture and six things, no two of a class, and descriptions in class names; ``full`` ones
are as large as the benchmark's, with several things of many classes and descriptions in various words.

Every number comes from ``random.Random(text).random()``, which Python keeps stable across versions and platforms; a
change of the tables or of the order of the draws changes the tasks and must bump ``VERSION``.
"""

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.goal import conditions_goal
from agentgym_prm.envs.virtualhome.graph import Apartment
from agentgym_prm.envs.virtualhome.homes import (
    ACTIVITIES,
    CLAUSES,
    FURNITURE,
    STRUCTURE,
    THINGS,
    UNSEEN_ACTIVITIES,
    Activity,
)
from agentgym_prm.envs.virtualhome.planner import plan
from agentgym_prm.errors import UnknownNameError

T = TypeVar("T")
VERSION: Final = "virtualhome-builtin-1"
SPLIT_SIZES: Final = {"train": 10_000, "valid_seen": 1_000, "valid_unseen": 1_000}
DIFFICULTIES: Final = ("small", "full")
UNSEEN: Final = ("activity", "scene")
SEEN_SCENES: Final = {"small": 40, "full": 7}
UNSEEN_SCENES: Final = {"small": 10, "full": 3}
CHARACTER_ID: Final = 1

_SMALL_ROOMS: Final = 3
_SMALL_FURNITURE: Final = (3, 4)
_SMALL_THINGS: Final = 6
_CLOSED: Final = 0.7
"""Probability that what can be opened is closed."""
_UNPLUGGED: Final = 0.25
"""Probability that what has to be switched on is unplugged."""
_NEIGHBOURS: Final = 8
"""In full apartments, how many of the next things in its room everything is close to."""
_MOST: Final = {"small": 16, "full": 24}
"""Longest plan that a task may need."""


def scene_name(number: int, difficulty: str) -> str:
    """Name of a scene."""
    return f"builtin-{difficulty}-{number}"


def record(split: str, index: int, difficulty: str, unseen: str = "activity") -> dict[str, Any]:
    """One task as the record of a task file; its program is a plan that reaches the goal.

    Args:
        split: A key of ``SPLIT_SIZES``.
        index: Number of the task, from 0 to ``SPLIT_SIZES[split] - 1``.
        difficulty: One of ``DIFFICULTIES``.
        unseen: What is new in ``valid_unseen``, one of ``UNSEEN``; the other splits do not depend on it.

    Raises:
        UnknownNameError: No such split, difficulty, or kind of split.
        IndexError: No such index.
    """
    for kind, name, valid in (
        ("split", split, SPLIT_SIZES),
        ("difficulty", difficulty, DIFFICULTIES),
        ("kind of unseen tasks", unseen, UNSEEN),
    ):
        if name not in valid:
            raise UnknownNameError.of(kind, name, valid)
    if not 0 <= index < SPLIT_SIZES[split]:
        raise IndexError(f"index must be in [0, {SPLIT_SIZES[split]}) in the split {split}, got {index}")
    part = f"{split}-{unseen}" if split == "valid_unseen" else split
    for attempt in range(100):
        rng = random.Random(f"{VERSION}/{difficulty}/{part}/{index}/{attempt}")
        drawn = _draw(rng, part, difficulty)
        program = _program(drawn)
        if program is not None and 0 < len(program) <= _MOST[difficulty]:
            slug = drawn["task_name"].lower().replace(" ", "-")
            return {"id": f"{difficulty}/{part}/{index}/{slug}", **drawn, "program": list(program)}
    raise AssertionError(f"no solvable task in a hundred draws for {difficulty}/{part}/{index}")


def _draw(rng: random.Random, part: str, difficulty: str) -> dict[str, Any]:
    new_scene, new_activity = part == "valid_unseen-scene", part == "valid_unseen-activity"
    activities = UNSEEN_ACTIVITIES if new_activity else ACTIVITIES
    seen, other = SEEN_SCENES[difficulty], UNSEEN_SCENES[difficulty]
    while True:
        number = seen + int(rng.random() * other) if new_scene else int(rng.random() * seen)
        scene = _scene(number, difficulty)
        activity = _pick(rng, activities)
        meaning = _meaning(rng, activity, scene)
        if meaning is not None:
            break
    home = _Home(rng, scene, activity, meaning, difficulty)
    return {
        "scene": scene_name(number, difficulty),
        "task_name": activity.name,
        "description": _description(rng, activity, meaning, difficulty),
        "goal": {"vh_goal": {"actions": [], "goal": _conditions(activity, meaning, home.ids)}},
        "init_graph": {"nodes": home.nodes, "edges": home.edges},
    }


@lru_cache(maxsize=128)
def _scene(number: int, difficulty: str) -> Mapping[str, tuple[str, ...]]:
    """The furniture of each room."""
    rng = random.Random(f"{VERSION}/{difficulty}/scene {number}")
    if difficulty == "full":
        rooms = [(room, room) for room in FURNITURE]
        if rng.random() < 0.5:
            rooms.append(("kids_bedroom", "bedroom"))
        return {name: _most(rng, tuple(FURNITURE[kind])) for name, kind in _shuffled(rng, rooms)}
    least, most = _SMALL_FURNITURE
    scene = {}
    for room in _shuffled(rng, FURNITURE)[:_SMALL_ROOMS]:
        # The first pieces of the tables are what most activities need.
        pieces = list(FURNITURE[room])
        count = least + int(rng.random() * (most - least + 1))
        scene[room] = (*pieces[:1], *_shuffled(rng, pieces[1:])[: count - 1])
    return scene


def _most(rng: random.Random, pieces: tuple[str, ...]) -> tuple[str, ...]:
    """All but one to three of the pieces, the first of which stays."""
    left_out = _shuffled(rng, pieces[1:])[: 1 + int(rng.random() * 3)]
    return tuple(piece for piece in pieces if piece not in left_out)


def _meaning(rng: random.Random, activity: Activity, scene: Mapping[str, Sequence[str]]) -> dict[str, str] | None:
    """A class for each slot; ``None`` if the scene has none for one of them."""
    furniture = {piece for pieces in scene.values() for piece in pieces}
    meaning: dict[str, str] = {}
    for slot, classes in activity.slots.items():
        fit = [name for name in classes if (name in furniture or name in THINGS) and name not in meaning.values()]
        if not fit:
            return None
        meaning[slot] = _pick(rng, fit)
    return meaning


def _description(rng: random.Random, activity: Activity, meaning: Mapping[str, str], difficulty: str) -> str:
    parts = []
    for clause in activity.clauses:
        verb, *slots = clause.split()
        wording = CLAUSES[verb][0] if difficulty == "small" else _pick(rng, CLAUSES[verb])
        names = [meaning[slot] for slot in slots]
        if difficulty == "full":
            names = [f"the {name.replace('_', ' ')}" for name in names]
        parts.append(wording.format(*names))
    return ", ".join(parts)


def _conditions(activity: Activity, meaning: Mapping[str, str], ids: Mapping[str, int]) -> list[dict[str, Any]]:
    conditions: list[dict[str, Any]] = []

    def state(name: str, value: str) -> None:
        node_id = CHARACTER_ID if name == "character" else ids[name]
        conditions.append({"id": node_id, "class_name": name, "state": value})

    def edge(start: int, relation: str, stop: int) -> None:
        conditions.append({"from_id": start, "relation_type": relation, "to_id": stop})

    for clause in activity.clauses:
        verb, *slots = clause.split()
        names = [meaning[slot] for slot in slots]
        first = ids[names[0]]
        if verb in ("in", "pour"):
            edge(first, "INSIDE", ids[names[1]])
        elif verb == "on":
            edge(first, "ON", ids[names[1]])
        elif verb == "wear":
            edge(first, "ON", CHARACTER_ID)
        elif verb == "hold":
            edge(CHARACTER_ID, "HOLDS_RH", first)
        elif verb in ("sit", "lie"):
            edge(CHARACTER_ID, "ON", first)
            state("character", "SITTING" if verb == "sit" else "LYING")
        else:
            state(names[0], {"close": "CLOSED", "switch_on": "ON", "switch_off": "OFF"}[verb])
    return conditions


class _Home:
    """The graph of one task in the making.

    Attributes:
        ids: For each class the id of its first node, which the goal means.
    """

    def __init__(
        self,
        rng: random.Random,
        scene: Mapping[str, Sequence[str]],
        activity: Activity,
        meaning: Mapping[str, str],
        difficulty: str,
    ) -> None:
        self._rng, self._activity, self._meaning = rng, activity, meaning
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []
        self.ids: dict[str, int] = {}
        self._room_of: dict[int, int] = {}
        self._add("character", "Characters", (), ())
        self._furnish(scene, full=difficulty == "full")
        self._scatter(full=difficulty == "full")
        self._edge(CHARACTER_ID, "INSIDE", _pick(rng, [self.ids[room] for room in scene]))
        if difficulty == "full":
            self._draw_together(scene)

    def _furnish(self, scene: Mapping[str, Sequence[str]], *, full: bool) -> None:
        for room, pieces in scene.items():
            room_id = self._add(room, "Rooms", (), ())
            properties = FURNITURE["bedroom" if room == "kids_bedroom" else room]
            for piece in pieces:
                self._stand(piece, properties[piece], room_id)
            for name, (count, qualities) in STRUCTURE.items() if full else ():
                for _ in range(count):
                    self._stand(name, qualities, room_id)

    def _stand(self, name: str, properties: tuple[str, ...], room_id: int) -> None:
        node_id = self._add(name, "Furniture", properties, self._states(name, properties))
        self._edge(node_id, "INSIDE", room_id)
        self._room_of[node_id] = room_id

    def _states(self, name: str, properties: tuple[str, ...]) -> tuple[str, ...]:
        """States at the start; of what the goal names, such that there is something to do."""
        wanted = {clause.split()[0] for clause in self._activity.clauses if name in self._named_by(clause)}
        states = []
        if "CAN_OPEN" in properties:
            states.append("CLOSED" if self._rng.random() < _CLOSED else "OPEN")
        if "HAS_SWITCH" in properties:
            states.append("ON" if "switch_off" in wanted else "OFF")
        if "HAS_PLUG" in properties:
            unplugged = "switch_on" in wanted and self._rng.random() < _UNPLUGGED
            states.append("PLUGGED_OUT" if unplugged else "PLUGGED_IN")
        return tuple(states)

    def _named_by(self, clause: str) -> list[str]:
        return [self._meaning[slot] for slot in clause.split()[1:]]

    def _scatter(self, *, full: bool) -> None:
        """Put things where they usually lie; what the goal names first, and not where it is to be."""
        wanted = [name for name in self._meaning.values() if name in THINGS]
        others = _shuffled(self._rng, [name for name in THINGS if name not in wanted])
        copies = [name for name in THINGS for _ in range(int(self._rng.random() * 3))] if full else []
        for name in [*wanted, *(others if full else others[: _SMALL_THINGS - len(wanted)]), *copies]:
            properties, usual = THINGS[name]
            together = [self._named_by(clause) for clause in self._activity.clauses]
            place = self._place(usual, {each for names in together if name in names for each in names})
            node_id = self._add(name, "placable_objects", properties, ())
            held_in = "SURFACES" not in self._properties(place)
            if held_in:
                self._edge(node_id, "INSIDE", place)
            else:
                self._edge(node_id, "ON", place)
                self._edge(node_id, "INSIDE", self._room_of[place])
            self._both_close(node_id, place)

    def _place(self, usual: Sequence[str], goals: set[str]) -> int:
        fit = [name for name in usual if name in self.ids and name not in goals]
        if not fit:
            fit = [
                node["class_name"]
                for node in self.nodes
                if node["category"] == "Furniture"
                and {"SURFACES", "CONTAINERS"} & set(node["properties"])
                and node["class_name"] not in goals
                and node["class_name"] not in STRUCTURE
            ]
        return self.ids[_pick(self._rng, fit)]

    def _draw_together(self, scene: Mapping[str, Sequence[str]]) -> None:
        for room in scene:
            inside = [node_id for node_id, room_id in self._room_of.items() if room_id == self.ids[room]]
            order = _shuffled(self._rng, inside)
            for position, node_id in enumerate(order):
                for other in order[position + 1 : position + 1 + _NEIGHBOURS]:
                    self._both_close(node_id, other)

    def _properties(self, node_id: int) -> list[str]:
        return self.nodes[node_id - 1]["properties"]  # type: ignore[no-any-return]

    def _add(self, name: str, category: str, properties: tuple[str, ...], states: tuple[str, ...]) -> int:
        node_id = len(self.nodes) + 1
        self.nodes.append(
            {
                "id": node_id,
                "class_name": name,
                "category": category,
                "properties": list(properties),
                "states": list(states),
                "prefab_name": None,
                "bounding_box": None,
            }
        )
        self.ids.setdefault(name, node_id)
        return node_id

    def _edge(self, start: int, relation: str, stop: int) -> None:
        self.edges.append({"from_id": start, "relation_type": relation, "to_id": stop})

    def _both_close(self, one: int, other: int) -> None:
        self._edge(one, "CLOSE", other)
        self._edge(other, "CLOSE", one)


def _program(drawn: Mapping[str, Any]) -> tuple[str, ...] | None:
    engine = Engine()
    engine.reset(Apartment(drawn["init_graph"]))
    lines = plan(engine, conditions_goal(drawn["goal"]["vh_goal"]))
    return None if lines is None else tuple(map(str, lines))


def _pick(rng: random.Random, choices: Sequence[T]) -> T:
    return choices[int(rng.random() * len(choices))]


def _shuffled(rng: random.Random, items: Any) -> list[Any]:
    return [item for _, _, item in sorted((rng.random(), number, item) for number, item in enumerate(items))]
