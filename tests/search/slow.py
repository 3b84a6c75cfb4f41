"""BM25 as Lucene computes it, written down literally: every document, every term, no arrays."""

import math
from collections import Counter
from collections.abc import Sequence

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


def ranking(
    documents: Sequence[str], query: str, k: int, names: Sequence[str] | None = None, k1: float = 0.9, b: float = 0.4
) -> list[tuple[int, float]]:
    counts = [Counter(analyze(text)) for text in documents]
    lengths = [count.total() for count in counts]
    filled = sum(length > 0 for length in lengths)
    found = []
    for number, count in enumerate(counts):
        score = 0.0
        for term, repeats in Counter(analyze(query)).items():
            if count[term]:
                holding = sum(term in other for other in counts)
                idf = f32(math.log(1 + (filled - holding + 0.5) / (holding + 0.5)))
                mean = f32(sum(lengths) / filled)
                norm = f32(k1) * ((f32(1) - f32(b)) + f32(b) * f32(rounded_length(lengths[number])) / mean)
                weight = f32(repeats) * idf
                score += float(weight - weight / (f32(1) + f32(count[term]) * (f32(1) / norm)))
        if score > 0:
            found.append((number, float(f32(score))))
    return sorted(found, key=lambda hit: (-hit[1], names[hit[0]] if names else hit[0], hit[0]))[:k]
