"""VirtualHome's evolving graph as a plain state machine: equal to the original's ``execute_one_step``, and much faster.

What an action asks for and changes is in ``actions.py``, with what looks odd and is kept. Where the original raises an
exception or never returns, the step is refused with a message of our own (``UndefinedStepError``): an object that is
not in the apartment for ``WALK``, ``RUN`` and ``FIND``; ``PUTOFF``; ``LOOKAT_SHORT`` and ``LOOKAT_LONG``; a character,
or for ``WATCH`` an object, in no room; containers that came to be inside each other. A line that cannot be read is
refused in the parser's words. Objects are named by id alone, as with the original's ``instance_selection``:
``[GRAB] <apple> (12)`` grabs node 12 whatever it is.

Not in here: text commands, observations and goals; generating apartments; searching a script's objects by name.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple

from agentgym_prm.envs.virtualhome import admissible
from agentgym_prm.envs.virtualhome.actions import ACTIONS, Complaint, Execute
from agentgym_prm.envs.virtualhome.admissible import Choice
from agentgym_prm.envs.virtualhome.graph import Apartment, Edge, Node, Relation, State, bits
from agentgym_prm.envs.virtualhome.script import ScriptLine, parse_line
from agentgym_prm.envs.virtualhome.world import UndefinedStepError, World
from agentgym_prm.errors import ScriptError


class Execution(NamedTuple):
    """How a step went.

    ``success`` is the original's; ``message`` its words, which a success can have too, and a failure lack (``WALK`` to
    what is in no room).
    """

    success: bool
    message: str = ""


_LINES: Final = 20_000
"""Script lines that an apartment remembers, some hundred bytes each."""
_SUCCESS: Final = Execution(True)


class Engine:
    """One apartment in progress.

    >>> engine = Engine()
    >>> engine.reset(Apartment({
    ...     "nodes": [{"id": 1, "class_name": "kitchen", "category": "Rooms", "properties": [], "states": []},
    ...               {"id": 2, "class_name": "character", "properties": [], "states": []},
    ...               {"id": 3, "class_name": "apple", "properties": ["GRABBABLE"], "states": []}],
    ...     "edges": [{"from_id": 2, "relation_type": "INSIDE", "to_id": 1},
    ...               {"from_id": 3, "relation_type": "INSIDE", "to_id": 1}]}))
    >>> engine.execute("[GRAB] <apple> (3)").message
    '<character> (2) is not close to <apple> (3) when executing "[GRAB] <apple> (3) [0]"'
    >>> [engine.execute(line).success for line in ("[WALK] <apple> (3)", "[GRAB] <apple> (3)")]
    [True, True]
    >>> engine.held
    (3,)
    """

    __slots__ = ("_repaired", "world")

    world: World

    def __init__(self, *, repaired: bool = False) -> None:
        """``repaired`` mends three mistakes of the original (see ``actions.py``); by default they are kept."""
        self._repaired = repaired

    def reset(self, apartment: Apartment, character_index: int = 0) -> None:
        """Start in an apartment as the given one of its characters, counted by id.

        Raises:
            ValueError: There are not that many characters.
        """
        if not 0 <= character_index < len(apartment.characters):
            count = len(apartment.characters)
            raise ValueError(f"character_index must be in [0, {count}) in {apartment.where}, got {character_index}")
        self.world = World.at_start(apartment, apartment.characters[character_index], self._repaired)

    def clone(self) -> "Engine":
        """An independent copy that goes on from the present state; costs what has changed since ``reset``."""
        other = Engine.__new__(Engine)
        other._repaired, other.world = self._repaired, self.world.copy()
        return other

    def execute(self, line: str | ScriptLine, index: int = 0) -> Execution:
        """Execute one script line; one that does not succeed changes nothing.

        Args:
            line: ``[ACTION] <object> (id) <place> (id)``, or one that is parsed already.
            index: Number of the line in its script, which the messages end with.
        """
        world = self.world
        compiled: _Compiled = world.apartment.parsed.get(line) or _compile(world.apartment, line)
        execute, first, second, text = compiled
        if execute is None:
            return Execution(False, text)
        try:
            complaint = execute(world, first, second)
        except UndefinedStepError as undefined:
            complaint = (False, str(undefined))
        if complaint is None:
            return _SUCCESS
        success, problem = complaint
        return Execution(success, f'{problem} when executing "{text} [{index}]"' if problem else "")

    def admissible_lines(self, *, in_view: bool = False) -> tuple[str, ...]:
        """Every script line that would succeed now, in the order of the actions and of the apartment's nodes.

        Args:
            in_view: Only lines whose objects the character sees (``visible``).
        """
        return admissible.lines(self.world, in_view=in_view)

    def admissible_choices(self, *, in_view: bool = False) -> tuple[Choice, ...]:
        """The same as ids: each action with the objects that it accepts."""
        return admissible.choices(self.world, in_view=in_view)

    def to_graph(self) -> dict[str, Any]:
        """The present graph in its JSON form."""
        world, nodes = self.world, self.apartment.nodes
        edges = [
            {"from_id": start, "relation_type": relation.name, "to_id": stop} for start, relation, stop in self.edges()
        ]
        return {"nodes": [n.as_json(world.states(number)) for number, n in enumerate(nodes)], "edges": edges}

    def changes(self) -> dict[str, list[Any]]:
        """What differs from the start, in the form of ``with_changes``; costs what has changed, not the whole graph."""
        world, apartment = self.world, self.apartment
        added: list[list[Any]] = []
        removed: list[list[Any]] = []
        nodes = 0
        for relation in Relation:
            present = world.edges(relation)
            for number in bits(present.changed()):
                now, then = present.targets(number), apartment.targets[relation][number]
                for edges, mask in ((added, now & ~then), (removed, then & ~now)):
                    edges.extend([self._id(number), relation.name, self._id(other)] for other in bits(mask))
        for now, then in zip(world.in_state, apartment.in_state, strict=True):
            nodes |= now ^ then
        return {
            "set_nodes": [apartment.nodes[number].as_json(world.states(number)) for number in bits(nodes)],
            "del_nodes": [],
            "add_edges": added,
            "del_edges": removed,
        }

    # --- what holds now, by id ---

    @property
    def apartment(self) -> Apartment:
        """What is being played in."""
        return self.world.apartment

    @property
    def character(self) -> int:
        """Id of the character that acts."""
        return self._id(self.world.character)

    @property
    def room(self) -> int | None:
        """Id of the room in which the character is."""
        number = self.world.room(self.world.character)
        return None if number is None else self._id(number)

    @property
    def held(self) -> tuple[int, ...]:
        """What the character holds: right hand, then left."""
        world = self.world
        return self._ids(world.right.outgoing) + self._ids(world.left.outgoing)

    @property
    def worn(self) -> tuple[int, ...]:
        """What the character wears."""
        return self._ids(self.world.on.incoming)

    @property
    def near(self) -> tuple[int, ...]:
        """What the character has a ``CLOSE`` edge to."""
        return self._ids(self.world.close.outgoing)

    @property
    def reachable(self) -> tuple[int, ...]:
        """What counts as close when an action asks for it: also what is close to or on what is near."""
        return self._ids(self.world.reachable())

    @property
    def visible(self) -> tuple[int, ...]:
        """What the character sees: rooms, what its room holds in nothing closed, what it holds or wears, itself."""
        return self._ids(self.world.visible())

    def node(self, node_id: int) -> Node:
        """A node as it was at the start; ``KeyError`` if there is none."""
        return self.apartment.nodes[self.apartment.number(node_id)]

    def states(self, node_id: int) -> tuple[State, ...]:
        """The present states of a node."""
        return self.world.states(self.apartment.number(node_id))

    def room_of(self, node_id: int) -> int | None:
        """Id of the room in which the original finds a node; ``None`` if in none, or if it would search forever."""
        try:
            number = self.world.room(self.apartment.number(node_id))
        except UndefinedStepError:
            return None
        return None if number is None else self._id(number)

    def targets(self, node_id: int, relation: Relation) -> tuple[int, ...]:
        """Ids of what the node stands in the relation to: what it is on, in, close to, ..."""
        return self._ids(self.world.edges(relation).targets(self.apartment.number(node_id)))

    def sources(self, node_id: int, relation: Relation) -> tuple[int, ...]:
        """Ids of what stands in the relation to the node: what is on it, in it, ..."""
        return self._ids(self.world.edges(relation).sources(self.apartment.number(node_id)))

    def has_edge(self, from_id: int, relation: Relation, to_id: int) -> bool:
        """Whether an edge holds now."""
        number, other = self.apartment.number(from_id), self.apartment.number(to_id)
        return bool(self.world.edges(relation).targets(number) >> other & 1)

    def edges(
        self, among: Collection[int] | None = None, relations: Collection[Relation] = tuple(Relation)
    ) -> Iterator[Edge]:
        """The edges that hold now, by relation and node.

        Args:
            among: Only edges between nodes with these ids.
            relations: Only edges of these relations.
        """
        apartment, world = self.apartment, self.world
        numbers = range(len(apartment.nodes)) if among is None else [apartment.number(node_id) for node_id in among]
        mask = sum(apartment.bit[number] for number in set(numbers))
        for relation in relations:
            present = world.edges(relation)
            for number in numbers:
                for other in bits(present.targets(number) & mask):
                    yield self._id(number), relation, self._id(other)

    def _id(self, number: int) -> int:
        return self.apartment.nodes[number].id

    def _ids(self, mask: int) -> tuple[int, ...]:
        return self.apartment.ids(mask)


class _Compiled(NamedTuple):
    """A script line ready for one apartment: what to call with which numbers, or why nothing can be called."""

    execute: Execute | None
    first: int
    second: int
    text: str


def _compile(apartment: Apartment, line: str | ScriptLine) -> _Compiled:
    compiled = _prepared(apartment, line)
    apartment.remember(apartment.parsed, line, compiled, limit=_LINES)
    return compiled


def _prepared(apartment: Apartment, line: str | ScriptLine) -> _Compiled:
    try:
        parsed = parse_line(line) if isinstance(line, str) else line
    except ScriptError as error:
        return _Compiled(None, 0, 0, str(error))
    execute = ACTIONS.get(parsed.action)
    if execute is None:
        return _Compiled(None, 0, 0, f"Execution of {parsed.action} is not supported")
    for named in parsed.objects:
        if named.id not in apartment.numbers:
            return _Compiled(_refusal(f"{named} cannot be found"), 0, 0, str(parsed))
    first, second, *_ = [*(apartment.numbers[named.id] for named in parsed.objects), 0, 0]
    return _Compiled(execute, first, second, str(parsed))


def _refusal(text: str) -> Execute:
    def refuse(world: World, first: int, second: int) -> Complaint:
        return False, text

    return refuse
