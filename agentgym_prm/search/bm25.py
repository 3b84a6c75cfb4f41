"""BM25 over postings in memory or mapped from disk: Lucene's ranking to the last bit, without Java.

Scores are those of Lucene's ``BM25Similarity`` (8.5 and newer): ``idf - idf / (1 + frequency / norm)`` with
``idf = ln(1 + (N - n + 0.5) / (n + 0.5))``, no factor ``k1 + 1``, in single precision; a document's parts are added in
double and rounded once. ``N`` counts the documents that hold a term at all, of which ``n`` hold this one.

A query's terms are taken in turn, those that can add most first (MaxScore: Turtle and Flood 1995, "Query evaluation:
strategies and optimizations"). As soon as those that are left cannot lift a new document among the best, only the
documents met so far are looked up in them. Results are those of a full count.
"""

import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np

from agentgym_prm.search.analysis import analyze
from agentgym_prm.search.building import build_postings
from agentgym_prm.search.core import Hit
from agentgym_prm.search.postings import Postings

_WORTH_RANKING: Final = 0.5
"""Documents met so far are ranked, to see whether they suffice, before a list that has this many times as many."""


class _Term(NamedTuple):
    weight: np.float32
    start: int
    end: int
    bound: float
    """No document gets more from this term."""


class BM25Index:
    """Documents, searched by BM25 with English analysis; read-only, and safe to share between threads.

    >>> index = BM25Index.build(["A red shoe.", "Blue shoes for running", "a red, red rose"])
    >>> index.search("red shoes", k=3)
    [0, 2, 1]
    """

    def __init__(self, postings: Postings) -> None:
        self._postings = postings
        self._starts = postings.arrays["starts"]
        self._documents = postings.arrays["documents"]
        self._codes = postings.arrays["codes"]
        self._saturations = postings.arrays["saturations"]
        self._best_codes = postings.arrays["best_codes"]
        self._ranks = postings.arrays["ranks"]
        self._local = threading.local()

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

    def search(self, query: str, k: int) -> list[int]:
        """Numbers of the ``k`` documents that answer ``query`` best, best first; fewer where fewer hold a term of it.

        Raises:
            ValueError: ``k`` is not positive.
        """
        documents, _ = self._best(query, k)
        return [int(document) for document in documents]

    def hits(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """``search`` for each query, with scores."""
        found = (self._best(query, k) for query in queries)
        return [[*map(Hit, documents.tolist(), scores.tolist())] for documents, scores in found]

    def _best(self, query: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        if k < 1:
            raise ValueError(f"k must be positive, got {k}")
        terms = self._terms(query)
        documents, scores = self._candidates(terms, k)
        rounded = scores.astype(np.float32)
        if len(documents) > k:
            kept = rounded >= np.partition(rounded, -k)[-k]  # with all that tie for the last place
            documents, rounded = documents[kept], rounded[kept]
        order = np.lexsort((self._ranks[documents] if len(self._ranks) else documents, -rounded))[:k]
        return documents[order], rounded[order]

    def _terms(self, query: str) -> list[_Term]:
        """The query's terms that occur in documents; that which can add most first."""
        terms = []
        for word, repeats in Counter(analyze(query)).items():
            number = self._postings.find(word)
            if number is not None:
                start, end = self._starts[number : number + 2].tolist()
                rarity = (self._postings.filled - (end - start) + 0.5) / (end - start + 0.5)
                weight = np.float32(repeats) * np.float32(math.log(1 + rarity))
                best = self._saturations[self._best_codes[number]]
                terms.append(_Term(weight, start, end, float(weight - weight / best)))
        return sorted(terms, key=lambda term: (-term.bound, term.start))

    def _parts(self, term: _Term, places: slice | np.ndarray) -> np.ndarray:
        """What a term adds to the scores of the documents at ``places`` among its postings."""
        saturations = self._saturations[self._codes[term.start : term.end][places]]
        parts: np.ndarray = term.weight - term.weight / saturations
        return parts

    def _candidates(self, terms: list[_Term], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Documents among which are the ``k`` best and all that tie with the last of them; and their scores."""
        scores = self._scores_of_all()
        left = [sum(term.bound for term in terms[taken:]) for taken in range(len(terms) + 1)]
        met: list[np.ndarray] = []
        count = taken = 0
        least = -np.inf
        try:
            for taken, term in enumerate(terms):
                if count >= k and term.end - term.start > count * _WORTH_RANKING:
                    least = _kth(scores[np.concatenate(met)], k)
                if np.float32(left[taken]) < least:
                    break
                holding = self._documents[term.start : term.end]
                before = scores[holding]
                met.append(holding[before == 0] if met else holding)
                scores[holding] = before + self._parts(term, slice(None))
                count += len(met[-1])
            else:
                taken = len(terms)
            documents = np.concatenate(met) if met else np.zeros(0, np.uint32)
            found = scores[documents]
        finally:
            for holding in met:
                scores[holding] = 0
        return self._looked_up(terms[taken:], left[taken:], k, least, documents, found)

    def _looked_up(
        self, terms: list[_Term], left: list[float], k: int, least: float, documents: np.ndarray, found: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The documents that can still be among the best once all ``terms`` are added to what was ``found``."""
        if terms:
            order = np.argsort(documents)
            documents, found = documents[order], found[order]
        for term, more in zip(terms, left, strict=False):
            hopeful = (found + more).astype(np.float32) >= least
            documents, found = documents[hopeful], found[hopeful]
            holding = self._documents[term.start : term.end]
            places = np.minimum(np.searchsorted(holding, documents), len(holding) - 1)
            held = holding[places] == documents
            found[held] += self._parts(term, places[held])
            least = max(least, _kth(found, k))
        return documents, found

    def _scores_of_all(self) -> np.ndarray:
        """Zeros, one for each document, that belong to this thread; whoever changes them puts zeros back."""
        scores: np.ndarray | None = getattr(self._local, "scores", None)
        if scores is None:
            scores = self._local.scores = np.zeros(len(self))
        return scores


def _kth(scores: np.ndarray, k: int) -> float:
    """The ``k``-th best of ``scores`` in single precision, in which documents are compared; below all if fewer."""
    return float(np.float32(np.partition(scores, -k)[-k])) if len(scores) >= k else -math.inf
