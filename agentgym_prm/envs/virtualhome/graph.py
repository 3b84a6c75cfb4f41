"""An apartment: its nodes, what they can do, and how they stand to each other at the start. Read once, then shared.

The JSON form is the original's: ``{"nodes": [{"id", "class_name", "category", "properties", "states", "prefab_name",
"bounding_box"}], "edges": [{"from_id", "relation_type", "to_id"}]}``; category, prefab name and bounding box may be
missing. A graph that cannot be played is refused here, with the element at fault named:

* duplicate ids (the original silently keeps the last), edges to nodes that do not exist, unknown names of properties,
  states and relations, no character, a character that stands in a room in no way;
* cycles of ``INSIDE``, in which the original's search for a node's room never ends. Two nodes inside each other are
  accepted if both are directly in a room as well: official apartments hold such pairs (curtains, cupboards).

Inside the engine a node is its *number*, its position in ``Apartment.nodes``, and a set of nodes a mask of bits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any, Final, TypeVar

from agentgym_prm.errors import GameFormatError

CHARACTER: Final = "character"
ROOM_CATEGORY: Final = "Rooms"
_Name = TypeVar("_Name", bound=IntEnum)
Edge = tuple[int, "Relation", int]
"""From id, relation, to id."""


class State(IntEnum):
    """What can change about a node itself."""

    CLOSED = 0
    OPEN = 1
    ON = 2
    OFF = 3
    SITTING = 4
    DIRTY = 5
    CLEAN = 6
    LYING = 7
    PLUGGED_IN = 8
    PLUGGED_OUT = 9


class Relation(IntEnum):
    """How one node stands to another."""

    ON = 0
    INSIDE = 1
    BETWEEN = 2
    CLOSE = 3
    FACING = 4
    HOLDS_RH = 5
    HOLDS_LH = 6
    SITTING = 7


class Property(IntEnum):
    """What can be done with a node; never changes."""

    SURFACES = 0
    GRABBABLE = 1
    SITTABLE = 2
    LIEABLE = 3
    HANGABLE = 4
    DRINKABLE = 5
    EATABLE = 6
    RECIPIENT = 7
    CUTTABLE = 8
    POURABLE = 9
    CAN_OPEN = 10
    HAS_SWITCH = 11
    READABLE = 12
    LOOKABLE = 13
    CONTAINERS = 14
    CLOTHES = 15
    PERSON = 16
    BODY_PART = 17
    COVER_OBJECT = 18
    HAS_PLUG = 19
    HAS_PAPER = 20
    MOVABLE = 21
    CREAM = 22


def bits(mask: int) -> list[int]:
    """Positions of the set bits, ascending.

    >>> bits(0b1101)
    [0, 2, 3]
    """
    found = []
    while mask:
        highest = mask.bit_length() - 1
        mask ^= 1 << highest
        found.append(highest)
    found.reverse()
    return found


@dataclass(frozen=True)
class Node:
    """One thing in the apartment, as it is at the start."""

    id: int
    class_name: str
    category: str | None
    properties: frozenset[Property]
    states: frozenset[State]
    prefab_name: str | None = None
    bounding_box: Any = field(default=None, hash=False)

    def __str__(self) -> str:
        return f"<{self.class_name}> ({self.id})"

    @property
    def is_room(self) -> bool:
        """Whether it is a room."""
        return self.category == ROOM_CATEGORY

    def as_json(self, states: Iterable[State]) -> dict[str, Any]:
        """The node in the graph's JSON form, in these states."""
        return {
            "id": self.id,
            "class_name": self.class_name,
            "category": self.category,
            "properties": [p.name for p in sorted(self.properties)],
            "states": [s.name for s in states],
            "prefab_name": self.prefab_name,
            "bounding_box": self.bounding_box,
        }


class Apartment:
    """A graph, checked and indexed. Immutable but for what it remembers for those who play in it; share it freely.

    Attributes:
        nodes: The nodes in the file's order; their positions are the nodes' numbers.
        numbers: Number of each id.
        id_of: Id of each number.
        bit: For each number the mask of that node alone.
        labels: For each number ``<class> (id)``, as messages and script lines name it.
        targets: For each relation and number the mask of what the node stands in that relation to.
        sources: For each relation and number the mask of what stands in that relation to the node.
        in_state: For each state the mask of the nodes in it.
        rooms: Mask of the rooms.
        characters: Numbers of the characters, by id.
    """

    def __init__(self, graph: Mapping[str, Any], where: str = "graph") -> None:
        """Read a graph.

        Args:
            graph: The JSON form; other keys than ``nodes`` and ``edges`` are ignored. Repeated edges count once.
            where: What error messages call it.

        Raises:
            GameFormatError: The graph cannot be played (see the module's docstring).
        """
        self.where = where
        self.nodes = tuple(_read_nodes(graph, where))
        self.numbers = {node.id: number for number, node in enumerate(self.nodes)}
        self._check_ids()
        self.id_of = tuple(node.id for node in self.nodes)
        self.bit = tuple(1 << number for number in range(len(self.nodes)))
        self.labels = tuple(map(str, self.nodes))
        self.rooms = self.mask(lambda node: node.is_room)
        self.in_state = tuple(self.mask(lambda node, s=s: s in node.states) for s in State)
        by_id = sorted(self.nodes, key=lambda node: node.id)
        self.characters = tuple(self.numbers[node.id] for node in by_id if node.class_name == CHARACTER)
        self._read_edges(graph)
        self._check_positions()
        self._start_orders: dict[tuple[Relation, int], tuple[int, ...]] = {}
        self.parsed: dict[Any, Any] = {}
        self.rendered: dict[tuple[Any, ...], Any] = {}
        self.worlds: dict[int, Any] = {}

    def __reduce__(self) -> tuple[type["Apartment"], tuple[dict[str, Any], str]]:
        return Apartment, (self.as_json(), self.where)

    def __deepcopy__(self, memo: dict[int, object]) -> "Apartment":
        return self

    def mask(self, condition: Any) -> int:
        """Mask of the nodes of which ``condition(node)`` is true."""
        return sum(1 << number for number, node in enumerate(self.nodes) if condition(node))

    @cached_property
    def having(self) -> tuple[int, ...]:
        """For each property the mask of the nodes that have it."""
        return tuple(self.mask(lambda node, p=p: p in node.properties) for p in Property)

    @cached_property
    def grabbable(self) -> int:
        """Mask of what can be taken in the hand: water and children too, whatever their properties."""
        return self.having[Property.GRABBABLE] | self.of_class("water", "child")

    @cached_property
    def knives(self) -> int:
        """Mask of what cuts."""
        return self.mask(lambda node: "knife" in node.class_name)

    @cached_property
    def everything(self) -> int:
        """Mask of all nodes."""
        return (1 << len(self.nodes)) - 1

    @cached_property
    def start_in_room(self) -> int:
        """Mask of the nodes that are directly in a room at the start."""
        inside = self.targets[Relation.INSIDE]
        return sum(bit for number, bit in enumerate(self.bit) if inside[number] & self.rooms)

    def of_class(self, *names: str) -> int:
        """Mask of the nodes of these classes."""
        return self.mask(lambda node: node.class_name in names)

    def ids(self, mask: int) -> tuple[int, ...]:
        """Ids of the nodes in a mask, in the order of their numbers."""
        return tuple([self.id_of[number] for number in bits(mask)])

    def number(self, node_id: int) -> int:
        """Number of the node with this id; ``KeyError`` names the id if there is none."""
        try:
            return self.numbers[node_id]
        except KeyError:
            raise KeyError(f"{self.where} has no node {node_id!r}") from None

    def start_targets(self, relation: Relation, number: int) -> tuple[int, ...]:
        """Ids that a node stands in a relation to at the start, in the order of the file's edges."""
        return self._start_targets.get((relation, number), ())

    def start_order(self, relation: Relation, number: int) -> tuple[int, ...]:
        """The same in the order in which the original enumerates these until they change."""
        order = self._start_orders.get((relation, number))
        if order is None:
            order = self._start_orders[relation, number] = tuple(set(iter(self.start_targets(relation, number))))
        return order

    def as_json(self) -> dict[str, Any]:
        """The graph in its JSON form, as read."""
        edges = [
            {"from_id": self.nodes[number].id, "relation_type": relation.name, "to_id": to_id}
            for (relation, number), to_ids in self._start_targets.items()
            for to_id in to_ids
        ]
        return {"nodes": [node.as_json(sorted(node.states)) for node in self.nodes], "edges": edges}

    def remember(self, memory: dict[Any, Any], key: Any, value: Any, limit: int) -> None:
        """Keep a value in one of the apartment's own memories, which start afresh when they are full."""
        if len(memory) >= limit:
            memory.clear()
        memory[key] = value

    # --- reading ---

    def _check_ids(self) -> None:
        if len(self.numbers) < len(self.nodes):
            repeated = next(node for number, node in enumerate(self.nodes) if self.numbers[node.id] != number)
            raise GameFormatError(f"{self.where}: two nodes have the id {repeated.id}, one is {repeated}")

    def _read_edges(self, graph: Mapping[str, Any]) -> None:
        count, numbers = len(self.nodes), self.numbers
        targets = [[0] * count for _ in Relation]
        sources = [[0] * count for _ in Relation]
        ordered: dict[tuple[Relation, int], list[int]] = {}
        for from_id, relation, to_id in _read_edge_list(graph, self.where):
            start, stop = numbers.get(from_id), numbers.get(to_id)
            if start is None or stop is None:
                raise GameFormatError(
                    f"{self.where}: the edge {from_id} {relation.name} {to_id} leads to a node that does not exist, "
                    f"{from_id if start is None else to_id}"
                )
            mask = targets[relation][start]
            if not mask >> stop & 1:
                targets[relation][start] = mask | 1 << stop
                sources[relation][stop] |= 1 << start
                ordered.setdefault((relation, start), []).append(to_id)
        self.targets = tuple(map(tuple, targets))
        self.sources = tuple(map(tuple, sources))
        self._start_targets = {key: tuple(ids) for key, ids in ordered.items()}

    def _check_positions(self) -> None:
        if not self.characters:
            raise GameFormatError(f"{self.where}: no node has the class {CHARACTER!r}, so nobody can act")
        inside = list(self.targets[Relation.INSIDE])
        for number, mask in enumerate(inside):
            for other in bits(mask):
                # A pair inside each other, both in a room: tolerated, so the edge does not count below.
                if other != number and self.targets[Relation.INSIDE][other] >> number & 1:
                    in_rooms = [self.targets[Relation.INSIDE][n] & self.rooms for n in (number, other)]
                    if all(in_rooms):
                        inside[number] &= ~(1 << other)
        _refuse_cycle(inside, self.labels, self.where)
        for number in self.characters:
            if not self.targets[Relation.INSIDE][number] & self.rooms:
                raise GameFormatError(
                    f"{self.where}: {self.labels[number]} is in no room: it has no INSIDE edge to one"
                )


def with_changes(graph: Mapping[str, Any], changes: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """A graph after a list of changes, in the form in which tasks state their start and their goal.

    Args:
        graph: The JSON form of a graph; not changed.
        changes: ``set_nodes`` (nodes to put in place or to add), ``del_nodes`` (ids), ``add_edges`` and ``del_edges``
            (``[from_id, relation, to_id]``); each may be missing.

    Returns:
        A new graph in its JSON form. It is not checked; that is done where it is read.
    """
    nodes = {node["id"]: node for node in graph["nodes"]}
    for node_id in changes.get("del_nodes", ()):
        nodes.pop(node_id, None)
    nodes |= {node["id"]: node for node in changes.get("set_nodes", ())}
    edges = dict.fromkeys((edge["from_id"], edge["relation_type"], edge["to_id"]) for edge in graph["edges"])
    for edge in changes.get("del_edges", ()):
        edges.pop(tuple(edge), None)
    edges |= dict.fromkeys(tuple(edge) for edge in changes.get("add_edges", ()))
    return {
        "nodes": list(nodes.values()),
        "edges": [{"from_id": start, "relation_type": relation, "to_id": stop} for start, relation, stop in edges],
    }


def _read_nodes(graph: Mapping[str, Any], where: str) -> Iterator[Node]:
    for position, entry in enumerate(_list_of(graph, "nodes", where)):
        what = f"{where}: node {position}"
        if not isinstance(entry, Mapping):
            raise GameFormatError(f"{what} must be an object, got {entry!r:.80}")
        node_id, class_name = entry.get("id"), entry.get("class_name")
        if type(node_id) is not int:
            raise GameFormatError(f"{what} needs a whole number as id, got {node_id!r}")
        what = f"{where}: node {node_id}"
        if not isinstance(class_name, str) or not class_name:
            raise GameFormatError(f"{what} needs a class_name, got {class_name!r}")
        yield Node(
            node_id,
            class_name,
            _text_or_none(entry, "category", what),
            frozenset(_named(Property, name, "property", what) for name in _list_of(entry, "properties", what)),
            frozenset(_named(State, name, "state", what) for name in _list_of(entry, "states", what)),
            _text_or_none(entry, "prefab_name", what),
            entry.get("bounding_box"),
        )


def _read_edge_list(graph: Mapping[str, Any], where: str) -> Iterator[Edge]:
    relations: dict[Any, Relation] = dict(Relation.__members__)
    for position, entry in enumerate(_list_of(graph, "edges", where)):
        if not isinstance(entry, dict):
            raise GameFormatError(f"{where}: edge {position} must be an object, got {entry!r:.80}")
        start, name, stop = entry.get("from_id"), entry.get("relation_type"), entry.get("to_id")
        if type(start) is not int or type(stop) is not int:
            raise GameFormatError(
                f"{where}: edge {position} needs whole numbers as from_id and to_id, got {start!r} and {stop!r}"
            )
        relation = relations.get(name) if isinstance(name, str) else None
        if relation is None:
            relation = _named(Relation, name, "relation", f"{where}: edge {position}")
        yield start, relation, stop


def _list_of(entry: Mapping[str, Any], key: str, what: str) -> list[Any]:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, list):
        raise GameFormatError(f"{what} needs a list of {key}, got {value!r:.80}")
    return value


def _text_or_none(entry: Mapping[str, Any], key: str, what: str) -> str | None:
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise GameFormatError(f"{what}: {key} must be a text, got {value!r:.80}")
    return value


def _named(kind: type[_Name], name: object, what_kind: str, what: str) -> _Name:
    member = kind.__members__.get(name.upper()) if isinstance(name, str) else None
    if member is None:
        raise GameFormatError(f"{what}: unknown {what_kind} {name!r}; known: {', '.join(kind.__members__)}")
    return member


def _refuse_cycle(inside: Sequence[int], labels: Sequence[str], where: str) -> None:
    """Take away what is inside nothing until nothing is left; what cannot be taken away runs in circles."""
    remaining = [number for number, mask in enumerate(inside) if mask]
    left = sum(1 << number for number in remaining)
    while remaining:
        kept = [number for number in remaining if inside[number] & left]
        if len(kept) == len(remaining):
            number, path = kept[0], [kept[0]]
            while (number := bits(inside[number] & left)[0]) not in path:
                path.append(number)
            loop = path[path.index(number) :]
            names = " inside ".join(labels[n] for n in [*loop, number])
            raise GameFormatError(f"{where}: a cycle of INSIDE: {names}")
        left = sum(1 << number for number in kept)
        remaining = kept
