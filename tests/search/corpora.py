"""The data that Lucene's rankings were recorded on, and the digests that stand for them."""

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Corpus = tuple[list[str], list[str] | None, list[str], int]
"""Documents, the names that order those with equal scores, queries, how many hits are wanted."""


def _read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def webshop(data: Path) -> Corpus:
    """The shop's 1,000 products and what people asked it, 50 hits: all pages of results."""
    products = _read(data / "webshop/lucene_documents_1000.json.gz")
    asked = _read(data / "webshop/goal_query_map.json.gz")
    queries = [query for found in asked.values() for query in found]
    return [product["contents"] for product in products], [product["id"] for product in products], queries, 50


def passages(data: Path) -> Corpus:
    """Passages of Wikipedia and questions, 10 hits."""
    folder = data / "wiki_search"
    texts = [f"{passage['title']} {passage['text']}" for passage in _lines(folder / "passages.jsonl.gz")]
    files = ("hotpotqa_train_100_distractor", "musique_train_100", "2wiki_matched_to_corpus", "triviaqa_637_aliases")
    return texts, None, [line["question"] for name in files for line in _lines(folder / f"{name}.jsonl.gz")], 10


CORPORA: dict[str, Callable[[Path], Corpus]] = {"webshop": webshop, "passages": passages}


def digest(value: Any) -> str:
    """Eight characters that tell ``value`` from others."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]
