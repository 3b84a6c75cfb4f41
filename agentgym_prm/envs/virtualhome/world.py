"""What holds in an apartment now: edges and states as masks of bits, with the questions that the actions ask.

Edges are kept both ways, as changes against the apartment's start. So a step costs what it changes, however many nodes
there are, but for masks being longer (a quarter more time with 1,000 nodes than with ten), and a copy costs what has
changed. Numbers, not ids, name the nodes in here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agentgym_prm.envs.virtualhome.graph import Apartment, Relation, State, bits
from agentgym_prm.envs.virtualhome.kinds import Kinds
from agentgym_prm.envs.virtualhome.order import LONGEST_LOG, Log, enumeration, shortened

# Looking a member up in its class costs more than most checks, so these have names of their own.
ON, INSIDE, BETWEEN, CLOSE, FACING, HOLDS_RH, HOLDS_LH, _ = Relation
CLOSED, OPEN, IS_ON, IS_OFF, SITTING, DIRTY, CLEAN, LYING, PLUGGED_IN, PLUGGED_OUT = State

_POSTURES: Final = (SITTING, LYING)
_STATES: Final = tuple(State)


class UndefinedStepError(Exception):
    """Here the original raises or never returns; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class _Start:
    """One relation at the start, and who acts: what all ``Edges`` of an apartment and a character share."""

    apartment: Apartment
    relation: Relation
    character: int
    me: int
    """Mask of the character alone."""
    bit: tuple[int, ...]
    id_of: tuple[int, ...]
    targets: tuple[int, ...]
    sources: tuple[int, ...]
    connected: int
    """Mask of the nodes that have edges."""
    logged: int
    """Mask of the nodes of which the order of targets is asked for."""
    logs_character: bool
    """Whether the character is one of these."""


class Edges:
    """One relation: from each node to others, and back.

    Nearly all edges that change are the character's, so these are two masks of their own, ``outgoing`` and
    ``incoming``: leaving fifty things costs as little as leaving one. The edges among the others are those of the
    start, without those of the nodes that lost all of theirs (``_cut``, with the step), and those that are there
    besides. So grabbing what is close to fifty things costs as little as grabbing what is close to none.

    Changes besides the cuts are logged for the nodes of which the order is asked for (``order.py``).

    Attributes:
        outgoing: Mask of what the character stands in the relation to.
        incoming: Mask of what stands in the relation to the character.
    """

    __slots__ = ("_cut", "_linked", "_logs", "_sources", "_start", "_targets", "_uncut", "incoming", "outgoing")

    def __init__(self, apartment: Apartment, relation: Relation, character: int, logged: int = 0) -> None:
        """``logged`` is the mask of the nodes whose changes are logged."""
        targets, sources, me = apartment.targets[relation], apartment.sources[relation], apartment.bit[character]
        connected = sum(bit for bit, to, by in zip(apartment.bit, targets, sources, strict=True) if to | by)
        self._start = _Start(
            apartment, relation, character, me, apartment.bit, apartment.id_of, targets, sources, connected, logged,
            bool(logged & me),
        )  # fmt: skip
        self.outgoing, self.incoming = targets[character], sources[character]
        self._cut: dict[int, int] = {}
        # These are about the edges among the other nodes alone.
        self._uncut = apartment.everything & ~me
        self._linked = connected
        self._targets: dict[int, int] = {}
        self._sources: dict[int, int] = {}
        self._logs: dict[int, Log] = {}

    def copy(self) -> "Edges":
        """An independent copy."""
        other = Edges.__new__(Edges)
        other._start, other._uncut, other._linked = self._start, self._uncut, self._linked
        other.outgoing, other.incoming = self.outgoing, self.incoming
        # Most of these are empty, and a new dictionary costs less than the copy of an empty one.
        other._cut = self._cut.copy() if self._cut else {}
        other._logs = self._logs.copy() if self._logs else {}
        other._targets = self._targets.copy() if self._targets else {}
        other._sources = self._sources.copy() if self._sources else {}
        return other

    def targets(self, number: int) -> int:
        """Mask of what the node stands in the relation to."""
        start = self._start
        if number == start.character:
            return self.outgoing
        mask = self._targets.get(number, 0)
        if number not in self._cut:
            mask |= start.targets[number] & self._uncut
        return mask | start.me if self.incoming & start.bit[number] else mask

    def sources(self, number: int) -> int:
        """Mask of what stands in the relation to the node."""
        start = self._start
        if number == start.character:
            return self.incoming
        mask = self._sources.get(number, 0)
        if number not in self._cut:
            mask |= start.sources[number] & self._uncut
        return mask | start.me if self.outgoing & start.bit[number] else mask

    def changed(self) -> int:
        """Mask of the nodes whose targets may differ from those at the start."""
        start = self._start
        mask = self.incoming ^ start.sources[start.character]
        if self.outgoing != start.targets[start.character]:
            mask |= start.me
        for number in self._targets:
            mask |= start.bit[number]
        for number in self._cut.keys() - {start.character}:
            mask |= start.bit[number] | start.sources[number]
        return mask

    def ordered_targets(self, number: int, step: int, readings: int = 1) -> Sequence[int]:
        """What the node stands in the relation to, in the original's order (``order.py``), if changes are logged."""
        mask = self.targets(number)
        if not mask & (mask - 1):
            return [mask.bit_length() - 1] if mask else []
        numbers = self._start.apartment.numbers
        return [numbers[node_id] for node_id in self._ordered_ids(number, mask, step, readings)]

    def first(self, number: int, among: int, step: int, readings: int = 1) -> int:
        """The first of a node's targets, in the original's order, that is in a mask of some of them."""
        bit, last = self._start.bit, among.bit_length() - 1
        if among != bit[last]:
            numbers = self._start.apartment.numbers
            for node_id in self._ordered_ids(number, self.targets(number), step, readings):
                if among & bit[numbers[node_id]]:
                    return numbers[node_id]
        return last

    def _ordered_ids(self, number: int, mask: int, step: int, readings: int) -> Sequence[int]:
        start, log = self._start, self._logs.get(number)
        if log is None and mask == start.targets[number]:
            return start.apartment.start_order(start.relation, number)
        at_start = self._start_ids(number)
        return enumeration(log, at_start, self._cuts(number, at_start), step, readings)

    def add(self, number: int, other: int, step: int) -> None:
        """Add an edge, at a step, if it is not there."""
        if not self.targets(number) & self._start.bit[other]:
            self._insert(number, other, step)

    def move(self, number: int, other: int, step: int) -> None:
        """Take away all edges from and to a node, and add one to another node, at a step."""
        self.detach(number, step)
        self._insert(number, other, step)

    def _insert(self, number: int, other: int, step: int) -> None:
        start = self._start
        own, bit = start.bit[number], start.bit[other]
        if number == start.character:
            self.outgoing |= bit
            self.incoming |= bit & start.me
        elif other == start.character:
            self.incoming |= own
        else:
            self._targets[number] = self._targets.get(number, 0) | bit
            self._sources[other] = self._sources.get(other, 0) | own
            self._linked |= own | bit
        if start.logged & own:
            self._note(number, other, step, True)

    def meet(self, others: int, step: int) -> None:
        """Add the edges between the character and a mask of others, both ways, at a step, where they are not there."""
        start, noted = self._start, others & self._start.logged
        if start.logs_character:
            for other in bits(others & ~self.outgoing):
                self._note(start.character, other, step, True)
        if noted:
            noted ^= noted & self.incoming
            while noted:
                other = noted.bit_length() - 1
                noted ^= start.bit[other]
                self._note(other, start.character, step, True)
        self.outgoing |= others
        self.incoming |= others

    def release(self, others: int, step: int) -> None:
        """Take away the edges from the character to a mask of others, at a step, where they are there."""
        start, others = self._start, others & self.outgoing
        if others:
            self.outgoing ^= others
            self.incoming ^= others & self.incoming & start.me
            if start.logs_character:
                for other in bits(others):
                    self._note(start.character, other, step, False)

    def lose(self, number: int, step: int) -> None:
        """Take away the edge from a node to the character, at a step, if it is there."""
        start, bit = self._start, self._start.bit[number]
        if self.incoming & bit:
            self.incoming ^= bit
            self.outgoing ^= bit & self.outgoing & start.me
            if start.logged & bit:
                self._note(number, start.character, step, False)

    def detach(self, number: int, step: int) -> None:
        """Take away all edges from and to a node, at a step."""
        start = self._start
        if number == start.character:
            self._detach_character(step)
            return
        bit = start.bit[number]
        if bit & (self.incoming | self.outgoing):
            self._part(number, bit, step)
        if not self._linked & bit:
            return
        self._linked ^= bit
        if start.connected & self._uncut & bit:
            self._cut[number] = step
            self._uncut ^= bit
        if targets := self._targets.pop(number, 0):
            masks, notes = self._sources, start.logged & bit
            while targets:
                other = targets.bit_length() - 1
                targets ^= start.bit[other]
                masks[other] ^= bit
                if notes:
                    self._note(number, other, step, False)
        if sources := self._sources.pop(number, 0):
            masks = self._targets
            while sources:
                other = sources.bit_length() - 1
                sources ^= start.bit[other]
                masks[other] ^= bit
                if start.logged & start.bit[other]:
                    self._note(other, number, step, False)

    def _detach_character(self, step: int) -> None:
        start, me = self._start, self._start.character
        noted, own = self.incoming & start.logged, self.outgoing if start.logs_character else 0
        if me not in self._cut:
            # What is left of the start is cut, not logged.
            noted &= ~(start.sources[me] & self._uncut)
            own &= ~(start.targets[me] & self._uncut)
            self._cut[me] = step
        while noted:
            other = noted.bit_length() - 1
            noted ^= start.bit[other]
            self._note(other, me, step, False)
        if own:
            for other in bits(own):
                self._note(me, other, step, False)
        self.outgoing = self.incoming = 0

    def _part(self, number: int, bit: int, step: int) -> None:
        """Take away the edges between the character and a node that is about to be cut."""
        start, me = self._start, self._start.character
        uncut = 0 if me in self._cut else self._uncut & bit
        if self.incoming & bit:
            self.incoming ^= bit
            if start.logged & bit and not start.sources[me] & uncut:
                self._note(number, me, step, False)
        if self.outgoing & bit:
            self.outgoing ^= bit
            if start.logs_character and not start.targets[me] & uncut:
                self._note(me, number, step, False)

    def _note(self, number: int, other: int, step: int, added: bool) -> None:
        log, target = self._logs.get(number), self._start.id_of[other]
        if log is None:
            self._logs[number] = (None, 1, step, target, added)
            return
        if log[1] >= LONGEST_LOG:
            start = self._start_ids(number)
            log = shortened(log, start, self._cuts(number, start), step)
        self._logs[number] = (log, log[1] + 1, step, target, added)

    def _start_ids(self, number: int) -> tuple[int, ...]:
        return self._start.apartment.start_targets(self._start.relation, number)

    def _cuts(self, number: int, start: tuple[int, ...]) -> list[tuple[int, int]]:
        """Steps at which edges of the start were cut, with the target's id."""
        apartment, cut = self._start.apartment, self._cut
        own, numbers = cut.get(number), apartment.numbers
        if own is None:
            gone = self._start.targets[number] & ~self._uncut
            return [(cut[other], apartment.id_of[other]) for other in bits(gone) if other in cut]
        return [(min(own, cut.get(numbers[target], own)), target) for target in start]


class World:
    """The state of one apartment with one acting character.

    Attributes:
        apartment: What does not change.
        character: Number of the character that acts.
        repaired: Whether three mistakes of the original are mended (see ``actions.py``).
        on, inside, close, facing, right, left: The edges of the relations that change.
        in_state: For each state the mask of the nodes in it.
        kinds: What the nodes are good for.
        me: Mask of the character alone.
        grabbed: For each node that was grabbed off something and not put back since: what it was taken from, and the
            relation in which it stood to that.
        step: Number of successful steps.
        is_resting: Whether the character sits or lies, in the sense of ``was_in``.
    """

    __slots__ = (
        "_walkable", "apartment", "character", "close", "facing", "grabbed", "in_state", "inside", "is_resting",
        "kinds", "left", "me", "on", "repaired", "right", "step",
    )  # fmt: skip

    def __init__(self, apartment: Apartment, character: int) -> None:
        self.apartment, self.character, self.me = apartment, character, apartment.bit[character]
        self.repaired, self.kinds = False, Kinds(apartment)
        self.on = Edges(apartment, ON, character, logged=apartment.grabbable)
        # Only what can be carried comes to be inside something else; what it leaves behind is cut.
        carried = apartment.grabbable | apartment.targets[HOLDS_RH][character] | apartment.targets[HOLDS_LH][character]
        self.inside = Edges(apartment, INSIDE, character, logged=carried)
        self.close = Edges(apartment, CLOSE, character, logged=apartment.grabbable)
        self.facing = Edges(apartment, FACING, character)
        self.right = Edges(apartment, HOLDS_RH, character)
        self.left = Edges(apartment, HOLDS_LH, character)
        self.in_state = list(apartment.in_state)
        self.grabbed: dict[int, tuple[int, Relation]] = {}
        self.step = 0
        self.is_resting = self.was_in(SITTING) or self.was_in(LYING)
        self._walkable: tuple[int, int] | None = None

    @classmethod
    def at_start(cls, apartment: Apartment, character: int, repaired: bool) -> "World":
        """The world as it begins: a copy of what the apartment remembers, which costs less than making it."""
        first: World | None = apartment.worlds.get(character)
        if first is None:
            first = apartment.worlds[character] = cls(apartment, character)
        world = first.copy()
        world.repaired = repaired
        return world

    def copy(self) -> "World":
        """An independent copy that shares the apartment."""
        other = World.__new__(World)
        other.apartment, other.character, other.me = self.apartment, self.character, self.me
        other.repaired, other.kinds = self.repaired, self.kinds
        other.on, other.inside, other.close = self.on.copy(), self.inside.copy(), self.close.copy()
        other.facing, other.right, other.left = self.facing.copy(), self.right.copy(), self.left.copy()
        other.in_state, other.grabbed = self.in_state.copy(), self.grabbed.copy()
        other.step, other.is_resting, other._walkable = self.step, self.is_resting, self._walkable
        return other

    def edges(self, relation: Relation) -> Edges:
        """The edges of a relation; those of ``BETWEEN`` and ``SITTING`` are the start's."""
        changing = {
            ON: self.on, INSIDE: self.inside, CLOSE: self.close, FACING: self.facing, HOLDS_RH: self.right,
            HOLDS_LH: self.left,
        }  # fmt: skip
        return changing.get(relation) or Edges(self.apartment, relation, self.character)

    # --- changes ---

    def come_close(self, number: int, other: int) -> None:
        """Let two nodes be close to each other."""
        self.close.add(number, other, self.step)
        self.close.add(other, number, self.step)

    def put_inside(self, number: int, place: int) -> None:
        """Let a node be inside another, too."""
        self.inside.add(number, place, self.step)
        self._walkable = None

    def move(self, number: int, place: int) -> None:
        """Let a node be inside another and nowhere else, and nothing inside it."""
        self.inside.move(number, place, self.step)
        self._walkable = None

    def take(self, number: int) -> None:
        """Take a node into a free hand, the right one before the left, out of whatever hands hold it."""
        right, left, bit = self.right, self.left, self.apartment.bit[number]
        hand = left if right.outgoing else right
        right.detach(number, self.step)
        left.detach(number, self.step)
        hand.outgoing |= bit
        hand.incoming |= bit & self.me

    def release(self, number: int) -> None:
        """Take a node out of the character's hands."""
        bit = self.apartment.bit[number]
        self.right.release(bit, self.step)
        self.left.release(bit, self.step)

    def face_nothing(self) -> None:
        """Turn the character away from all that it faces."""
        if faced := self.facing.outgoing:
            self.facing.release(faced, self.step)

    def switch(self, number: int, off: State, on: State) -> None:
        """Take a node out of one state and into another."""
        bit, in_state = self.apartment.bit[number], self.in_state
        in_state[off] ^= in_state[off] & bit
        in_state[on] |= bit

    def take_posture(self, posture: State | None) -> None:
        """Let the character sit, lie or (``None``) stand; its other states become those of the start (see below)."""
        me, in_state, before = self.me, self.in_state, self.in_state if self.repaired else self.apartment.in_state
        for state, (now, then) in enumerate(zip(in_state, before, strict=True)):
            in_state[state] = now ^ (now ^ then) & me
        for state in _POSTURES:
            if in_state[state] & me:
                in_state[state] ^= me
        if posture is not None:
            in_state[posture] |= me
        self.is_resting = self.was_in(SITTING) or self.was_in(LYING)

    # --- questions ---

    def has(self, state: State, number: int) -> bool:
        """Whether the node is in the state."""
        return bool(self.in_state[state] & self.apartment.bit[number])

    def was_in(self, posture: State) -> bool:
        """Whether the character sat or lay *at the start*; if repaired, whether it does so now.

        The original looks the character up in the graph of the start, so sitting down does not make it sit.
        """
        in_state = self.in_state if self.repaired else self.apartment.in_state
        return bool(in_state[posture] & self.me)

    def held(self) -> int:
        """Mask of what the character holds."""
        return self.right.outgoing | self.left.outgoing

    def has_free_hand(self) -> bool:
        """Whether one hand holds nothing."""
        return not (self.right.outgoing and self.left.outgoing)

    def is_close(self, number: int) -> bool:
        """Whether the node is close to the character, or to something close to it, or lies on such a thing."""
        near = self.close.outgoing
        if near & self.apartment.bit[number]:
            return True
        return bool(near & (self.close.sources(number) | self.on.targets(number)))

    def reachable(self) -> int:
        """Mask of the nodes for which ``is_close`` holds."""
        close, on = self.close, self.on
        mask = near = close.outgoing
        for number in bits(near):
            mask |= close.targets(number) | on.sources(number)
        return mask

    def is_faced(self, number: int) -> bool:
        """Whether the character faces the node, or something that faces it."""
        return bool(self.facing.outgoing & (self.apartment.bit[number] | self.facing.sources(number)))

    def faced(self) -> int:
        """Mask of the nodes for which ``is_faced`` holds."""
        facing = self.facing
        mask = mine = facing.outgoing
        for number in bits(mine):
            mask |= facing.targets(number)
        return mask

    def shut_in(self) -> int:
        """Mask of the nodes directly inside something closed that is no room."""
        mask = 0
        for number in bits(self.in_state[CLOSED] & self.kinds.no_rooms):
            mask |= self.inside.sources(number)
        return mask

    def room(self, number: int) -> int | None:
        """The room of a node as the original finds it: the node itself, else the first room among several containers.

        One container is followed upwards, there always to the *first* of several; so a node in two containers, neither
        of them a room, is in no room.

        Raises:
            UndefinedStepError: The search goes round in a circle.
        """
        rooms, inside, bit = self.apartment.rooms, self.inside, self.apartment.bit
        if rooms & bit[number]:
            return number
        mask = inside.targets(number)
        if among := mask & rooms:
            last = among.bit_length() - 1
            if among == bit[last]:
                return last
            return inside.first(number, among, self.step, readings=2)
        if mask & (mask - 1):
            return None
        passed, above = 0, number
        while mask:
            above = inside.first(above, mask, self.step)
            if rooms & bit[above]:
                return above
            if passed & bit[above]:
                raise UndefinedStepError(f"{self.apartment.labels[above]} is inside itself")
            passed |= bit[above]
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
        rooms, inside = self.apartment.rooms, self.inside
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
        shut = self._inside_of(self.in_state[CLOSED] & self.kinds.no_rooms)
        worn = self.on.incoming
        return apartment.rooms | seen & ~shut | self.held() | worn | self.me

    def _inside_of(self, containers: int) -> int:
        inside, mask, frontier = self.inside, 0, containers
        while frontier:
            within = 0
            for number in bits(frontier):
                within |= inside.sources(number)
            frontier = within & ~mask
            mask |= within
        return mask

    def states(self, number: int) -> tuple[State, ...]:
        """The states that a node is in."""
        return tuple(state for state in _STATES if self.has(state, number))
