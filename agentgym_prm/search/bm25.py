"""BM25 over postings in memory or mapped from disk: Lucene's ranking to the last bit, without Java.

Scores are those of Lucene's ``BM25Similarity`` (8.5 and newer): ``idf - idf / (1 + frequency / norm)`` with
``idf = ln(1 + (N - n + 0.5) / (n + 0.5))``, no factor ``k1 + 1``, in single precision; a document's parts are added in
double and rounded once. ``N`` counts the documents that hold a term at all, of which ``n`` hold this one.

Numpy searches: a query's terms are taken in turn, those that can add most first (MaxScore: Turtle and Flood 1995,
"Query evaluation: strategies and optimizations"). As soon as those that are left cannot lift a new document among the
best, only the documents met so far are looked up in them. Where numba is installed (extra ``[fast]``), ``kernel`` takes
over as soon as a process has searched for half a second: loading it takes as long, and compiling it, once in an
installation, some ten seconds. Both give the results of a full count.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple, Self

import numpy as np

from agentgym_prm.search import analysis
from agentgym_prm.search.building import build_postings
from agentgym_prm.search.core import Hit, check_request
from agentgym_prm.search.postings import Postings

_WORTH_RANKING: Final = 0.5
"""Documents met so far are ranked, to see whether they suffice, before a list that has this many times as many."""
_WORTH_COUNTING: Final = 2
"""Once they suffice, a list that has this many times as many is not gone through: they are looked up in it."""

_WORTH_LOADING_S: Final = 0.5
"""Seconds that a process searches in numpy before it loads the compiled loop."""
_AT_ONCE: Final = 1 << 20
"""Hits that the compiled loop has room for."""
_LISTS: Final = (
    "documents", "codes", "saturations", "starts", "best_codes", "idfs", "ranks", "dense_terms", "piece_firsts",
)  # fmt: skip
"""What it is given of an index."""


@lru_cache(maxsize=1)
def _kernel() -> ModuleType | None:
    """The compiled loop, where numba is installed."""
    try:
        return import_module("agentgym_prm.search.kernel")
    except ImportError:
        return None


class _Clock:
    """How long this process has searched in numpy; threads may lose some of it to one another."""

    seconds = 0.0


_numpy = _Clock()
_hit = partial(tuple.__new__, Hit)  # what Hit._make does, in half the time


def _hits(documents: list[int], scores: list[float]) -> list[Hit]:
    return [*map(_hit, zip(documents, scores, strict=True))]


class _Term(NamedTuple):
    documents: np.ndarray
    """Those that hold it, ascending, shape ``(postings,)``."""
    codes: np.ndarray
    """How much of it they hold, shape ``(postings,)``."""
    parts: np.ndarray
    """What it adds to a score, by code, shape ``(codes,)``, ascending."""
    bound: float
    """The most that it adds to any."""


class BM25Index:
    """Documents, searched by BM25 with English analysis; read-only, and safe to share between threads.

    >>> index = BM25Index.build(["A red shoe.", "Blue shoes for running", "a red, red rose"])
    >>> [hit.document for hit in index.search(["red shoes"], k=3)[0]]
    [0, 2, 1]
    """

    def __init__(self, postings: Postings) -> None:
        self._postings = postings
        self._documents = postings.arrays["documents"]
        self._codes = postings.arrays["codes"]
        self._saturations = postings.arrays["saturations"]
        self._ranks = postings.arrays["ranks"]
        self._local = threading.local()
        tables = postings.arrays["pieces"].reshape(-1, 4)
        self._lists = (*(postings.arrays[name] for name in _LISTS), tables, tables.view(np.float32))
        self._numbers = analysis.Remembered(self._numbers_of)

    @classmethod
    def build(
        cls, documents: Iterable[str], *, names: Iterable[str] | None = None, k1: float = 0.9, b: float = 0.4
    ) -> Self:
        """Index ``documents``, which are read once, one after the other, and not kept.

        Args:
            documents: Their texts; numbers count from 0.
            names: A name for each, read after the last document. Documents with equal scores come in the order of
                names, as Anserini orders them by their ids; without names, in the order of numbers.
            k1: How slowly repeats of a term saturate, at least 0.
            b: How much long documents are marked down, in [0, 1].

        Raises:
            ValueError: A parameter is out of range, or there are not as many names as documents.
        """
        if not k1 >= 0:
            raise ValueError(f"k1 must be at least 0, got {k1}")
        if not 0 <= b <= 1:
            raise ValueError(f"b must be in [0, 1], got {b}")
        return cls(build_postings(documents, names=names, k1=k1, b=b))

    def save(self, folder: str | Path) -> None:
        """Write the index into the new ``folder``, in one step; saving the very same again does nothing.

        Raises:
            FileExistsError: ``folder`` is there and holds something else.
        """
        self._postings.save(Path(folder))

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """The index that ``save`` wrote, mapped into memory: nothing is read before it is needed.

        Raises:
            DataNotFoundError: There is no index in ``folder``.
            IndexFormatError: It is damaged, incomplete or of another version.
        """
        return cls(Postings.open(Path(folder)))

    def __len__(self) -> int:
        return self._postings.documents

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides results: documents, names and parameters. Reads the whole index."""
        return self._postings.fingerprint()

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """For each query the ``k`` documents that answer it best, best first; fewer where fewer hold a term of it.

        Raises:
            TypeError: ``queries`` is a single text.
            ValueError: ``k`` is not positive.
        """
        check_request(queries, k)
        k = min(k, len(self))
        found: list[list[Hit]] = []
        while len(found) < len(queries):
            kernel = _kernel() if k and _numpy.seconds >= _WORTH_LOADING_S else None
            if kernel is None:
                documents, scores = self._best(queries[len(found)], k)
                found.append(_hits(documents.tolist(), scores.tolist()))
            else:
                found += self._found(kernel, queries[len(found) : len(found) + max(_AT_ONCE // k, 1)], k)
        return found

    def _found(self, kernel: ModuleType, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """``search`` for not too many queries, compiled."""
        terms: list[int] = []
        ends = []
        for query in queries:
            terms += sorted(self._terms_of(query))
            ends.append(len(terms))
        documents, scores = np.empty((len(ends), k), np.int64), np.empty((len(ends), k), np.float32)
        counts = np.empty(len(ends), np.int64)
        wanted = np.array(terms, np.int64)
        kernel.best(*self._lists, len(self), wanted, np.array(ends, np.int64), documents, scores, counts)
        found = zip(documents.tolist(), scores.tolist(), counts.tolist(), strict=True)
        return [_hits(numbers[:count], parts[:count]) for numbers, parts, count in found]

    def _terms_of(self, query: str) -> Iterable[int]:
        """Numbers of the query's terms that documents hold, with repeats."""
        return chain.from_iterable(map(self._numbers.__getitem__, analysis.words(query)))

    def _numbers_of(self, word: str) -> tuple[int, ...]:
        numbers = map(self._postings.find, analysis.terms(word))
        return tuple(number for number in numbers if number is not None)

    def _best(self, query: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """``search`` for one query, in numpy."""
        start = time.perf_counter()
        documents, scores = self._candidates(self._terms(query), k)
        rounded = scores.astype(np.float32)
        if len(documents) > k:
            kept = rounded >= _kth(rounded, k)  # with all that tie for the last place
            documents, rounded = documents[kept], rounded[kept]
        order = np.lexsort((self._ranks[documents] if len(self._ranks) else documents, -rounded))[:k]
        _numpy.seconds += time.perf_counter() - start
        return documents[order], rounded[order]

    def _terms(self, query: str) -> list[_Term]:
        """The query's terms that documents hold; that which can add most first."""
        terms = []
        arrays = self._postings.arrays
        for number, repeats in sorted(Counter(self._terms_of(query)).items()):
            start, end = arrays["starts"][number : number + 2].tolist()
            weight = np.float32(repeats) * arrays["idfs"][number]
            parts = weight - weight / self._saturations
            bound = float(parts[arrays["best_codes"][number]])
            terms.append(_Term(self._documents[start:end], self._codes[start:end], parts, bound))
        return sorted(terms, key=lambda term: -term.bound)

    def _candidates(self, terms: list[_Term], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Documents among which are the ``k`` best and all that tie with the last of them; and their scores.

        A document that is left out, or whose score lacks a part, is none of these.
        """
        left = [sum(term.bound for term in terms[place:]) for place in range(len(terms) + 1)]
        documents, scores, counted, least = self._counted(terms, left, k)
        if counted < len(terms):
            order = np.argsort(documents)
            documents, scores = documents[order].astype(self._documents.dtype), scores[order]
        for place in range(counted, len(terms)):
            _add_parts(terms[place], documents, scores)
            least = max(least, _kth(scores, k))
            kept = (scores + left[place + 1]).astype(np.float32) >= least
            documents, scores = documents[kept], scores[kept]
        return documents, scores

    def _counted(self, terms: list[_Term], left: list[float], k: int) -> tuple[np.ndarray, np.ndarray, int, float]:
        """Go through the postings of terms until those that are left can bring no other document among the best.

        Args:
            terms: Of the query.
            left: What the terms from each one on can add.
            k: How many are wanted.

        Returns:
            Documents, what they have of the terms counted, how many terms these are, a bound on the ``k``-th best.
        """
        totals = self._totals()
        met = [np.zeros(0, np.intp)]
        changed: list[np.ndarray] = []
        number = counted = 0
        least = -math.inf
        try:
            for term in terms:
                if number >= k and len(term.documents) > number * _WORTH_RANKING:
                    documents = np.concatenate(met)
                    known = totals.take(documents)
                    if least == -math.inf:
                        least = _foreseen(terms[counted:], documents, known, k)
                    least = max(least, _kth(known, k))
                    met = [documents[(known + left[counted]).astype(np.float32) >= least]]
                    number = len(met[0])
                    if np.float32(left[counted]) < least and number * _WORTH_COUNTING < len(term.documents):
                        break
                where = term.documents.astype(np.intp)
                changed.append(where)
                before = totals.take(where)
                totals[where] = before + term.parts.take(term.codes)
                counted += 1
                lowest = _lowest_code(term, left[counted], least)
                if lowest < len(term.parts):
                    new = before == 0
                    if lowest:
                        new &= term.codes >= lowest
                    met.append(where.compress(new))
                    number += len(met[-1])
            documents = np.concatenate(met)
            return documents, totals.take(documents), counted, least
        finally:
            for where in changed:
                totals[where] = 0

    def _totals(self) -> np.ndarray:
        """Zeros, one for each document, that belong to this thread; who changes them puts zeros back."""
        totals: np.ndarray | None = getattr(self._local, "totals", None)
        if totals is None:
            totals = self._local.totals = np.zeros(len(self))
        return totals


def _lowest_code(term: _Term, left: float, least: float) -> int:
    """Below this code a document that holds no earlier term stays under ``least``, whatever else it holds, or at 0."""
    lowest = 0 if term.parts[0] > 0 else int(np.searchsorted(term.parts, 0.0, side="right"))
    if least > -math.inf:
        lowest = max(lowest, int(np.searchsorted((term.parts + left).astype(np.float32), least)))
    return lowest


def _add_parts(term: _Term, documents: np.ndarray, scores: np.ndarray) -> None:
    """Add to ``scores`` what the ``documents``, ascending, have of a term."""
    places = term.documents.searchsorted(documents)
    np.minimum(places, len(term.documents) - 1, out=places)
    held = term.documents.take(places) == documents
    scores[held] += term.parts.take(term.codes.take(places[held]))


def _foreseen(terms: list[_Term], documents: np.ndarray, scores: np.ndarray, k: int) -> float:
    """A bound from below on the ``k``-th best score: that of some documents that have much already."""
    promising = np.sort(np.argpartition(scores, -k)[-k:])
    documents, scores = documents[promising].astype(np.uint32), scores[promising]
    for term in terms:
        _add_parts(term, documents, scores)
    return _kth(scores, k)


def _kth(scores: np.ndarray, k: int) -> float:
    """The ``k``-th best of ``scores`` in single precision, in which documents are compared; below all if fewer."""
    return float(np.float32(np.partition(scores, -k)[-k])) if len(scores) >= k else -math.inf
