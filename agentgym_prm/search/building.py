"""From texts to postings, in one pass over the texts: what is kept are numbers.

Lengths are those of Lucene, which keeps a document's number of terms in one byte: exact up to 40, then with four
significant bits.
"""

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final

import numpy as np

from agentgym_prm.search.analysis import terms, words
from agentgym_prm.search.postings import CELL_SHIFT, WINDOW_SHIFT, Postings, code_dtype, fewest_dense, piece_shift

_CHUNK: Final = 1 << 21
"""Words that are counted at once."""
_REMEMBERED: Final = 1 << 20
"""Terms of the words that are remembered, about."""
_LONGEST_REMEMBERED: Final = 64
"""Longer words are not."""


def _norm_lengths() -> np.ndarray:
    lengths = list(range(24))
    for code in range(232):  # Lucene's SmallFloat.byte4ToInt
        mantissa, exponent = code & 7, code >> 3
        lengths.append(24 + (mantissa if exponent == 0 else (mantissa | 8) << (exponent - 1)))
    return np.array(lengths, np.int64)


NORM_LENGTHS: Final = _norm_lengths()
"""The lengths that a byte can stand for, shape ``(256,)``, ascending; a length is rounded down to one of these."""


class _Words(dict[str, int]):
    """A number for each of ``analysis.words``, by which the numbers of its terms are kept.

    Attributes:
        vocabulary: The number of each term, never forgotten.
        terms: Of all words, one after the other.
        ends: Where each word's terms end.
    """

    def __init__(self) -> None:
        self.vocabulary: dict[str, int] = {}
        self.forget()

    def forget(self) -> None:
        self.clear()
        self.terms, self.ends = array("i"), array("q")

    def __missing__(self, word: str) -> int:
        self.terms.extend(self.vocabulary.setdefault(counted, len(self.vocabulary)) for counted in terms(word))
        number = len(self.ends)
        self.ends.append(len(self.terms))
        if len(word) <= _LONGEST_REMEMBERED:
            self[word] = number
        return number


class _Chunk:
    """Postings of successive documents, ordered by term and document.

    Attributes:
        lengths: How many terms each document has.
        terms, counts: The terms that occur, ascending, and how many postings each has.
        documents, pairs: Of each posting, the document and ``frequency << 8 | length as a byte``.
    """

    def __init__(self, terms_T: np.ndarray, lengths_N: np.ndarray, first_document: int) -> None:
        documents_T = np.repeat(np.arange(len(lengths_N)), lengths_N)
        keys, frequencies = np.unique(terms_T.astype(np.int64) << 32 | documents_T, return_counts=True)
        documents = keys & 0xFFFFFFFF
        norms_N = np.searchsorted(NORM_LENGTHS, lengths_N, side="right") - 1
        self.lengths = lengths_N
        self.documents = (documents + first_document).astype(np.uint32)
        self.pairs = (frequencies << 8 | norms_N[documents]).astype(np.uint32)
        self.terms, self.counts = np.unique(keys >> 32, return_counts=True)


def _chunk(known: _Words, words_W: Sequence[int], lengths_N: Sequence[int], first_document: int) -> _Chunk:
    """Postings of documents that are given as words.

    Args:
        known: What their numbers stand for.
        words_W: Of the documents, one after the other.
        lengths_N: How many words each has.
        first_document: Its number.
    """
    numbers_W, ends = np.array(words_W), np.array(known.ends)
    starts = np.concatenate([[0], ends])[numbers_W]
    sizes_W = ends[numbers_W] - starts
    after_W = np.cumsum(sizes_W)
    places_T = np.repeat(starts - (after_W - sizes_W), sizes_W) + np.arange(sizes_W.sum())
    ends_N = np.concatenate([[0], after_W])[np.cumsum(np.array(lengths_N))]
    return _Chunk(np.array(known.terms)[places_T], np.diff(ends_N, prepend=0), first_document)


def build_postings(documents: Iterable[str], *, names: Iterable[str] | None, k1: float, b: float) -> Postings:
    """Count the terms of ``documents``; see ``BM25Index.build``."""
    known = _Words()
    chunks: list[_Chunk] = []
    numbers, lengths = array("i"), array("q")
    counted = filled = total = 0
    for text in chain(documents, (None,)):
        if text is not None:
            found = words(text)
            numbers.extend(map(known.__getitem__, found))
            lengths.append(len(found))
        if text is None or len(numbers) >= _CHUNK:
            chunk = _chunk(known, numbers, lengths, counted)
            chunks.append(chunk)
            counted += len(lengths)
            filled += int(np.count_nonzero(chunk.lengths))
            total += int(chunk.lengths.sum())
            numbers, lengths = array("i"), array("q")
            if len(known.terms) >= _REMEMBERED:
                known.forget()
    inverse_norms = _inverse_norms(total / filled if filled else 1.0, k1, b)
    arrays = _merged(chunks, list(known.vocabulary), inverse_norms)
    arrays["idfs"] = _idfs(np.diff(arrays["starts"]), filled)
    arrays["ranks"] = _ranks(names, counted)
    arrays |= _pieces(arrays, counted)
    return Postings(arrays, documents=counted, filled=filled, k1=k1, b=b)


def _idfs(frequencies: np.ndarray, filled: int) -> np.ndarray:
    """``ln(1 + (N - n + 0.5) / (n + 0.5))`` of terms that ``n`` of ``N`` documents hold, in single precision."""
    values, places = np.unique(frequencies, return_inverse=True)
    idfs = [math.log(1 + (filled - count + 0.5) / (count + 0.5)) for count in values.tolist()]
    return np.array(idfs, np.float32)[places]


def _pieces(arrays: Mapping[str, np.ndarray], documents: int) -> dict[str, np.ndarray]:
    """The tables of dense terms, which say of pieces of their lists what a search need not read (see ``kernel``)."""
    starts = arrays["starts"]
    dense = np.flatnonzero(np.diff(starts) >= fewest_dense(documents))
    firsts = np.zeros(len(dense) + 1, np.int64)
    tables = [np.zeros((0, 4), np.uint32)]
    for place, term in enumerate(dense.tolist()):
        start, end = starts[term : term + 2].tolist()
        shift = piece_shift(end - start, documents)
        held = arrays["documents"][start:end]
        number = -(-documents >> WINDOW_SHIFT) << (WINDOW_SHIFT - shift)  # to the end of the last window
        edges = np.searchsorted(held, np.arange(number, dtype=np.uint32) << np.uint32(shift))
        filled = np.flatnonzero(np.diff(edges, append=end - start))
        tops, masks = np.ones(number, np.float32), np.zeros(number, np.uint64)
        codes = np.maximum.reduceat(arrays["codes"][start:end], edges[filled])
        tops[filled] = arrays["saturations"][codes]
        bits = np.uint64(1) << (held >> np.uint32(shift - CELL_SHIFT) & np.uint32(63)).astype(np.uint64)
        masks[filled] = np.bitwise_or.reduceat(bits, edges[filled])
        columns = (edges, tops.view(np.uint32), masks & np.uint64(0xFFFFFFFF), masks >> np.uint64(32))
        tables.append(np.column_stack([column.astype(np.uint32) for column in columns]))
        firsts[place + 1] = firsts[place] + number
    return {
        "dense_terms": dense.astype(np.uint32),
        "piece_firsts": firsts,
        "pieces": np.concatenate(tables).reshape(-1),
    }


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
        "best_codes": np.maximum.reduceat(codes, starts[:-1]) if len(codes) else codes,
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
