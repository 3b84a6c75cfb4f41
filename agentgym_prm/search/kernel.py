"""The search loop, compiled by numba: the best documents of many queries in one call, several threads at once.

Documents are gone through in windows. A list that has many postings in a window is *dense* and comes with a table: it
is cut at multiples of a power of two of documents into *pieces* of about ``PIECE_POSTINGS`` postings, and of each piece
the table says where it starts, what counts most in it, and, bit by bit, where in it there are documents at all. So a
sum over the query's terms bounds the score of every document of a *cell*, before a posting is read.

In a window the terms that can add most are counted for all documents, until those that are left cannot lift a new
document among the best (MaxScore: Turtle and Flood 1995; bounds by block: Ding and Suel 2011, "Faster top-k document
retrieval using block-max indexes"). What that leaves is looked up in the rest, term by term, while it can still win.

Bounds are in single precision and err by a few units; ``_cut`` leaves room for that. A score is the sum in double, in
the order of the terms, rounded once, as in ``bm25``, to the same bits.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import numba
import numpy as np

from agentgym_prm.search.postings import CELL_SHIFT, WINDOW_SHIFT, fewest_dense, piece_shift

_Function = TypeVar("_Function", bound=Callable[..., Any])

_WINDOW: Final = 1 << WINDOW_SHIFT
_CELLS: Final = 1 << (WINDOW_SHIFT - CELL_SHIFT)
_SPARSE: Final = 63
"""As the shift of a term without a table."""
_LOOKED_UP: Final = 64
"""At most so many terms are looked up document by document: counting takes no longer than there are postings."""
_EARLY: Final = 0.5
"""Terms are counted until the rest brings less than this share of the least score wanted; at 1 more is looked up."""
_LEAST: Final = 1e-45
"""The least score above zero in single precision."""


def _compiled(fastmath: set[str] | bool = False) -> Callable[[_Function], _Function]:
    """Compile a function when it is called, without the GIL; kept on disk for other processes if that can be."""

    def compiled(function: _Function) -> _Function:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no folder that can be written to
            return numba.njit(**options)(function)

    return compiled


_fewest_dense = _compiled()(fewest_dense)
_piece_shift = _compiled()(piece_shift)


class _Heap(NamedTuple):
    """The best so far, the worst of them first: of equal scores the later rank."""

    scores: np.ndarray
    ranks: np.ndarray
    documents: np.ndarray


@_compiled()
def _worse(heap: _Heap, one: int, other: int) -> bool:
    if heap.scores[one] != heap.scores[other]:
        return bool(heap.scores[one] < heap.scores[other])
    return bool(heap.ranks[one] > heap.ranks[other])


@_compiled()
def _set(heap: _Heap, place: int, score: np.float32, rank: int, document: int) -> None:
    heap.scores[place] = score
    heap.ranks[place] = rank
    heap.documents[place] = document


@_compiled()
def _swap(heap: _Heap, one: int, other: int) -> None:
    score, rank, document = heap.scores[one], heap.ranks[one], heap.documents[one]
    _set(heap, one, heap.scores[other], heap.ranks[other], heap.documents[other])
    _set(heap, other, score, rank, document)


@_compiled()
def _rise(heap: _Heap, place: int) -> None:
    while place > 0:
        parent = (place - 1) >> 1
        if not _worse(heap, place, parent):
            return
        _swap(heap, place, parent)
        place = parent


@_compiled()
def _sink(heap: _Heap, size: int) -> None:
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            return
        if child + 1 < size and _worse(heap, child + 1, child):
            child += 1
        if not _worse(heap, child, place):
            return
        _swap(heap, child, place)
        place = child


@_compiled()
def _last_up_to(values: np.ndarray, low: int, high: int, wanted: int) -> int:
    """The last place in ``[low, high)`` whose value is at most ``wanted``, or ``low``."""
    size = high - low
    while size > 1:
        half = size >> 1
        low = low + half if values[low + half] <= wanted else low
        size -= half
    return low


@_compiled()
def _part(weight: np.float32, saturation: np.float32) -> np.float32:
    return weight - weight / saturation


@_compiled(fastmath={"nnan", "nsz"})
def _add_row(tails_P_C: np.ndarray, row: int) -> float:
    """Add to a row, which holds what a term can add to a document by cell, the row after it; returns its greatest."""
    for cell in range(_CELLS):
        tails_P_C[row, cell] += tails_P_C[row + 1, cell]
    top = np.float32(0)
    for cell in range(_CELLS):
        top = max(top, tails_P_C[row, cell])
    return float(top)


@_compiled()
def _dense_caps(
    tails_P_C: np.ndarray, row: int, caps_C: np.ndarray, weight: np.float32, tops: np.ndarray, first: int, pieces: int
) -> None:
    """Write what a dense term can add to a document, by cell."""
    for piece in range(pieces):
        caps_C[piece] = _part(weight, tops[first + piece, 1])
    stretch = 0
    while pieces << stretch < _CELLS:
        stretch += 1
    for cell in range(_CELLS):
        tails_P_C[row, cell] = caps_C[cell >> stretch]


@_compiled()
def _sparse_caps(
    tails_P_C: np.ndarray,
    row: int,
    weight: np.float32,
    documents: np.ndarray,
    codes: np.ndarray,
    saturations: np.ndarray,
    start: int,
    end: int,
    window: int,
) -> None:
    """Write what a sparse term can add to a document, by cell."""
    for cell in range(_CELLS):
        tails_P_C[row, cell] = 0
    for place in range(start, end):
        cell = (np.int64(documents[place]) - window) >> CELL_SHIFT
        tails_P_C[row, cell] = max(tails_P_C[row, cell], _part(weight, saturations[codes[place]]))


@_compiled(fastmath={"nnan"})
def _count(
    totals_W: np.ndarray,
    met: np.ndarray,
    number: int,
    weight: np.float32,
    documents: np.ndarray,
    codes: np.ndarray,
    saturations: np.ndarray,
    start: int,
    end: int,
    window: int,
    least: float,
) -> int:
    """Add a term's postings of a window to ``totals_W``; a document met for the first time must have ``least`` of it.

    Returns:
        How many documents were ``met`` by now.
    """
    for place in range(np.uint64(start), np.uint64(end)):
        document = np.uint64(documents[place] - np.uint32(window))
        part = np.float64(_part(weight, saturations[codes[place]]))
        before = totals_W[document]
        new = before <= 0.0
        missed = new & (part < least)
        totals_W[document] = before + (0.0 if missed else part)
        met[np.uint64(number)] = document
        number += new & (not missed)
    return number


@_compiled(fastmath={"nnan"})
def _count_on(
    totals_W: np.ndarray,
    weight: np.float32,
    documents: np.ndarray,
    codes: np.ndarray,
    saturations: np.ndarray,
    start: int,
    end: int,
    window: int,
) -> None:
    """Add a term's postings of a window to what documents met before have."""
    for place in range(np.uint64(start), np.uint64(end)):
        document = np.uint64(documents[place] - np.uint32(window))
        part = np.float64(_part(weight, saturations[codes[place]]))
        before = totals_W[document]
        totals_W[document] = before + (part if before > 0.0 else 0.0)


@_compiled()
def _may_hold(tables: np.ndarray, piece: int, document: int, shift: int) -> bool:
    """Whether a piece holds a document, or another of the same 64th."""
    bit = (document >> (shift - CELL_SHIFT)) & 63
    return bool(tables[piece, 2 + (bit >> 5)] >> np.uint32(bit & 31) & np.uint32(1))


@_compiled()
def _cut(score: float, terms: int) -> float:
    """A document whose bound is below this has less than ``score``."""
    return score * (1 - 1.2e-7 * (terms + 4)) - 1e-44


@_compiled()
def best(
    documents: np.ndarray,
    codes: np.ndarray,
    saturations: np.ndarray,
    starts: np.ndarray,
    best_codes: np.ndarray,
    idfs: np.ndarray,
    ranks: np.ndarray,
    dense_terms: np.ndarray,
    piece_firsts: np.ndarray,
    tables: np.ndarray,
    tops: np.ndarray,
    size: int,
    wanted: np.ndarray,
    ends_Q: np.ndarray,
    found_Q_K: np.ndarray,
    scores_Q_K: np.ndarray,
    counts_Q: np.ndarray,
) -> None:
    """Find the best documents of queries.

    Args:
        documents: Of the index, as are the others of these names (see ``postings``).
        codes: Of each posting.
        saturations: Of each code.
        starts: Of each term's postings.
        best_codes: Of each term.
        idfs: Of each term.
        ranks: Of each document, or of none.
        dense_terms: Those that have pieces.
        piece_firsts: Of each dense term.
        tables: The ``pieces``, by fours.
        tops: The same memory in single precision.
        size: How many documents there are.
        wanted: The terms of the first query, ascending, with repeats; those of the next one, and so on.
        ends_Q: Where each query's terms end.
        found_Q_K: Set to the documents found, best first.
        scores_Q_K: Set to their scores.
        counts_Q: Set to how many there are, at most ``K``.
    """
    k = found_Q_K.shape[1]
    longest = begin = 0
    for query in range(len(ends_Q)):
        longest = max(longest, ends_Q[query] - begin)
        begin = ends_Q[query]
    totals_W = np.zeros(_WINDOW)
    met = np.empty(_WINDOW + 1, np.uint32)
    kept = np.empty(_WINDOW + 1, np.uint32)
    caps_C = np.empty(_CELLS, np.float32)
    heap = _Heap(np.empty(k, np.float32), np.empty(k, np.int64), np.empty(k, np.int64))
    distinct = np.empty(longest, np.int64)
    loads = np.empty(longest, np.float32)
    bounds = np.empty(longest, np.float32)
    terms_T = np.empty(longest, np.int64)
    weights_T = np.empty(longest, np.float32)
    shifts_T = np.empty(longest, np.int64)
    pieces_T = np.empty(longest, np.int64)
    rests_T = np.empty(longest + 1)
    starts_T = np.empty(longest, np.int64)
    froms_T = np.empty(longest, np.int64)
    tos_T = np.empty(longest, np.int64)
    rows_P = np.empty(longest, np.int64)  # the terms that occur in the window
    tops_P = np.empty(longest + 1)
    tails_P_C = np.empty((longest + 1, _CELLS), np.float32)

    fewest = _fewest_dense(size)
    begin = 0
    for query in range(len(ends_Q)):
        # The query's terms, those that can add most first
        count = 0
        while begin < ends_Q[query]:
            term, repeats = wanted[begin], 0
            while begin < ends_Q[query] and wanted[begin] == term:
                repeats += 1
                begin += 1
            distinct[count] = term
            loads[count] = np.float32(repeats) * idfs[term]
            bounds[count] = -_part(loads[count], saturations[best_codes[term]])
            count += 1
        order = np.argsort(bounds[:count], kind="mergesort")
        rests_T[count] = 0.0
        for place in range(count - 1, -1, -1):
            term = distinct[order[place]]
            terms_T[place] = term
            weights_T[place] = loads[order[place]]
            rests_T[place] = rests_T[place + 1] - np.float64(bounds[order[place]])
            starts_T[place] = starts[term]
            shifts_T[place] = _SPARSE
            postings = starts[term + 1] - starts[term]
            if postings >= fewest:
                shifts_T[place] = _piece_shift(postings, size)
                pieces_T[place] = piece_firsts[_last_up_to(dense_terms, 0, len(dense_terms), term)]

        essential = count  # a document that holds none of the terms before this one is not among the best
        held = 0
        tos_T[:count] = starts_T[:count]
        cut = -1.0
        while True:
            # The next window that holds a document of an essential term
            window = size
            for place in range(essential):
                if tos_T[place] < starts[terms_T[place] + 1]:
                    window = min(window, np.int64(documents[tos_T[place]]))
            if window >= size:
                break
            window = window >> WINDOW_SHIFT << WINDOW_SHIFT
            after = window + _WINDOW

            # Its postings of each term, and what they can add to any document of a cell
            present = count
            for cell in range(_CELLS):
                tails_P_C[count, cell] = 0
            tops_P[count] = 0.0
            for place in range(count - 1, -1, -1):
                weight, shift, end = weights_T[place], shifts_T[place], starts[terms_T[place] + 1]
                if shift == _SPARSE:
                    at = tos_T[place]
                    while at < end and documents[at] < window:
                        at += 1
                    froms_T[place] = at
                    while at < end and documents[at] < after:
                        at += 1
                    tos_T[place] = at
                    if froms_T[place] == at:
                        continue
                    present -= 1
                    _sparse_caps(tails_P_C, present, weight, documents, codes, saturations, froms_T[place], at, window)
                else:
                    start = starts[terms_T[place]]
                    first = pieces_T[place] + (window >> shift)
                    froms_T[place] = start + tables[first, 0]
                    tos_T[place] = end if after >= size else start + tables[first + (_WINDOW >> shift), 0]
                    present -= 1
                    _dense_caps(tails_P_C, present, caps_C, weight, tops, first, _WINDOW >> shift)
                rows_P[present] = place
                tops_P[present] = _add_row(tails_P_C, present)
            if tops_P[present] < cut:
                continue

            # The first terms are counted for all documents
            rest = count
            while rest > present and rest > count - _LOOKED_UP and tops_P[rest - 1] < cut * _EARLY:
                rest -= 1
            number = 0
            for row in range(present, rest):
                place = rows_P[row]
                start, end, weight = froms_T[place], tos_T[place], weights_T[place]
                if tops_P[row] < cut:
                    _count_on(totals_W, weight, documents, codes, saturations, start, end, window)
                else:
                    least = max(cut - tops_P[row + 1], _LEAST)
                    number = _count(
                        totals_W, met, number, weight, documents, codes, saturations, start, end, window, least
                    )

            # Those that can still win are looked up in the rest, first by bits
            survivors = 0
            for place in range(number):
                document = met[place]
                kept[survivors] = document
                survivors += totals_W[document] + tails_P_C[rest, document >> np.uint32(CELL_SHIFT)] >= cut
            for survivor in range(survivors):
                inside = np.int64(kept[survivor])
                document, cell, score = window + inside, inside >> CELL_SHIFT, totals_W[inside]
                bound = score + tails_P_C[rest, cell]
                for row in range(rest, count):
                    shift, piece = shifts_T[rows_P[row]], pieces_T[rows_P[row]]
                    if shift != _SPARSE and not _may_hold(tables, piece + (document >> shift), document, shift):
                        bound -= tails_P_C[row, cell] - tails_P_C[row + 1, cell]
                        if bound < cut:
                            break
                if bound < cut:
                    continue
                for row in range(rest, count):
                    place = rows_P[row]
                    shift, low, high = shifts_T[place], froms_T[place], tos_T[place]
                    if shift != _SPARSE:
                        piece = pieces_T[place] + (document >> shift)
                        if not _may_hold(tables, piece, document, shift):
                            continue
                        low = starts[terms_T[place]] + tables[piece, 0]
                        if document >> shift < (size - 1) >> shift:
                            high = starts[terms_T[place]] + tables[piece + 1, 0]
                    at = _last_up_to(documents, low, high, document)
                    bound -= tails_P_C[row, cell] - tails_P_C[row + 1, cell]
                    if documents[at] == document:
                        part = np.float64(_part(weights_T[place], saturations[codes[at]]))
                        score += part
                        bound += part
                    if bound < cut:
                        break
                if bound < cut:
                    continue
                rounded = np.float32(score)
                rank = np.int64(ranks[document]) if len(ranks) else document
                if held < k:
                    _set(heap, held, rounded, rank, document)
                    _rise(heap, held)
                    held += 1
                elif rounded > heap.scores[0] or (rounded == heap.scores[0] and rank < heap.ranks[0]):
                    _set(heap, 0, rounded, rank, document)
                    _sink(heap, k)
                if held == k:
                    cut = _cut(np.float64(heap.scores[0]), count)
            for place in range(number):
                totals_W[met[place]] = 0.0
            while essential > 0 and rests_T[essential - 1] < cut:
                essential -= 1

        counts_Q[query] = held
        while held > 0:
            held -= 1
            found_Q_K[query, held] = heap.documents[0]
            scores_Q_K[query, held] = heap.scores[0]
            _swap(heap, 0, held)
            _sink(heap, held)
