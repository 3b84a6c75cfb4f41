"""Lucene itself, through Pyserini, behind the interface of ``BM25Index``: the original, to compare with.

Needs the extra ``[search]`` and Java 21 or newer (``JAVA_HOME``). One Java machine serves the process and stays in it.
"""

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from agentgym_prm.errors import DataNotFoundError, MissingDependencyError, needs_extra
from agentgym_prm.search.core import Hit, check_request


def java_class(name: str) -> Any:
    """A class of Lucene, Anserini or Java itself.

    Raises:
        MissingDependencyError: Pyserini is not installed, or there is no Java for it.
    """
    try:
        with needs_extra("search"):
            from pyserini.pyclass import autoclass
        return autoclass(name)
    except MissingDependencyError:
        raise
    except Exception as error:  # whatever the bridge meets that finds no Java, or one that is too old
        found = str(error).partition("\n")[0]
        raise MissingDependencyError(f"Lucene needs Java 21 or newer, found by JAVA_HOME: {found}") from error


class LuceneIndex:
    """Documents in a Lucene index on disk, searched by BM25 with Anserini's English analyser.

    Scores are Anserini's, which lowers those of documents that tie by a millionth each to keep them in order.
    """

    def __init__(self, folder: str | Path, *, k1: float = 0.9, b: float = 0.4) -> None:
        """Open the index that ``build`` wrote.

        Args:
            folder: Where it is.
            k1: How slowly repeats of a term saturate.
            b: How much long documents are marked down.

        Raises:
            DataNotFoundError: There is no Lucene index in ``folder``.
            MissingDependencyError: Pyserini is not installed, or there is no Java for it.
        """
        if not any(Path(folder).glob("segments_*")):
            raise DataNotFoundError(f"no Lucene index in {folder}: there is no segments file")
        self._searcher = java_class("io.anserini.search.SimpleSearcher")(str(folder))
        self._searcher.set_bm25(k1, b)

    @classmethod
    def build(
        cls,
        documents: Iterable[str],
        folder: str | Path,
        *,
        names: Iterable[str] | None = None,
        k1: float = 0.9,
        b: float = 0.4,
    ) -> Self:
        """Index ``documents`` into ``folder`` with Anserini's command; see ``BM25Index.build``."""
        indexer = java_class("io.anserini.index.IndexCollection")
        known = None if names is None else list(names)
        ranks = None if known is None else _ranks(known)
        with tempfile.TemporaryDirectory() as texts:
            with (Path(texts) / "documents.jsonl").open("w", encoding="ascii") as file:
                for number, text in enumerate(documents):
                    # Ties are ordered by the id as a string.
                    identity = f"{number if ranks is None else ranks[number]:010d}:{number}"
                    file.write(json.dumps({"id": identity, "contents": text}) + "\n")
            options = {"collection": "JsonCollection", "generator": "DefaultLuceneDocumentGenerator", "threads": "1"}
            options |= {"input": texts, "index": str(folder)}
            indexer.main([word for name, value in options.items() for word in (f"-{name}", value)])
        return cls(folder, k1=k1, b=b)

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """For each query the ``k`` documents that answer it best, best first.

        Raises:
            TypeError: ``queries`` is a single text.
            ValueError: ``k`` is not positive.
        """
        check_request(queries, k)
        return [self._found(query, k) for query in queries]

    def _found(self, query: str, k: int) -> list[Hit]:
        return [Hit(int(found.docid.partition(":")[2]), found.score) for found in self._searcher.search(query, k)]


def _ranks(names: list[str]) -> dict[int, int]:
    return {number: rank for rank, number in enumerate(sorted(range(len(names)), key=names.__getitem__))}
