"""An index of passages: BM25 over title and text, with the texts beside it, built once and mapped from disk afterwards.

A folder holds ``passages.jsonl`` (a passage a line, itself a corpus that can be read), ``offsets.bin`` (where each line
starts), ``bm25/`` and, written last, ``passages.json``, which states sizes and a fingerprint. While it is built, texts
go to disk as they come; what is kept in memory are ids and numbers. Opening takes a few milliseconds for any size.
"""

import hashlib
import io
import json
import logging
import mmap
import shutil
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np
from tqdm import tqdm

from agentgym_prm.errors import DataFormatError, DataNotFoundError, IndexFormatError
from agentgym_prm.search import postings
from agentgym_prm.search.bm25 import BM25Index
from agentgym_prm.search.cache import SILENT_S, cache_folder, content_hash, written_in_one_step
from agentgym_prm.search.core import Found, Passage
from agentgym_prm.search.corpus import placed_passages, read_passages

FORMAT: Final = "agentgym_prm.search.passages"
VERSION: Final = 1
"""To be raised with every change to the files, or to what is read of a corpus."""
RECORD: Final = "passages.json"
_logger = logging.getLogger(__name__)


class PassageIndex:
    """Passages that are searched by BM25 as Lucene would; read-only, and safe to share between threads.

    >>> passages = [Passage("a", "Ada Lovelace", "The first programmer."), Passage("b", "Bern", "A city.")]
    >>> index = PassageIndex.build(passages)
    >>> index.search(["who was the first programmer?"], k=1)[0][0].passage.title
    'Ada Lovelace'

    Attributes:
        fingerprint: Digest of all that decides results: the passages in their order, and the parameters.
    """

    def __init__(self, texts: bytes | mmap.mmap, offsets: np.ndarray, index: BM25Index, fingerprint: str) -> None:
        self._texts = texts
        self._offsets = offsets
        self._index = index
        self.fingerprint = fingerprint

    @classmethod
    def build(cls, passages: Iterable[Passage], *, k1: float = 0.9, b: float = 0.4) -> Self:
        """Index ``passages`` in memory: for a few thousand of them.

        Args:
            passages: What is searched: title and text, put together. Passages with equal scores come in the order of
                their ids.
            k1: How slowly repeats of a term saturate, at least 0.
            b: How much long passages are marked down, in [0, 1].

        Raises:
            DataFormatError: Two have the same id, or there is none.
            ValueError: A parameter is out of range.
        """
        texts = io.BytesIO()
        writer = _Writer(texts)
        index = writer.indexed(passages, k1, b)
        return cls(texts.getvalue(), writer.offsets(), index, writer.fingerprint(k1, b))

    @classmethod
    def write(cls, folder: str | Path, passages: Iterable[Passage], *, k1: float = 0.9, b: float = 0.4) -> Self:
        """``build`` into the new ``folder``, whose texts are never all in memory; and open it.

        Interrupted, it leaves nothing behind.

        Raises:
            FileExistsError: There is a ``folder``.
            DataFormatError: Two passages have the same id, or there is none.
            ValueError: A parameter is out of range.
        """
        folder = Path(folder)
        if folder.exists():
            raise FileExistsError(f"{folder} is there already: remove it, or name another one")
        with written_in_one_step(folder) as place:
            with (place / "passages.jsonl").open("wb") as texts:
                writer = _Writer(texts)
                index = writer.indexed(passages, k1, b)
            index.save(place / "bm25")
            offsets = writer.offsets()
            offsets.tofile(place / "offsets.bin")
            sizes = {"passages.jsonl": int(offsets[-1]), "offsets.bin": offsets.nbytes}
            record = {"format": FORMAT, "version": VERSION, "passages": len(offsets) - 1, "sizes": sizes}
            record["fingerprint"] = writer.fingerprint(k1, b)
            (place / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """The index that ``write`` wrote, mapped into memory: nothing is read before it is needed.

        Raises:
            DataNotFoundError: There is no index in ``folder``.
            IndexFormatError: A file is cut short, missing or of another version; names it.
        """
        folder = Path(folder)
        record = _record(folder)
        for name, expected in record["sizes"].items():
            path = folder / name
            size = path.stat().st_size if path.is_file() else -1
            if size != expected:
                found = "is missing" if size < 0 else f"has {size:,} bytes"
                raise IndexFormatError(f"{path} {found}, not {expected:,}: remove {folder} and build it anew")
        offsets = np.asarray(np.memmap(folder / "offsets.bin", "<i8", "r"))
        index = _bm25(folder)
        if len(offsets) != record["passages"] + 1 or offsets[-1] != record["sizes"]["passages.jsonl"]:
            raise IndexFormatError(f"{folder / 'offsets.bin'} does not fit the other files: build the index anew")
        if len(index) != record["passages"]:
            raise IndexFormatError(f"{folder / 'bm25'} does not fit the other files: build the index anew")
        with (folder / "passages.jsonl").open("rb") as file:
            texts = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cls(texts, offsets, index, record["fingerprint"])

    @classmethod
    def of_file(cls, path: str | Path, cache: str | Path | None = None, *, split_pages: bool = False) -> Self:
        """The index of a corpus: built on first use, and found again as long as the file's content is the same.

        Args:
            path: A corpus; see ``corpus.read_passages``.
            cache: Where indices are kept; by default ``$AGENTGYM_PRM_CACHE``, or the user's cache folder.
            split_pages: Of pages of KILT, whether each paragraph is a passage.

        Raises:
            DataNotFoundError: There is no such file.
            DataFormatError: A row is no passage or has the id of another one; names the lines.
            MissingDependencyError: It is Parquet, and polars is not installed.
            OSError: The cache cannot be written.
        """
        path = Path(path)
        if not path.is_file():
            raise DataNotFoundError(f"no corpus {path}")
        cache = (cache_folder() if cache is None else Path(cache)) / "search"
        content = content_hash(path, cache / "hashes")
        key = json.dumps([FORMAT, VERSION, postings.VERSION, split_pages, content])
        folder = cache / hashlib.sha256(key.encode()).hexdigest()[:32]
        try:
            return cls.open(folder)
        except IndexFormatError as error:
            _logger.warning("%s; it is built anew now", error)
            shutil.rmtree(folder)
        except DataNotFoundError:
            pass
        passages = read_passages(path, split_pages=split_pages)
        shown = tqdm(passages, f"indexing {path.name}", unit=" passages", delay=SILENT_S, leave=False, disable=None)
        try:
            return cls.write(folder, shown)
        except FileExistsError:  # another process was faster
            return cls.open(folder)
        except _SameIdError as error:
            raise error.placed(path, split_pages) from error

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, number: int) -> Passage:
        """The passage with a number, from 0.

        Raises:
            IndexError: There are not so many.
            IndexFormatError: Its text was altered on disk.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"passage numbers are in [0, {len(self):,}), got {number}")
        start, end = self._offsets[number : number + 2].tolist()
        try:
            record = json.loads(self._texts[start:end].decode("utf-8", "surrogatepass"))
            return Passage(record["id"], record["title"], record["text"])
        except (ValueError, KeyError, TypeError) as error:
            raise IndexFormatError(f"the text of passage {number:,} is damaged: build the index anew") from error

    def __iter__(self) -> Iterator[Passage]:
        return (self[number] for number in range(len(self)))

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        # Read-only; Gymnasium copies the arguments of an environment.
        return self

    def search(self, queries: Sequence[str], k: int) -> list[list[Found]]:
        """For each query the ``k`` passages that answer it best, best first; fewer where fewer hold a term of it.

        Raises:
            ValueError: ``k`` is not positive.
        """
        return [[Found(self[hit.document], hit.score) for hit in hits] for hits in self._index.search(queries, k)]


class _SameIdError(DataFormatError):
    """Two passages have the same id."""

    def __init__(self, identity: str, first: int, second: int) -> None:
        super().__init__(f"two passages have the id {identity!r}: the {first + 1:,}. and the {second + 1:,}.")
        self.identity, self.first, self.second = identity, first, second

    def placed(self, path: Path, split_pages: bool) -> DataFormatError:
        """The same error with the lines of the corpus."""
        both = (self.first, self.second)
        passages = enumerate(placed_passages(path, split_pages=split_pages))
        rows = [row for number, (row, _) in passages if number in both]
        return DataFormatError(f"{rows[1].place}: id {self.identity!r} is that of {rows[0].unit} {rows[0].number:,}")


class _Writer:
    """Writes passages as they are indexed, and remembers what is needed of them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._ids: list[str] = []
        self._lengths = array("q")

    def indexed(self, passages: Iterable[Passage], k1: float, b: float) -> BM25Index:
        return BM25Index.build(self._texts(passages), names=self._ids, k1=k1, b=b)

    def _texts(self, passages: Iterable[Passage]) -> Iterator[str]:
        for passage in passages:
            line = json.dumps(passage._asdict(), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
            self._file.write(line)
            self._digest.update(line)
            self._ids.append(passage.id)
            self._lengths.append(len(line))
            yield f"{passage.title} {passage.text}"
        if not self._ids:
            raise DataFormatError("there is no passage to index")
        self._check_ids()

    def _check_ids(self) -> None:
        """Compare hashes first: a set of twenty million ids would take gigabytes."""
        hashes = np.fromiter(map(hash, self._ids), np.int64, len(self._ids))
        ordered = np.sort(hashes)
        twice = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
        seen: dict[str, int] = {}
        for number in np.flatnonzero(np.isin(hashes, list(twice))).tolist() if twice else ():
            first = seen.setdefault(self._ids[number], number)
            if first != number:
                raise _SameIdError(self._ids[number], first, number)

    def offsets(self) -> np.ndarray:
        """Where each passage's line starts and the next one does, shape ``(passages + 1,)``."""
        offsets = np.zeros(len(self._lengths) + 1, np.int64)
        np.cumsum(self._lengths, out=offsets[1:])
        return offsets

    def fingerprint(self, k1: float, b: float) -> str:
        facts = json.dumps([FORMAT, VERSION, postings.VERSION, float(k1), float(b), self._digest.hexdigest()])
        return hashlib.sha256(facts.encode()).hexdigest()[:32]


def _bm25(folder: Path) -> BM25Index:
    try:
        return BM25Index.open(folder / "bm25")
    except DataNotFoundError as error:
        raise IndexFormatError(f"{error}: remove {folder} and build it anew") from error


def _record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    if not path.is_file():
        raise DataNotFoundError(f"no index of passages in {folder}: there is no {RECORD}")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        known = (record["format"], record["version"])
        whole = (
            set(record["sizes"]) == {"passages.jsonl", "offsets.bin"}
            and isinstance(record["passages"], int)
            and isinstance(record["fingerprint"], str)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise IndexFormatError(f"{path} is damaged ({error!r}): remove {folder} and build it anew") from error
    if known != (FORMAT, VERSION):
        raise IndexFormatError(
            f"{path} is {known[0]} version {known[1]}, not {FORMAT} version {VERSION}: build it anew"
        )
    if not whole:
        raise IndexFormatError(f"{path} is damaged: remove {folder} and build it anew")
    assert isinstance(record, dict)
    return record
