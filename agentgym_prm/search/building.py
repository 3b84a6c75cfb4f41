"""From texts to postings, in one pass over the texts: what is kept are numbers.

Lengths are those of Lucene, which keeps a document's number of terms in one byte: exact up to 40, then with four
significant bits.
"""

from array import array
from collections.abc import Iterable
from typing import Final

import numpy as np

from agentgym_prm.search.analysis import term, tokenize
from agentgym_prm.search.postings import Postings, code_dtype

_CHUNK: Final = 1 << 22
"""Terms that are counted at once."""
_REMEMBERED: Final = 1 << 20
"""Tokens whose terms are remembered."""


def _norm_lengths() -> np.ndarray:
    lengths = list(range(24))
    for code in range(232):  # Lucene's SmallFloat.byte4ToInt
        mantissa, exponent = code & 7, code >> 3
        lengths.append(24 + (mantissa if exponent == 0 else (mantissa | 8) << (exponent - 1)))
    return np.array(lengths, np.int64)


NORM_LENGTHS: Final = _norm_lengths()
"""The lengths that a byte can stand for, shape ``(256,)``, ascending; a length is rounded down to one of these."""


class _TermNumbers(dict[str, int]):
    """The number of each token's term, -1 for a stop word; remembers a bounded number of tokens."""

    def __init__(self) -> None:
        self.vocabulary: dict[str, int] = {}

    def __missing__(self, token: str) -> int:
        counted = term(token)
        number = self.vocabulary.setdefault(counted, len(self.vocabulary)) if counted else -1
        if len(self) >= _REMEMBERED:
            self.clear()
        self[token] = number
        return number


class _Chunk:
    """Postings of successive documents, ordered by term and document.

    Attributes:
        terms, counts: The terms that occur, ascending, and how many postings each has.
        documents, pairs: Of each posting, the document and ``frequency << 8 | length as a byte``.
    """

    def __init__(self, terms_T: np.ndarray, lengths_N: np.ndarray, first_document: int) -> None:
        documents_T = np.repeat(np.arange(len(lengths_N)), lengths_N)
        keys, frequencies = np.unique(terms_T.astype(np.int64) << 32 | documents_T, return_counts=True)
        documents = keys & 0xFFFFFFFF
        norms_N = np.searchsorted(NORM_LENGTHS, lengths_N, side="right") - 1
        self.documents = (documents + first_document).astype(np.uint32)
        self.pairs = (frequencies << 8 | norms_N[documents]).astype(np.uint32)
        self.terms, self.counts = np.unique(keys >> 32, return_counts=True)


def build_postings(documents: Iterable[str], *, names: Iterable[str] | None, k1: float, b: float) -> Postings:
    """Count the terms of ``documents``; see ``BM25Index.build``."""
    numbers = _TermNumbers()
    chunks: list[_Chunk] = []
    terms, lengths = array("i"), array("i")
    counted = filled = total = 0
    for text in documents:
        found = [number for token in tokenize(text) if (number := numbers[token]) >= 0]
        terms.extend(found)
        lengths.append(len(found))
        filled += bool(found)
        if len(terms) >= _CHUNK:
            chunks.append(_Chunk(np.array(terms), np.array(lengths), counted))
            counted, total = counted + len(lengths), total + len(terms)
            terms, lengths = array("i"), array("i")
    chunks.append(_Chunk(np.array(terms), np.array(lengths), counted))
    counted, total = counted + len(lengths), total + len(terms)
    inverse_norms = _inverse_norms(total / filled if filled else 1.0, k1, b)
    arrays = _merged(chunks, list(numbers.vocabulary), inverse_norms)
    arrays["ranks"] = _ranks(names, counted)
    return Postings(arrays, documents=counted, filled=filled, k1=k1, b=b)


def _inverse_norms(mean_length: float, k1: float, b: float) -> np.ndarray:
    """``1 / (k1 (1 - b + b length / mean length))`` by length as a byte, shape ``(256,)``, in single precision."""
    one, k, weight, mean = (np.float32(value) for value in (1, k1, b, mean_length))
    norms: np.ndarray = k * ((one - weight) + weight * NORM_LENGTHS.astype(np.float32) / mean)
    with np.errstate(divide="ignore"):  # a length of 0 with b = 1, or k1 = 0
        return one / norms


def _merged(chunks: list[_Chunk], vocabulary: list[str], inverse_norms: np.ndarray) -> dict[str, np.ndarray]:
    """One set of arrays from all chunks, which are used up; terms are numbered anew, in order."""
    encoded = [word.encode("utf-8", "surrogatepass") for word in vocabulary]
    order = sorted(range(len(encoded)), key=encoded.__getitem__)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    frequencies = np.zeros(len(order), np.int64)
    for chunk in chunks:
        frequencies[place[chunk.terms]] += chunk.counts
    starts = np.concatenate([[0], np.cumsum(frequencies)])

    pairs = np.unique(np.concatenate([np.unique(chunk.pairs) for chunk in chunks]))
    saturation = np.float32(1) + (pairs >> 8).astype(np.float32) * inverse_norms[pairs & 255]
    saturations, code_of_pair = np.unique(saturation, return_inverse=True)
    code_of_pair = code_of_pair.astype(code_dtype(len(saturations)))

    documents = np.empty(starts[-1], np.uint32)
    codes = np.empty(starts[-1], code_of_pair.dtype)
    free = starts[:-1].copy()
    while chunks:
        chunk = chunks.pop(0)
        places = place[chunk.terms]
        moves = free[places] - (np.cumsum(chunk.counts) - chunk.counts)
        where = np.repeat(moves, chunk.counts) + np.arange(len(chunk.documents))
        documents[where] = chunk.documents
        codes[where] = code_of_pair[np.searchsorted(pairs, chunk.pairs)]
        free[places] += chunk.counts
    ordered = [encoded[number] for number in order]
    return {
        "terms": np.frombuffer(b"".join(ordered), np.uint8),
        "term_ends": np.concatenate([[0], np.cumsum([len(word) for word in ordered])]).astype(np.int64),
        "starts": starts,
        "best_codes": (np.maximum.reduceat(codes, starts[:-1]) if len(codes) else codes).astype(np.uint32),
        "documents": documents,
        "codes": codes,
        "saturations": saturations,
    }


def _ranks(names: Iterable[str] | None, documents: int) -> np.ndarray:
    """Place of each document by name, shape ``(documents,)``; empty without names."""
    if names is None:
        return np.zeros(0, np.uint32)
    known = list(names)
    if len(known) != documents:
        raise ValueError(f"there must be a name for each document, got {len(known):,} for {documents:,}")
    ranks = np.empty(documents, np.uint32)
    ranks[sorted(range(documents), key=known.__getitem__)] = np.arange(documents)
    return ranks
