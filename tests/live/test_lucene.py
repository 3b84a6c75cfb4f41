"""Lucene itself beside our search. Needs the extra [search] and Java 21 or newer (``JAVA_HOME``)."""

import random

import pytest

from agentgym_prm.search import BM25Index, Hit
from agentgym_prm.search.lucene import LuceneIndex

pytest.importorskip("pyserini", reason="Lucene is not installed: pip install 'agentgym_prm[search]'")
pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore")]


def numbers(found: list[list[Hit]]) -> list[list[int]]:
    return [[hit.document for hit in hits] for hits in found]


def test_both_rank_drawn_texts_alike(tmp_path):
    draw = random.Random(5)
    words = [f"w{number}" for number in range(500)]
    documents = [" ".join(draw.choices(words, k=draw.randint(0, 120))) for _ in range(2000)]
    names = [f"N{draw.randrange(10**6)}" for _ in documents]
    ours, lucene = (
        BM25Index.build(documents, names=names),
        LuceneIndex.build(documents, tmp_path / "index", names=names),
    )
    queries = ["", "nothing", *(" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(300))]
    assert numbers(ours.search(queries, 20)) == numbers(lucene.search(queries, 20))


def test_ties_come_in_the_order_of_names(tmp_path):
    lucene = LuceneIndex.build(["same words"] * 3, tmp_path / "index", names="cab")
    assert numbers(lucene.search(["same"], 3)) == [[1, 2, 0]]
