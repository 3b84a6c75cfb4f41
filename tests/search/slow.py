"""BM25 as Lucene computes it, written down literally: every document, every term, no arrays."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from agentgym_prm.search.analysis import analyze

f32 = np.float32


def rounded_length(length: int) -> int:
    """The greatest length that Lucene's byte can hold and that is not above ``length``."""
    if length < 24:
        return length
    rest = length - 24
    bits = max(rest.bit_length() - 4, 0)
    return 24 + (rest >> bits << bits)


@lru_cache(maxsize=4)
def counted(documents: tuple[str, ...]) -> tuple[list[Counter[str]], Counter[str]]:
    """How often each document holds each term, and how many documents hold it."""
    counts = [Counter(analyze(text)) for text in documents]
    return counts, Counter(term for count in counts for term in count)


def ranking(
    documents: Sequence[str], query: str, k: int, names: Sequence[str] | None = None, k1: float = 0.9, b: float = 0.4
) -> list[tuple[int, float]]:
    """Number and score of the best ``k``."""
    counts, holding = counted(tuple(documents))
    lengths = [count.total() for count in counts]
    filled = sum(length > 0 for length in lengths)
    found = []
    for number, count in enumerate(counts):
        score = 0.0
        for term, repeats in Counter(analyze(query)).items():
            if count[term]:
                idf = f32(math.log(1 + (filled - holding[term] + 0.5) / (holding[term] + 0.5)))
                mean = f32(sum(lengths) / filled)
                norm = f32(k1) * ((f32(1) - f32(b)) + f32(b) * f32(rounded_length(lengths[number])) / mean)
                inverse = f32(1) / norm if norm else f32(math.inf)
                weight = f32(repeats) * idf
                score += float(weight - weight / (f32(1) + f32(count[term]) * inverse))
        if score > 0:
            found.append((number, float(f32(score))))
    return sorted(found, key=lambda hit: (-hit[1], names[hit[0]] if names else hit[0], hit[0]))[:k]
