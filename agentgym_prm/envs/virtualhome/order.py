"""The order in which the original enumerates what a node stands in a relation to.

Where the original takes *the first of several*, it takes the first element of a Python set of ids: the place from which
something was grabbed (``PUTOBJBACK`` returns it there), and the room of a node that is in several. That order follows
from the ids' hashes and, where these collide, from the history of the set: which edges were added and removed at which
step. Every successful step copies the sets anew, and every reading of them, by a check as by ``to_dict``, puts the
edges of the start in and takes those that were removed out again, which can make the set's table grow. To be equal to
the original step by step, the engine logs the changes and replays them, as sets, when an order is asked for; the log is
shared between copies of a state.

What is replayed is the original whose graph is read (``to_dict``) once after every successful step, as its own
``execute`` and the text environments around it do. Not replayed is what checks read in between, and readings after
refused lines. That can matter for a node that has lost edges of the start and gained others: in one of 2,000 random
scripts a thing was grabbed off another of several that it was close to (counted by ``make parity-virtualhome``).
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

LONGEST_LOG: Final = 64


class Checkpoint(NamedTuple):
    """What a set was after a step, in place of the changes up to it."""

    order: tuple[int, ...] | None
    length: int
    step: int
    removed: frozenset[int]


Change: TypeAlias = tuple["Log", int, int, int, bool]
"""After what log, number of changes, step, target id, whether it was added (else removed)."""
Log: TypeAlias = Change | Checkpoint | None
Cuts: TypeAlias = Sequence[tuple[int, int]]
"""Step and target id of edges of the start that were taken away with all others of a node; these are not logged."""


def shortened(log: Change | Checkpoint, start: Sequence[int], cuts: Cuts, step: int) -> Change | Checkpoint:
    """A checkpoint in place of the log, unless that holds changes of this very step."""
    if log[2] >= step:
        return log
    targets, removed = _replay(log, start, cuts, step - 1)
    return Checkpoint(None if targets is None else tuple(targets), 0, step - 1, frozenset(removed))


def enumeration(log: Log, start: Sequence[int], cuts: Cuts, step: int, readings: int = 1) -> list[int]:
    """Target ids in the original's order.

    Args:
        log: The changes of this node and relation, newest first.
        start: Target ids at the start, in the order of the graph's edges.
        cuts: What was taken away without being logged.
        step: Number of successful steps so far.
        readings: How often the set is read until the order is taken.

    >>> enumeration(None, [3, 16, 8], cuts=[], step=0)  # in a table of eight places 16 and 8 collide
    [16, 8, 3]
    """
    targets, removed = _replay(log, start, cuts, step)
    if targets is None:
        targets, readings = set(), 1  # such a set is made anew by each reading
    for _ in range(readings):
        _read(targets, start, removed)
    return list(targets)


def _replay(log: Log, start: Sequence[int], cuts: Cuts, step: int) -> tuple[set[int] | None, set[int]]:
    """The set of added edges after a step (``None`` while there never was one), and the removed edges of the start."""
    changes: list[tuple[int, int, bool]] = []
    while log is not None and not isinstance(log, Checkpoint):
        changes.append(log[2:])
        log = log[0]
    now, order, removed = (log.step, log.order, set(log.removed)) if log is not None else (0, None, set())
    changes.reverse()
    if cuts:
        # A cut comes before what was added in the same step: what was there could not be added.
        changes = [(at, target, False) for at, target in cuts if now < at <= step] + changes
        changes.sort(key=itemgetter(0))
    targets: set[int] | None = None
    for at, target, added in changes:
        if at != now:
            if targets is not None:
                _read(targets, start, removed)
                order = tuple(targets)
            targets = None if order is None else set(_carried(order, start, removed, at - now - 1))
            now = at
        if target in start:
            (removed.discard if added else removed.add)(target)
        elif added:
            targets = set() if targets is None else targets
            targets.add(target)
        elif targets is not None:
            targets.discard(target)
    if targets is not None:
        _read(targets, start, removed)
        order = tuple(targets)
    if order is not None and now < step:
        targets = set(order)
        _read(targets, start, removed)
        # Most orders stay as they are from here on; only the others are followed step by step.
        if now < step - 1 and tuple(targets) != order:
            targets = set(_carried(order, start, removed, step - now - 1))
            _read(targets, start, removed)
    return targets, removed


def _read(targets: set[int], start: Sequence[int], removed: set[int]) -> None:
    """What reading a set does to it."""
    targets.update(iter(start))
    targets.difference_update(removed)


def _carried(order: tuple[int, ...], start: Sequence[int], removed: set[int], steps: int) -> tuple[int, ...]:
    """The order after steps that do not change the set: each copies it by way of a list, and it is read."""
    if not steps:
        return order
    seen = [order]
    while len(seen) <= steps:
        targets = set(seen[-1])
        _read(targets, start, removed)
        following = tuple(targets)
        if following in seen:
            first = seen.index(following)
            return seen[first + (steps - first) % (len(seen) - first)]
        seen.append(following)
    return seen[steps]
