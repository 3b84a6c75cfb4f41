"""The order in which the original enumerates what a node stands in a relation to.

Where the original takes *the first of several*, it takes the first element of a Python set of ids: the place from which
something was grabbed (``PUTOBJBACK`` returns it there), and the room of a node that is in several. That order follows
from the ids' hashes and, where these collide, from the history of the set: which edges were added and removed at which
step. Every successful step copies the sets anew, and every reading of them, by a check as by ``to_dict``, puts the edges
of the start in and takes those that were removed out again, which can make the set's table grow. To be equal to the
original step by step, the engine logs the changes and replays them, as sets, when an order is asked for; the log is
shared between copies of a state.

What is replayed is the original whose graph is read (``to_dict``) once after every successful step, as its own
``execute`` and the text environments around it do. Not replayed is what other checks read in between: it can matter for
a node that has lost edges of the start and gained others, and shows in about one of a thousand random scripts.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Final, NamedTuple

_LONGEST_LOG: Final = 64


class Change(NamedTuple):
    """One edge added or removed, after what ``previous`` says."""

    previous: "Change | Checkpoint | None"
    length: int
    step: int
    target: int
    added: bool


class Checkpoint(NamedTuple):
    """The state of a set after a step, in place of the changes up to it."""

    step: int
    order: tuple[int, ...] | None
    removed: frozenset[int]
    length: int = 0


Log = Change | Checkpoint | None


def logged(log: Log, start: Sequence[int], step: int, target: int, added: bool) -> Change:
    """The log with one more change; a long one is shortened to a checkpoint."""
    length = log.length if log is not None else 0
    if length >= _LONGEST_LOG and log is not None and log.step < step:
        targets, removed = _replay(log, start, step - 1)
        log, length = Checkpoint(step - 1, None if targets is None else tuple(targets), frozenset(removed)), 0
    return Change(log, length + 1, step, target, added)


def enumeration(log: Log, start: Sequence[int], step: int, readings: int = 1) -> list[int]:
    """Target ids in the original's order.

    Args:
        log: The changes of this node and relation, newest first.
        start: Target ids at the start, in the order of the graph's edges.
        step: Number of successful steps so far.
        readings: How often the set is read until the order is taken.

    >>> enumeration(None, [3, 16, 8], step=0)  # in a table of eight places 16 and 8 collide
    [16, 8, 3]
    """
    targets, removed = _replay(log, start, step)
    if targets is None:
        return [target for target in set(iter(start)) if target not in removed]
    for _ in range(readings):
        _read(targets, start, removed)
    return list(targets)


def _replay(log: Log, start: Sequence[int], step: int) -> tuple[set[int] | None, set[int]]:
    """The set of added edges after a step (``None`` while there never was one), and the removed edges of the start."""
    changes: list[Change] = []
    while isinstance(log, Change):
        changes.append(log)
        log = log.previous
    targets: set[int] | None = None
    since, order, removed = (log.step, log.order, set(log.removed)) if log is not None else (0, None, set())
    for at, together in groupby(reversed(changes), key=lambda change: change.step):
        targets = None if order is None else set(_carried(order, start, removed, at - since - 1))
        for change in together:
            if change.target in start:
                (removed.discard if change.added else removed.add)(change.target)
            elif change.added:
                targets = set() if targets is None else targets
                targets.add(change.target)
            elif targets is not None:
                targets.discard(change.target)
        if targets is not None:
            _read(targets, start, removed)
            order = tuple(targets)
        since = at
    if order is not None and since < step:
        targets = set(_carried(order, start, removed, step - since - 1))
        _read(targets, start, removed)
    return targets, removed


def _read(targets: set[int], start: Sequence[int], removed: set[int]) -> None:
    """What reading a set does to it."""
    targets.update(iter(start))
    targets.difference_update(removed)


def _carried(order: tuple[int, ...], start: Sequence[int], removed: set[int], steps: int) -> tuple[int, ...]:
    """The order after steps that do not change the set: each copies it by way of a list, and it is read."""
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
