"""What holds in an apartment now: edges and states as masks of bits, with the questions that the actions ask.

Edges are kept both ways, as changes against the apartment's start, so a step costs the same in a large apartment as in
a small one, and a copy costs what has changed. Numbers, not ids, name the nodes in here.
"""

from typing import Final

from agentgym_prm.envs.virtualhome.graph import Apartment, Relation, State, bits
from agentgym_prm.envs.virtualhome.order import Log, enumeration, logged

ON, INSIDE, BETWEEN, CLOSE, FACING, HOLDS_RH, HOLDS_LH, _SITTING = Relation
HANDS: Final = (HOLDS_RH, HOLDS_LH)


class UndefinedStepError(Exception):
    """Here the original raises or never returns; the message says what is missing."""


class Edges:
    """One relation: from each node to others, and back."""

    __slots__ = ("_sources", "_start_sources", "_start_targets", "_targets")

    def __init__(self, targets: tuple[int, ...], sources: tuple[int, ...]) -> None:
        self._start_targets, self._start_sources = targets, sources
        self._targets: dict[int, int] = {}
        self._sources: dict[int, int] = {}

    def targets(self, number: int) -> int:
        """Mask of what the node stands in the relation to."""
        return self._targets.get(number, self._start_targets[number])

    def sources(self, number: int) -> int:
        """Mask of what stands in the relation to the node."""
        return self._sources.get(number, self._start_sources[number])

    def flip(self, start: int, stop: int) -> None:
        """Add the edge if it is not there, else take it away."""
        self._targets[start] = self._targets.get(start, self._start_targets[start]) ^ 1 << stop
        self._sources[stop] = self._sources.get(stop, self._start_sources[stop]) ^ 1 << start

    def changed(self) -> int:
        """Mask of the nodes whose targets were touched since the start."""
        return sum(1 << number for number in self._targets)

    def copy(self) -> "Edges":
        """An independent copy."""
        other = Edges.__new__(Edges)
        other._start_targets, other._start_sources = self._start_targets, self._start_sources
        other._targets, other._sources = self._targets.copy(), self._sources.copy()
        return other


class World:
    """The state of one apartment with one acting character.

    Attributes:
        repaired: Whether three mistakes of the original are mended (see ``actions.py``).
        apartment: What does not change.
        character: Number of the character that acts.
        edges: The edges of each relation.
        in_state: For each state the mask of the nodes in it.
        grabbed: For each node that was grabbed off something and not put back since: what it was taken from, and the
            relation in which it stood to that.
        step: Number of successful steps.
    """

    __slots__ = ("_logs", "_walkable", "apartment", "character", "edges", "grabbed", "in_state", "repaired", "step")

    def __init__(self, apartment: Apartment, character: int, repaired: bool = False) -> None:
        self.apartment, self.character, self.repaired = apartment, character, repaired
        self.edges = [Edges(apartment.targets[r], apartment.sources[r]) for r in Relation]
        self.in_state = list(apartment.in_state)
        self.grabbed: dict[int, tuple[int, Relation]] = {}
        self.step = 0
        self._logs: dict[tuple[Relation, int], Log] = {}
        self._walkable: tuple[int, int] | None = None

    def copy(self) -> "World":
        """An independent copy that shares the apartment."""
        other = World.__new__(World)
        other.apartment, other.character, other.repaired = self.apartment, self.character, self.repaired
        other.step = self.step
        other.edges = [edges.copy() for edges in self.edges]
        other.in_state = self.in_state.copy()
        other.grabbed = self.grabbed.copy()
        other._logs, other._walkable = self._logs.copy(), self._walkable
        return other

    # --- changes ---

    def add(self, relation: Relation, start: int, stop: int) -> None:
        """Add an edge if it is not there."""
        edges = self.edges[relation]
        if not edges.targets(start) >> stop & 1:
            edges.flip(start, stop)
            self._changed(relation, start, stop, True)

    def remove(self, relation: Relation, start: int, stop: int) -> None:
        """Take an edge away if it is there."""
        edges = self.edges[relation]
        if edges.targets(start) >> stop & 1:
            edges.flip(start, stop)
            self._changed(relation, start, stop, False)

    def detach(self, relation: Relation, number: int) -> None:
        """Take away all edges of a relation from and to a node."""
        for stop in bits(self.edges[relation].targets(number)):
            self.remove(relation, number, stop)
        for start in bits(self.edges[relation].sources(number)):
            self.remove(relation, start, number)

    def release(self, number: int) -> None:
        """Take a node out of the character's hands."""
        for hand in HANDS:
            self.remove(hand, self.character, number)

    def come_close(self, number: int, other: int) -> None:
        """Let two nodes be close to each other."""
        self.add(CLOSE, number, other)
        self.add(CLOSE, other, number)

    def switch(self, number: int, off: State, on: State) -> None:
        """Take a node out of one state and into another."""
        bit = self.apartment.bit[number]
        self.in_state[off] &= ~bit
        self.in_state[on] |= bit

    def take_posture(self, leave: tuple[State, ...], enter: tuple[State, ...] = ()) -> None:
        """Set the character's states: those that ``is_resting`` reads, without some and with others."""
        bit = self.apartment.bit[self.character]
        before = self.in_state if self.repaired else self.apartment.in_state
        for state in State:
            kept = before[state] & bit if state not in leave else 0
            self.in_state[state] = self.in_state[state] & ~bit | (bit if state in enter else kept)

    def _changed(self, relation: Relation, start: int, stop: int, added: bool) -> None:
        if relation is INSIDE:
            self._walkable = None
        elif (relation is not ON and relation is not CLOSE) or not self.apartment.grabbable >> start & 1:
            return  # nothing asks in which order these are
        apartment, key = self.apartment, (relation, start)
        start_ids = apartment.start_targets(relation, start)
        self._logs[key] = logged(self._logs.get(key), start_ids, self.step, apartment.nodes[stop].id, added)

    # --- questions ---

    def targets(self, relation: Relation, number: int) -> int:
        """Mask of what the node stands in the relation to."""
        return self.edges[relation].targets(number)

    def sources(self, relation: Relation, number: int) -> int:
        """Mask of what stands in the relation to the node."""
        return self.edges[relation].sources(number)

    def ordered_targets(self, relation: Relation, number: int, readings: int = 1) -> list[int]:
        """What the node stands in the relation to (ON, INSIDE or CLOSE), in the original's order (``order.py``)."""
        apartment, mask = self.apartment, self.targets(relation, number)
        if mask.bit_count() < 2:
            return list(bits(mask))
        log, start = self._logs.get((relation, number)), apartment.start_targets(relation, number)
        return [apartment.numbers[target] for target in enumeration(log, start, self.step, readings)]

    def has(self, state: State, number: int) -> bool:
        """Whether the node is in the state."""
        return bool(self.in_state[state] >> number & 1)

    def is_resting(self, *postures: State) -> bool:
        """Whether the character was in one of the postures *at the start*; if repaired, whether it is now.

        The original looks the character up in the graph of the start, so sitting down does not make it sit.
        """
        in_state = self.in_state if self.repaired else self.apartment.in_state
        return any(in_state[posture] >> self.character & 1 for posture in postures)

    def held(self) -> int:
        """Mask of what the character holds."""
        return self.edges[HOLDS_RH].targets(self.character) | self.edges[HOLDS_LH].targets(self.character)

    def free_hand(self) -> Relation | None:
        """The hand that would grab next: right before left."""
        for hand in HANDS:
            if not self.edges[hand].targets(self.character):
                return hand
        return None

    def is_close(self, number: int) -> bool:
        """Whether the node is close to the character, or to something close to it, or lies on such a thing."""
        close = self.edges[CLOSE]
        mine = close.targets(self.character)
        return bool(mine & (1 << number | close.sources(number) | self.edges[ON].targets(number)))

    def reachable(self) -> int:
        """Mask of the nodes for which ``is_close`` holds."""
        close, on = self.edges[CLOSE], self.edges[ON]
        mask = mine = close.targets(self.character)
        for number in bits(mine):
            mask |= close.targets(number) | on.sources(number)
        return mask

    def is_faced(self, number: int) -> bool:
        """Whether the character faces the node, or something that faces it."""
        facing = self.edges[FACING]
        return bool(facing.targets(self.character) & (1 << number | facing.sources(number)))

    def faced(self) -> int:
        """Mask of the nodes for which ``is_faced`` holds."""
        facing = self.edges[FACING]
        mask = mine = facing.targets(self.character)
        for number in bits(mine):
            mask |= facing.targets(number)
        return mask

    def is_shut_in(self, number: int) -> bool:
        """Whether the node is directly inside something closed that is no room."""
        return bool(self.edges[INSIDE].targets(number) & self.in_state[State.CLOSED] & ~self.apartment.rooms)

    def shut_in(self) -> int:
        """Mask of the nodes for which ``is_shut_in`` holds."""
        mask = 0
        for number in bits(self.in_state[State.CLOSED] & ~self.apartment.rooms):
            mask |= self.edges[INSIDE].sources(number)
        return mask

    def room(self, number: int) -> int | None:
        """The room of a node as the original finds it: the node itself, else the first room among several containers.

        One container is followed upwards, there always to the *first* of several; so a node in two containers, neither
        of them a room, is in no room.

        Raises:
            UndefinedStepError: The search goes round in a circle.
        """
        rooms, inside = self.apartment.rooms, self.edges[INSIDE]
        if rooms >> number & 1:
            return number
        mask = inside.targets(number)
        if mask & (mask - 1):
            mask &= rooms
            if not mask & (mask - 1):
                return mask.bit_length() - 1 if mask else None
            return next(other for other in self.ordered_targets(INSIDE, number, readings=2) if rooms >> other & 1)
        passed, above = 0, number
        while mask:
            above = self.ordered_targets(INSIDE, above)[0] if mask & (mask - 1) else mask.bit_length() - 1
            if rooms >> above & 1:
                return above
            if passed >> above & 1:
                raise UndefinedStepError(f"{self.apartment.labels[above]} is inside itself")
            passed |= 1 << above
            mask = inside.targets(above)
        return None

    def room_of(self, number: int) -> int:
        """The room of a node; ``UndefinedStepError`` if it is in none."""
        room = self.room(number)
        if room is None:
            raise UndefinedStepError(f"{self.apartment.labels[number]} is in no room")
        return room

    def walkable(self) -> int:
        """Mask of the nodes that are in a room."""
        if self._walkable is None:
            self._walkable = self._find_walkable()
        mask, uncertain = self._walkable
        for number in bits(uncertain):
            if self._is_in_room(number):
                mask |= 1 << number
        return mask

    def _find_walkable(self) -> tuple[int, int]:
        """Nodes in a room, and those of which only the present order of their containers' containers tells."""
        rooms, inside = self.apartment.rooms, self.edges[INSIDE]
        certain, uncertain = rooms | self.apartment.start_in_room & ~inside.changed(), 0
        for number in bits(self.apartment.everything & ~certain):
            mask, bit = inside.targets(number), 1 << number
            if mask & rooms:
                certain |= bit
            elif mask and not mask & (mask - 1):
                above = inside.targets(mask.bit_length() - 1)
                if above & rooms and not above & (above - 1):
                    certain |= bit
                elif above:
                    uncertain |= bit
        return certain, uncertain

    def _is_in_room(self, number: int) -> bool:
        try:
            return self.room(number) is not None
        except UndefinedStepError:
            return False

    def visible(self) -> int:
        """Mask of what the character can see.

        That is: the rooms, what is in the character's room and not in something closed (however deep), and what it
        holds or wears. The original's ``get_visible_nodes`` means the same, but takes a node's last container for its
        only one.
        """
        apartment, room = self.apartment, self.room(self.character)
        seen = self._inside_of(1 << room) if room is not None else 0
        shut = self._inside_of(self.in_state[State.CLOSED] & ~apartment.rooms)
        worn = self.sources(ON, self.character)
        return apartment.rooms | seen & ~shut | self.held() | worn | 1 << self.character

    def _inside_of(self, containers: int) -> int:
        inside, mask, frontier = self.edges[INSIDE], 0, containers
        while frontier:
            within = 0
            for number in bits(frontier):
                within |= inside.sources(number)
            frontier = within & ~mask
            mask |= within
        return mask

    def states(self, number: int) -> tuple[State, ...]:
        """The states that a node is in."""
        return tuple(state for state in State if self.in_state[state] >> number & 1)
