"""Passages in a Lucene index as Pyserini makes them, with the original's own search: a folder, or a prebuilt index.

Needs the extra ``[search]`` and Java 21 or newer (``JAVA_HOME``). The index must keep its documents (``-storeRaw``), as
``wikipedia-kilt-doc`` and Search-R1's ``wiki-18-bm25-index`` do: passages are read from these.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from agentgym_prm.errors import DataNotFoundError, IndexFormatError, UnknownNameError, needs_extra
from agentgym_prm.search.core import Found, Passage
from agentgym_prm.search.corpus import passage_of
from agentgym_prm.search.lucene import java_class

_SEARCHER: Final = "io.anserini.search.SimpleSearcher"


class LucenePassages:
    """The passages of a Lucene index, searched by BM25 with Anserini's English analyser; safe to share between threads.

    Scores are Anserini's, which lowers those of documents that tie by a millionth each to keep them in order.

    Args:
        name: A folder with a Lucene index, or the name of a prebuilt index, such as ``wikipedia-kilt-doc`` (16 GB),
            which Pyserini downloads on first use.
        k1: How slowly repeats of a term saturate.
        b: How much long documents are marked down.

    Raises:
        UnknownNameError: It is neither a folder nor a prebuilt index.
        DataNotFoundError: There is no Lucene index in the folder, or the prebuilt index could not be downloaded.
        IndexFormatError: The index does not keep its documents, or they are of no known form.
        MissingDependencyError: Pyserini is not installed, or there is no Java for it.
    """

    def __init__(self, name: str | Path, *, k1: float = 0.9, b: float = 0.4) -> None:
        self._folder = lucene_folder(name)
        self._searcher = java_class(_SEARCHER)(str(self._folder))
        self._searcher.set_bm25(k1, b)
        self._size = int(self._searcher.get_total_num_docs())
        if self._size:  # whether its documents can be read shows before the first search
            self._passage(str(self._searcher.doc(0).get("id")))

    def __len__(self) -> int:
        return self._size

    def search(self, queries: Sequence[str], k: int) -> list[list[Found]]:
        """For each query the ``k`` passages that answer it best, best first; fewer where fewer match.

        Raises:
            ValueError: ``k`` is not positive.
            IndexFormatError: A document is not kept, or of no known form.
        """
        if k < 1:
            raise ValueError(f"k must be positive, got {k}")
        return [self._found(query.encode("utf-8", "replace").decode(), k) for query in queries]  # no halves of pairs

    def _found(self, query: str, k: int) -> list[Found]:
        hits = self._searcher.search(query, k)
        return [Found(self._passage(str(hit.docid)), float(hit.score)) for hit in hits]

    def _passage(self, identity: str) -> Passage:
        raw = self._searcher.doc_raw(identity)
        if raw is None:
            raise IndexFormatError(f"{self._folder} does not keep its documents: index them with -storeRaw")
        return passage_of_raw(identity, str(raw))


def passage_of_raw(identity: str, raw: str) -> Passage:
    """The passage in a document that an index keeps: JSON of one of the known forms.

    Raises:
        IndexFormatError: It is none of these.
    """
    try:
        record = json.loads(raw)
        if not isinstance(record, dict):
            raise ValueError("it is no JSON object")
        return passage_of({**record, "id": identity})
    except (ValueError, RecursionError) as error:
        raise IndexFormatError(f"the document {identity!r} is of no known form: {error}") from error


def lucene_folder(name: str | Path) -> Path:
    """The folder of a Lucene index: ``name`` itself, or that of a prebuilt index, which is downloaded if need be.

    Raises:
        UnknownNameError: ``name`` is neither a folder nor a prebuilt index.
        DataNotFoundError: There is no index in the folder, or it could not be downloaded.
        MissingDependencyError: Pyserini is not installed, or there is no Java for it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any(folder.glob("segments_*")):
            raise DataNotFoundError(f"no Lucene index in {folder}: there is no segments file")
        return folder
    java_class(_SEARCHER)  # what follows loads Java, and without a fitting one it fails in ways of its own
    with needs_extra("search"):
        from pyserini.prebuilt_index_info import TF_INDEX_INFO
    if str(name) not in TF_INDEX_INFO:
        raise UnknownNameError(f"{_unknown(str(name), TF_INDEX_INFO)}; or give the folder of a Lucene index")
    try:
        return Path(_download(str(name)))
    except (OSError, ValueError) as error:
        raise DataNotFoundError(f"the prebuilt index {name} could not be downloaded: {error}") from error


def _download(name: str) -> str:
    """The folder of a prebuilt index in Pyserini's cache."""
    with needs_extra("search"):
        from pyserini.util import download_prebuilt_index
    return str(download_prebuilt_index(name, verbose=False))


def _unknown(name: str, known: Iterable[str]) -> str:
    """What is said of a name that is none, with the nearest; of hundreds of valid names only those of Wikipedia."""
    message = str(UnknownNameError.of("Lucene index", name, known)).partition(";")[0]
    return f"{message}; prebuilt are, among others, {', '.join(each for each in known if 'wiki' in each)[:400]}"
