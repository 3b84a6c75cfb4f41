"""A flat of two rooms, small enough to know by heart.

Kitchen: a table with an apple, a knife, a mug and a plate with bread on it; a closed fridge with milk in it; an oven
that is on, a kettle that is unplugged, a radio that is on, a sink with water. Bedroom: a bed, a chair with a dog on it,
a closed wardrobe with a coat in it, a book, a television that the chair faces. A ghost is in no room.
"""

from typing import Any

from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.graph import Apartment

KITCHEN, BEDROOM, ME, TABLE, FRIDGE, BED, CHAIR, DOOR = 1, 2, 3, 4, 5, 6, 7, 8
APPLE, KNIFE, MUG, PLATE, BREAD, MILK, OVEN, KETTLE, RADIO, SINK, WATER = range(10, 21)
DOG, WARDROBE, COAT, BOOK, TELEVISION, GHOST, LAMP, FACE, DESK, TOWEL, WOMAN = range(30, 41)

NODES: list[tuple[int, str, str, str]] = [
    (KITCHEN, "kitchen", "", ""),
    (BEDROOM, "bedroom", "", ""),
    (ME, "character", "", ""),
    (TABLE, "table", "SURFACES MOVABLE", "DIRTY"),
    (FRIDGE, "fridge", "CAN_OPEN CONTAINERS HAS_PLUG HAS_SWITCH", "CLOSED PLUGGED_IN OFF"),
    (BED, "bed", "LIEABLE SITTABLE SURFACES", ""),
    (CHAIR, "chair", "SITTABLE", ""),
    (DOOR, "door", "CAN_OPEN", "CLOSED"),
    (APPLE, "apple", "GRABBABLE EATABLE CUTTABLE", ""),
    (KNIFE, "bread_knife", "GRABBABLE", ""),
    (MUG, "mug", "GRABBABLE RECIPIENT", ""),
    (PLATE, "plate", "GRABBABLE SURFACES", "DIRTY"),
    (BREAD, "bread", "GRABBABLE EATABLE", ""),
    (MILK, "milk", "GRABBABLE DRINKABLE POURABLE", ""),
    (OVEN, "oven", "CAN_OPEN HAS_SWITCH HAS_PLUG", "CLOSED ON PLUGGED_IN"),
    (KETTLE, "kettle", "GRABBABLE HAS_SWITCH HAS_PLUG", "OFF PLUGGED_OUT"),
    (RADIO, "radio", "HAS_SWITCH HAS_PLUG MOVABLE", "ON PLUGGED_IN"),
    (SINK, "sink", "RECIPIENT", ""),
    (WATER, "water", "POURABLE", ""),
    (DOG, "dog", "", ""),
    (WARDROBE, "wardrobe", "CAN_OPEN CONTAINERS", "CLOSED"),
    (COAT, "coat", "GRABBABLE CLOTHES", "DIRTY"),
    (BOOK, "book", "GRABBABLE READABLE", ""),
    (TELEVISION, "television", "LOOKABLE HAS_SWITCH", "OFF"),
    (GHOST, "ghost", "LOOKABLE", ""),
    (LAMP, "lamp", "LOOKABLE", ""),
    (FACE, "face", "BODY_PART", ""),
    (DESK, "desk", "", "CLOSED"),
    (TOWEL, "towel", "GRABBABLE", ""),
    (WOMAN, "woman", "PERSON", ""),
]
INSIDE: dict[int, list[int]] = {
    KITCHEN: [ME, TABLE, FRIDGE, APPLE, KNIFE, MUG, PLATE, BREAD, OVEN, KETTLE, RADIO, SINK, WATER, LAMP, FACE],
    BEDROOM: [BED, CHAIR, DOG, WARDROBE, BOOK, TELEVISION, DESK, TOWEL, WOMAN, DOOR],
    FRIDGE: [MILK],
    WARDROBE: [COAT],
}
ON: dict[int, list[int]] = {TABLE: [APPLE, KNIFE, MUG, PLATE, KETTLE], PLATE: [BREAD], CHAIR: [DOG], SINK: [WATER]}
FACING = [(CHAIR, TELEVISION)]


def graph(*, states: dict[int, str] | None = None, edges: tuple[tuple[int, str, int], ...] = ()) -> dict[str, Any]:
    """The flat in its JSON form, with other states of some nodes and additional edges."""
    nodes = [
        {
            "id": number,
            "class_name": name,
            "category": "Rooms" if number in (KITCHEN, BEDROOM) else "Props",
            "properties": properties.split(),
            "states": (states or {}).get(number, start).split(),
        }
        for number, name, properties, start in NODES
    ]
    found = [(thing, "INSIDE", place) for place, things in INSIDE.items() for thing in things]
    for place, things in ON.items():
        for thing in things:
            found += [(thing, "ON", place), (thing, "CLOSE", place), (place, "CLOSE", thing)]
    found += [(start, "FACING", stop) for start, stop in FACING]
    found += [(DOOR, "BETWEEN", KITCHEN), (DOOR, "BETWEEN", BEDROOM), *edges]
    return {
        "nodes": nodes,
        "edges": [{"from_id": start, "relation_type": relation, "to_id": stop} for start, relation, stop in found],
    }


def line(action: str, *ids: int) -> str:
    """A script line."""
    names = {number: name for number, name, _, _ in NODES}
    return " ".join([f"[{action}]", *(f"<{names[number]}> ({number})" for number in ids)])


def play(text: str, engine: Engine | None = None, **changes: Any) -> Engine:
    """An engine after the lines of a short script: ``"walk 10, grab 10"``; every one must succeed."""
    if engine is None:
        engine = Engine()
        engine.reset(Apartment(graph(**changes), "flat"))
    for part in filter(None, text.split(", ")):
        action, *ids = part.split()
        done = engine.execute(line(action.upper(), *map(int, ids)))
        assert done.success, (part, done.message)
    return engine
