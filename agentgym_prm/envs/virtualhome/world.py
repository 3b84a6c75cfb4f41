"""What holds in an apartment now: edges and states as masks of bits, with the questions that the actions ask.

Edges are kept both ways, as changes against the apartment's start, so a step costs the same in a large apartment as in
a small one, and a copy costs what has changed. Numbers, not ids, name the nodes in here.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from agentgym_prm.envs.virtualhome.graph import Apartment, Relation, State, bits
from agentgym_prm.envs.virtualhome.order import LONGEST_LOG, Log, enumeration, shortened

ON, INSIDE, BETWEEN, CLOSE, FACING, HOLDS_RH, HOLDS_LH, _ = Relation
# Looking a member up in its class costs more than most checks.
_CLOSED: Final = State.CLOSED
_SITTING: Final = State.SITTING
_LYING: Final = State.LYING

_POSTURES: Final = (_SITTING, _LYING)
_STATES: Final = tuple(State)


class UndefinedStepError(Exception):
    """Here the original raises or never returns; the message says what is missing."""


class Edges:
    """One relation: from each node to others, and back.

    Kept as the edges of the start, the nodes of which all of these were cut (``_cut``, with the step), and the edges
    that are there besides. So grabbing what is close to fifty things costs as little as grabbing what is close to none.
    Changes besides the cuts are logged for the nodes of which the order is asked for (``order.py``).
    """

    __slots__ = (
        "_apartment", "_cut", "_logs", "_ordered", "_relation", "_sources", "_start_sources", "_start_targets",
        "_targets", "_uncut",
    )  # fmt: skip

    def __init__(self, apartment: Apartment, relation: Relation, ordered: frozenset[int] = frozenset()) -> None:
        """``ordered`` are the nodes whose changes are logged."""
        self._apartment, self._relation, self._ordered = apartment, relation, ordered
        self._start_targets, self._start_sources = apartment.targets[relation], apartment.sources[relation]
        self._cut: dict[int, int] = {}
        self._uncut = apartment.everything
        self._targets: dict[int, int] = {}
        self._sources: dict[int, int] = {}
        self._logs: dict[int, Log] = {}

    def copy(self) -> "Edges":
        """An independent copy."""
        other = Edges.__new__(Edges)
        other._apartment, other._relation, other._ordered = self._apartment, self._relation, self._ordered
        other._start_targets, other._start_sources = self._start_targets, self._start_sources
        other._cut, other._uncut, other._logs = self._cut.copy(), self._uncut, self._logs.copy()
        other._targets, other._sources = self._targets.copy(), self._sources.copy()
        return other

    def targets(self, number: int) -> int:
        """Mask of what the node stands in the relation to."""
        if number in self._cut:
            return self._targets.get(number, 0)
        return self._start_targets[number] & self._uncut | self._targets.get(number, 0)

    def sources(self, number: int) -> int:
        """Mask of what stands in the relation to the node."""
        if number in self._cut:
            return self._sources.get(number, 0)
        return self._start_sources[number] & self._uncut | self._sources.get(number, 0)

    def changed(self) -> int:
        """Mask of the nodes whose targets may differ from those at the start."""
        start = self._apartment.targets[self._relation]
        mask = sum(1 << number for number in self._targets)
        for number in self._cut:
            mask |= 1 << number | self._apartment.sources[self._relation][number]
        if start is not self._start_targets:
            mask |= sum(1 << number for number, ours in enumerate(self._start_targets) if ours != start[number])
        return mask

    def ordered_targets(self, number: int, step: int, readings: int = 1) -> Iterator[int]:
        """What the node stands in the relation to, in the original's order (``order.py``), if changes are logged."""
        mask = self.targets(number)
        if not mask & (mask - 1):
            return bits(mask)
        apartment, log = self._apartment, self._logs.get(number)
        if log is None and mask == apartment.targets[self._relation][number]:
            return iter(apartment.start_order(self._relation, number))
        start = self._start_ids(number)
        ids = enumeration(log, start, self._cuts(number, start), step, readings)
        return map(apartment.numbers.__getitem__, ids)

    def add(self, start: int, stop: int, step: int) -> None:
        """Add an edge, at a step, if it is not there."""
        extra, bit = self._targets.get(start, 0), 1 << stop
        if extra & bit or (start not in self._cut and self._start_targets[start] & self._uncut & bit):
            return
        self._targets[start] = extra | bit
        self._sources[stop] = self._sources.get(stop, 0) | 1 << start
        if start in self._ordered:
            self._note(start, stop, step, True)

    def join(self, number: int, others: int, step: int) -> None:
        """Add the edges between a node and a mask of others, both ways, at a step, where they are not there."""
        new_to, new_from = others & ~self.targets(number), others & ~self.sources(number)
        new = new_to | new_from
        if not new:
            return
        targets, sources, ordered, bit = self._targets, self._sources, self._ordered, 1 << number
        targets[number] = targets.get(number, 0) | new_to
        sources[number] = sources.get(number, 0) | new_from
        notes = number in ordered
        while new:
            rest = new & (new - 1)
            low = new ^ rest
            new, other = rest, low.bit_length() - 1
            if new_to & low:
                sources[other] = sources.get(other, 0) | bit
                if notes:
                    self._note(number, other, step, True)
            if new_from & low:
                targets[other] = targets.get(other, 0) | bit
                if other in ordered:
                    self._note(other, number, step, True)

    def remove(self, start: int, stop: int, step: int) -> None:
        """Take an edge away, at a step, if it is there."""
        if not self.targets(start) >> stop & 1:
            return
        extra = self._targets.get(start, 0)
        if extra >> stop & 1:
            self._targets[start] = extra ^ 1 << stop
            self._sources[stop] ^= 1 << start
        else:
            self._start_targets = _without(self._start_targets, start, stop)
            self._start_sources = _without(self._start_sources, stop, start)
        if start in self._ordered:
            self._note(start, stop, step, False)

    def detach(self, number: int, step: int) -> None:
        """Take away all edges from and to a node, at a step."""
        if number not in self._cut and self._start_targets[number] | self._start_sources[number]:
            self._cut[number] = step
            self._uncut &= ~(1 << number)
        targets = self._targets.pop(number, 0)
        if targets:
            bit, notes, masks = 1 << number, number in self._ordered, self._sources
            while targets:
                rest = targets & (targets - 1)
                other, targets = (targets ^ rest).bit_length() - 1, rest
                masks[other] ^= bit
                if notes:
                    self._note(number, other, step, False)
        sources = self._sources.pop(number, 0)
        if sources:
            bit, ordered, masks = 1 << number, self._ordered, self._targets
            while sources:
                rest = sources & (sources - 1)
                other, sources = (sources ^ rest).bit_length() - 1, rest
                masks[other] ^= bit
                if other in ordered:
                    self._note(other, number, step, False)

    def _note(self, number: int, other: int, step: int, added: bool) -> None:
        logs, target = self._logs, self._apartment.id_of[other]
        log = logs.get(number)
        if log is None:
            logs[number] = (None, 1, step, target, added)
            return
        if log[1] >= LONGEST_LOG:
            start = self._start_ids(number)
            log = shortened(log, start, self._cuts(number, start), step)
        logs[number] = (log, log[1] + 1, step, target, added)

    def _start_ids(self, number: int) -> tuple[int, ...]:
        return self._apartment.start_targets(self._relation, number)

    def _cuts(self, number: int, start: tuple[int, ...]) -> list[tuple[int, int]]:
        """Steps at which edges of the start were cut, with the target's id."""
        own, ids = self._cut.get(number), self._apartment.id_of
        if own is None:
            gone = self._apartment.targets[self._relation][number] & ~self._uncut
            return [(self._cut[other], ids[other]) for other in bits(gone)]
        numbers = self._apartment.numbers
        return [(min(own, self._cut.get(numbers[target], own)), target) for target in start]


def _without(masks: Sequence[int], number: int, other: int) -> tuple[int, ...]:
    return (*masks[:number], masks[number] & ~(1 << other), *masks[number + 1 :])


class World:
    """The state of one apartment with one acting character.

    Attributes:
        apartment: What does not change.
        character: Number of the character that acts.
        repaired: Whether three mistakes of the original are mended (see ``actions.py``).
        on, inside, close, facing, right, left: The edges of the relations that change.
        in_state: For each state the mask of the nodes in it.
        grabbed: For each node that was grabbed off something and not put back since: what it was taken from, and the
            relation in which it stood to that.
        step: Number of successful steps.
    """

    __slots__ = (
        "_walkable", "apartment", "character", "close", "facing", "grabbed", "in_state", "inside", "left", "on",
        "repaired", "right", "step",
    )  # fmt: skip

    def __init__(self, apartment: Apartment, character: int, repaired: bool = False) -> None:
        self.apartment, self.character, self.repaired = apartment, character, repaired
        self.on = Edges(apartment, ON, ordered=apartment.grabbable_numbers)
        self.inside = Edges(apartment, INSIDE, ordered=apartment.all_numbers)
        self.close = Edges(apartment, CLOSE, ordered=apartment.grabbable_numbers)
        self.facing = Edges(apartment, FACING)
        self.right = Edges(apartment, HOLDS_RH)
        self.left = Edges(apartment, HOLDS_LH)
        self.in_state = list(apartment.in_state)
        self.grabbed: dict[int, tuple[int, Relation]] = {}
        self.step = 0
        self._walkable: tuple[int, int] | None = None

    def copy(self) -> "World":
        """An independent copy that shares the apartment."""
        other = World.__new__(World)
        other.apartment, other.character, other.repaired = self.apartment, self.character, self.repaired
        other.on, other.inside, other.close = self.on.copy(), self.inside.copy(), self.close.copy()
        other.facing, other.right, other.left = self.facing.copy(), self.right.copy(), self.left.copy()
        other.in_state, other.grabbed = self.in_state.copy(), self.grabbed.copy()
        other.step, other._walkable = self.step, self._walkable
        return other

    def edges(self, relation: Relation) -> Edges:
        """The edges of a relation; those of ``BETWEEN`` and ``SITTING`` are the start's."""
        changing = {
            ON: self.on, INSIDE: self.inside, CLOSE: self.close, FACING: self.facing, HOLDS_RH: self.right,
            HOLDS_LH: self.left,
        }  # fmt: skip
        return changing.get(relation) or Edges(self.apartment, relation)

    # --- changes ---

    def come_close(self, number: int, other: int) -> None:
        """Let two nodes be close to each other."""
        self.close.join(number, 1 << other, self.step)

    def put_inside(self, number: int, place: int) -> None:
        """Let a node be inside another, too."""
        self.inside.add(number, place, self.step)
        self._walkable = None

    def take_out(self, number: int) -> None:
        """Let a node be inside nothing, and nothing inside it."""
        self.inside.detach(number, self.step)
        self._walkable = None

    def release(self, number: int) -> None:
        """Take a node out of the character's hands."""
        self.right.remove(self.character, number, self.step)
        self.left.remove(self.character, number, self.step)

    def face_nothing(self) -> None:
        """Turn the character away from all that it faces."""
        if faced := self.facing.targets(self.character):
            for number in bits(faced):
                self.facing.remove(self.character, number, self.step)

    def switch(self, number: int, off: State, on: State) -> None:
        """Take a node out of one state and into another."""
        bit = 1 << number
        self.in_state[off] &= ~bit
        self.in_state[on] |= bit

    def take_posture(self, posture: State | None) -> None:
        """Let the character sit, lie or (``None``) stand; its other states become those of the start (see below)."""
        bit = 1 << self.character
        before = self.in_state if self.repaired else self.apartment.in_state
        for state in _STATES:
            self.in_state[state] = self.in_state[state] & ~bit | before[state] & bit
        for state in _POSTURES:
            self.in_state[state] &= ~bit
        if posture is not None:
            self.in_state[posture] |= bit

    # --- questions ---

    def has(self, state: State, number: int) -> bool:
        """Whether the node is in the state."""
        return bool(self.in_state[state] >> number & 1)

    def was_in(self, posture: State) -> bool:
        """Whether the character sat or lay *at the start*; if repaired, whether it does so now.

        The original looks the character up in the graph of the start, so sitting down does not make it sit.
        """
        in_state = self.in_state if self.repaired else self.apartment.in_state
        return bool(in_state[posture] >> self.character & 1)

    def is_resting(self) -> bool:
        """Whether the character sits or lies, in the sense of ``was_in``."""
        in_state = self.in_state if self.repaired else self.apartment.in_state
        return bool((in_state[_SITTING] | in_state[_LYING]) >> self.character & 1)

    def held(self) -> int:
        """Mask of what the character holds."""
        return self.right.targets(self.character) | self.left.targets(self.character)

    def free_hand(self) -> Edges | None:
        """The edges of the hand that would grab next: right before left."""
        if not self.right.targets(self.character):
            return self.right
        return None if self.left.targets(self.character) else self.left

    def is_close(self, number: int) -> bool:
        """Whether the node is close to the character, or to something close to it, or lies on such a thing."""
        mine = self.close.targets(self.character)
        return bool(mine >> number & 1 or mine & (self.close.sources(number) | self.on.targets(number)))

    def reachable(self) -> int:
        """Mask of the nodes for which ``is_close`` holds."""
        close, on = self.close, self.on
        mask = mine = close.targets(self.character)
        for number in bits(mine):
            mask |= close.targets(number) | on.sources(number)
        return mask

    def is_faced(self, number: int) -> bool:
        """Whether the character faces the node, or something that faces it."""
        return bool(self.facing.targets(self.character) & (1 << number | self.facing.sources(number)))

    def faced(self) -> int:
        """Mask of the nodes for which ``is_faced`` holds."""
        facing = self.facing
        mask = mine = facing.targets(self.character)
        for number in bits(mine):
            mask |= facing.targets(number)
        return mask

    def is_shut_in(self, number: int) -> bool:
        """Whether the node is directly inside something closed that is no room."""
        return bool(self.inside.targets(number) & self.in_state[_CLOSED] & ~self.apartment.rooms)

    def shut_in(self) -> int:
        """Mask of the nodes for which ``is_shut_in`` holds."""
        mask = 0
        for number in bits(self.in_state[_CLOSED] & ~self.apartment.rooms):
            mask |= self.inside.sources(number)
        return mask

    def room(self, number: int) -> int | None:
        """The room of a node as the original finds it: the node itself, else the first room among several containers.

        One container is followed upwards, there always to the *first* of several; so a node in two containers, neither
        of them a room, is in no room.

        Raises:
            UndefinedStepError: The search goes round in a circle.
        """
        rooms, inside = self.apartment.rooms, self.inside
        if rooms >> number & 1:
            return number
        mask = inside.targets(number)
        among = mask & rooms
        if among and not among & (among - 1):
            return among.bit_length() - 1
        if mask & (mask - 1):
            if not among:
                return None
            return next(other for other in inside.ordered_targets(number, self.step, readings=2) if rooms >> other & 1)
        passed, above = 0, number
        while mask:
            above = next(inside.ordered_targets(above, self.step)) if mask & (mask - 1) else mask.bit_length() - 1
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
        shut = self._inside_of(self.in_state[_CLOSED] & ~apartment.rooms)
        worn = self.on.sources(self.character)
        return apartment.rooms | seen & ~shut | self.held() | worn | 1 << self.character

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
        return tuple(state for state in _STATES if self.in_state[state] >> number & 1)
