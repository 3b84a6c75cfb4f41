"""The order in which the original enumerates what a node stands in a relation to.

Where the original takes *the first of several*, it takes the first element of a Python set of ids: the place from which
something was grabbed (``PUTOBJBACK`` returns it there), and the room of a node that is in several. That order follows
from the ids' hashes and, where these collide, from the history of the set: which edges were added and removed at which
step, because every successful step copies the sets anew. To be equal to the original step by step, the engine logs
those changes and replays them, as sets, when an order is asked for; the log is shared between copies of a state.

What is replayed is the original whose graph is read (``to_dict``) after every step, as its own ``execute`` and the text
environments around it do: reading merges the edges of the start into the sets, and so takes part in their history.
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
        log, length = Checkpoint(step - 1, *_replay(log, start, step - 1)), 0
    return Change(log, length + 1, step, target, added)


def enumeration(log: Log, start: Sequence[int], step: int) -> Sequence[int]:
    """Target ids in the original's order.

    Args:
        log: The changes of this node and relation, newest first.
        start: Target ids at the start, in the order of the graph's edges.
        step: Number of successful steps so far.

    >>> enumeration(None, [3, 16, 8], step=0)  # in a table of eight places 16 and 8 collide
    [16, 8, 3]
    """
    order, removed = _replay(log, start, step)
    return order if order is not None else [target for target in set(iter(start)) if target not in removed]


def _replay(log: Log, start: Sequence[int], step: int) -> tuple[tuple[int, ...] | None, frozenset[int]]:
    """The set of added edges in its order (``None`` while there never was one), and the start's removed edges."""
    changes: list[Change] = []
    while isinstance(log, Change):
        changes.append(log)
        log = log.previous
    since, order, removed = (log.step, log.order, set(log.removed)) if log is not None else (0, None, set())
    for at, together in groupby(reversed(changes), key=lambda change: change.step):
        targets = None if order is None else set(_copied(order, at - since - 1))
        for change in together:
            if change.target in start:
                (removed.discard if change.added else removed.add)(change.target)
            elif change.added:
                targets = set() if targets is None else targets
                targets.add(change.target)
            elif targets is not None:
                targets.discard(change.target)
        if targets is not None:
            targets.update(iter(start))
            targets.difference_update(removed)
            order = tuple(targets)
        since = at
    return (None if order is None else _copied(order, step - since)), frozenset(removed)


def _copied(order: tuple[int, ...], times: int) -> tuple[int, ...]:
    """The order after so many copies of the set, each made of the list of the one before."""
    seen = [order]
    while len(seen) <= times:
        following = tuple(set(iter(seen[-1])))
        if following in seen:
            first = seen.index(following)
            return seen[first + (times - first) % (len(seen) - first)]
        seen.append(following)
    return seen[times]
