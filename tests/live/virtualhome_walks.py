"""Random scripts that reach the deep states of an apartment, for playing two executors side by side.

A uniform script mostly walks; this one picks an *action* first and favours the rare ones, and now and then it writes a
line at random, mostly about what is near, so that every complaint is heard. ``furnish`` adds to an apartment what it
lacks: food, clothes, water, people, plugs pulled out, things in no room or in two, a character that sits or lies.
"""

import copy
import random
from collections.abc import Mapping
from typing import Any

from agentgym_prm.envs.virtualhome.actions import ACTIONS
from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.graph import Apartment, Property
from agentgym_prm.envs.virtualhome.script import Action

WEIGHTS = {
    Action.WALK: 8.0,
    Action.FIND: 4.0,
    Action.GRAB: 14.0,
    Action.PUTBACK: 5.0,
    Action.PUTIN: 7.0,
    Action.PUTOBJBACK: 5.0,
    Action.PUTON: 6.0,
    Action.POUR: 6.0,
    Action.OPEN: 5.0,
    Action.SIT: 3.0,
    Action.LIE: 3.0,
    Action.DROP: 2.0,
    Action.READ: 4.0,
    Action.CUT: 20.0,
    Action.DRINK: 3.0,
    Action.STANDUP: 4.0,
    Action.WATCH: 4.0,
    Action.SWITCHON: 3.0,
}
RANDOM_SHARE = 0.25
EXTRAS = (
    ("water", ["DRINKABLE", "POURABLE"], []),
    ("cup", ["GRABBABLE", "RECIPIENT", "POURABLE"], ["CLEAN"]),
    ("bowl", ["GRABBABLE", "RECIPIENT"], ["DIRTY"]),
    ("food_apple", ["GRABBABLE", "EATABLE", "CUTTABLE"], []),
    ("food_bread", ["GRABBABLE", "EATABLE"], []),
    ("knife", ["GRABBABLE"], []),
    ("shirt", ["GRABBABLE", "CLOTHES", "HANGABLE"], ["DIRTY"]),
    ("hat", ["GRABBABLE", "CLOTHES"], []),
    ("novel", ["GRABBABLE", "READABLE", "CAN_OPEN"], ["CLOSED"]),
    ("newspaper", ["GRABBABLE", "READABLE"], []),
    ("box", ["GRABBABLE", "CAN_OPEN", "CONTAINERS"], ["OPEN"]),
    ("basket", ["GRABBABLE", "CONTAINERS"], []),
    ("towel", ["GRABBABLE"], []),
    ("sponge", ["GRABBABLE"], []),
    ("hands_both", ["BODY_PART"], []),
    ("face", ["BODY_PART"], []),
    ("child", ["PERSON"], []),
    ("woman", ["PERSON"], []),
    ("radio", ["GRABBABLE", "HAS_SWITCH", "HAS_PLUG", "MOVABLE"], ["OFF", "PLUGGED_OUT"]),
    ("laptop", ["GRABBABLE", "HAS_SWITCH", "HAS_PLUG", "LOOKABLE", "CAN_OPEN"], ["OFF", "PLUGGED_IN", "CLOSED"]),
    ("oven_small", ["HAS_SWITCH", "HAS_PLUG", "CAN_OPEN", "CONTAINERS"], ["ON", "PLUGGED_IN", "CLOSED"]),
    ("picture", ["LOOKABLE", "GRABBABLE"], []),
    ("button", [], []),
)  # fmt: skip
_FIRST_EXTRA = 5000


def furnish(graph: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The graph with what it lacks, placed at random."""
    rng = random.Random(f"furnish {seed}")
    furnished = {"nodes": copy.deepcopy(graph["nodes"]), "edges": [dict(edge) for edge in graph["edges"]]}
    nodes, edges = furnished["nodes"], furnished["edges"]
    rooms = {node["id"] for node in nodes if node.get("category") == "Rooms"}
    room_of = {e["from_id"]: e["to_id"] for e in edges if e["relation_type"] == "INSIDE" and e["to_id"] in rooms}
    character = next(node for node in nodes if node["class_name"] == "character")
    surfaces = [n["id"] for n in nodes if "SURFACES" in n["properties"] and room_of.get(n["id"])]
    containers = [n["id"] for n in nodes if "CAN_OPEN" in n["properties"] and room_of.get(n["id"])]
    near = [n for n in surfaces + containers if room_of[n] == room_of[character["id"]]]

    def edge(start: int, relation: str, stop: int) -> None:
        edges.append({"from_id": start, "relation_type": relation, "to_id": stop})

    for offset, (name, properties, states) in enumerate(EXTRAS * 2):
        node_id = _FIRST_EXTRA + offset * rng.choice([1, 7, 64])
        while any(node["id"] == node_id for node in nodes):
            node_id += 1
        nodes.append(
            {"id": node_id, "class_name": name, "category": "Props", "properties": properties, "states": states}
        )
        place = rng.choice(near if near and rng.random() < 0.5 else surfaces)
        box = rng.choice(near if near and rng.random() < 0.5 else containers)
        kind = rng.random()
        if kind < 0.5:
            edge(node_id, "ON", place)
            edge(node_id, "INSIDE", room_of[place])
            if rng.random() < 0.2:
                edge(node_id, "ON", rng.choice(surfaces))
        elif kind < 0.75:
            edge(node_id, "INSIDE", box)
            if rng.random() < 0.7:
                edge(node_id, "INSIDE", room_of[box])
        elif kind < 0.95:
            edge(node_id, "INSIDE", room_of[place])
            if rng.random() < 0.2:
                edge(node_id, "INSIDE", rng.choice(sorted(rooms)))
        for other in {place, *rng.sample(surfaces, rng.randrange(0, 9))} if kind < 0.95 else ():
            edge(node_id, "CLOSE", other)
            edge(other, "CLOSE", node_id)
        if "LOOKABLE" in properties and rng.random() < 0.7:
            edge(rng.choice(surfaces), "FACING", node_id)
    for node in nodes:
        if "HAS_PLUG" in node["properties"] and not {"PLUGGED_IN", "PLUGGED_OUT"} & set(node["states"]):
            node["states"] = [*node["states"], rng.choice(["PLUGGED_IN", "PLUGGED_OUT"])]
    posture = rng.random()
    if posture < 0.3:
        character["states"] = ["SITTING"] if posture < 0.15 else ["LYING"]
    return furnished


class ScriptWalk:
    """Chooses lines for one apartment; the choice depends only on the seed and on what is admissible."""

    def __init__(self, apartment: Apartment, seed: str) -> None:
        self._random = random.Random(f"script {seed}")
        self._ids = [node.id for node in apartment.nodes]
        self._names = {node.id: node.class_name for node in apartment.nodes}
        self._grabbable = apartment.ids(apartment.grabbable)
        self._readable = apartment.ids(apartment.having[Property.READABLE])
        self._extras = tuple(node_id for node_id in self._ids if node_id >= _FIRST_EXTRA)
        self._actions = list(ACTIONS)

    def choose(self, engine: Engine) -> str:
        """The next line."""
        if self._random.random() < RANDOM_SHARE:
            return self._at_random(engine)
        choices = engine.admissible_choices()
        weights = [WEIGHTS.get(choice.action, 1.0) for choice in choices]
        choice = self._random.choices(choices, weights)[0]
        ids = [self._favoured(choice.action, choice.objects)] if choice.objects else []
        return self._line(choice.action, *ids, *([self._random.choice(choice.places)] if choice.places else []))

    def _favoured(self, action: Action, ids: tuple[int, ...]) -> int:
        if action in (Action.WALK, Action.RUN, Action.FIND) and self._random.random() < 0.7:
            wanted = [node_id for node_id in ids if node_id in self._grabbable or node_id >= _FIRST_EXTRA]
            return self._random.choice(wanted or ids)
        if action is Action.GRAB and self._random.random() < 0.4:
            wanted = [node_id for node_id in ids if "knife" in self._names[node_id] or node_id in self._readable]
            return self._random.choice(wanted or ids)
        return self._random.choice(ids)

    def _at_random(self, engine: Engine) -> str:
        action = self._random.choice(self._actions)
        near = tuple(node_id for node_id in engine.reachable if node_id >= _FIRST_EXTRA)
        groups = [
            group for group in (engine.reachable, near, engine.held, engine.worn, self._extras, self._ids) if group
        ]
        chosen = [self._random.choice(self._random.choice(groups)) for _ in range(action.parameters)]
        if chosen and self._random.random() < 0.02:
            chosen[-1] = 999_999
        return self._line(action, *chosen)

    def _line(self, action: Action, *ids: int) -> str:
        return " ".join(
            [f"[{action.name}]", *(f"<{self._names.get(node_id, 'ghost')}> ({node_id})" for node_id in ids)]
        )
