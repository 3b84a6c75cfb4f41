"""Which documents hold a term, and how much that counts: the arrays of an index, kept in a folder and mapped from it.

A posting is a document and a *code*. Codes number the distinct values of ``1 + frequency / length norm`` that occur, in
ascending order, so that the greatest code of a term bounds what it can add to a score.
"""

import hashlib
import json
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from agentgym_prm.errors import DataNotFoundError, IndexFormatError

FORMAT: Final = "agentgym_prm.search.bm25"
VERSION: Final = 2
"""Of the files and of the analysis whose terms they hold: an index of another version is built anew."""

_DTYPES: Final[Mapping[str, str]] = {
    "terms": "<u1",  # UTF-8, one after the other in ascending order
    "term_ends": "<i8",  # (terms + 1,) where each starts and the next one does
    "starts": "<i8",  # (terms + 1,) the same for postings
    "best_codes": "",  # (terms,) as `codes`
    "idfs": "<f4",  # (terms,)
    "documents": "<u4",  # (postings,) ascending within a term
    "codes": "",  # (postings,) see `code_dtype`
    "saturations": "<f4",  # (codes,) ascending: 1 + frequency / length norm
    "ranks": "<u4",  # (documents,) by which equal scores are ordered; empty: by number
    "dense_terms": "<u4",  # (dense terms,) numbers of those with a table of pieces, ascending
    "piece_firsts": "<i8",  # (dense terms + 1,) where each one's pieces start
    # (pieces * 4,) its first posting, counted from the term's first; the bits of its greatest saturation as "<f4", 1 if
    # there is no posting; the lower and the higher bits of which 64ths of its documents hold the term
    "pieces": "<u4",
}
WINDOW_SHIFT: Final = 12
"""Binary logarithm of how many documents a window has (see `kernel`)."""
CELL_SHIFT: Final = 6
"""That of a cell, which the smallest piece is as long as."""
PIECE_POSTINGS: Final = 8
"""A piece has on average so many postings, or up to twice as many; one as long as a cell may have more."""


def fewest_dense(documents: int) -> int:
    """How many postings give a term a table: as many as make the longest piece, a window, worth it."""
    return -(-PIECE_POSTINGS * documents >> WINDOW_SHIFT)


def piece_shift(postings: int, documents: int) -> int:
    """Binary logarithm of the length of a dense term's pieces, in documents."""
    shift = CELL_SHIFT
    while postings << shift < PIECE_POSTINGS * documents:
        shift += 1
    return shift


def code_dtype(codes: int) -> str:
    """What postings keep their codes in, if there are so many distinct ones."""
    return "<u2" if codes <= 1 << 16 else "<u4"


class Postings:
    """The arrays of an index, in memory or mapped from its folder, with the facts that scores need.

    Attributes:
        arrays: By the names of the files.
        documents: How many documents there are.
        filled: How many of them hold a term.
        k1, b: BM25's parameters, which are in the codes.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], *, documents: int, filled: int, k1: float, b: float) -> None:
        for values in arrays.values():
            values.flags.writeable = False  # as those that are mapped: one type for the compiled loop
        self.arrays = arrays
        self.documents = documents
        self.filled = filled
        self.k1 = k1
        self.b = b
        self._terms = arrays["terms"]
        self._term_ends = arrays["term_ends"]

    def find(self, term: str) -> int | None:
        """The number of a term, or ``None`` if no document holds it."""
        wanted = term.encode("utf-8", "surrogatepass")
        count = len(self._term_ends) - 1
        number = bisect_left(range(count), wanted, key=self._term)
        return number if number < count and self._term(number) == wanted else None

    def _term(self, number: int) -> bytes:
        start, end = self._term_ends[number : number + 2]
        return self._terms[start:end].tobytes()

    def _facts(self) -> dict[str, Any]:
        return {"documents": self.documents, "filled": self.filled, "k1": self.k1, "b": self.b}

    def fingerprint(self) -> str:
        """Digest of everything that decides results."""
        digest = hashlib.sha256(json.dumps([FORMAT, VERSION, self._facts()]).encode())
        for name in _DTYPES:
            digest.update(f"{name} {self.arrays[name].nbytes} ".encode())
            digest.update(self.arrays[name].data)
        return digest.hexdigest()[:32]

    def save(self, folder: Path) -> None:
        """Write ``folder`` in one step: it is whole or not there.

        Raises:
            FileExistsError: ``folder`` is there and holds something else than this very index.
        """
        fingerprint = self.fingerprint()
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            for name in _DTYPES:
                self.arrays[name].tofile(unfinished / f"{name}.bin")
            sizes = {name: self.arrays[name].nbytes for name in _DTYPES}
            record = {"format": FORMAT, "version": VERSION, **self._facts(), "sizes": sizes, "fingerprint": fingerprint}
            (unfinished / "index.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            unfinished.chmod(0o755)
            try:
                unfinished.rename(folder)
            except OSError as error:
                if not folder.exists():
                    raise
                if _fingerprint_in(folder) != fingerprint:
                    raise FileExistsError(f"{folder} holds something else: remove it, or name another one") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the arrays of ``folder`` into memory; they are read as they are needed.

        Raises:
            DataNotFoundError: There is no ``folder/index.json``.
            IndexFormatError: The index is damaged, incomplete or of another version.
        """
        record = _record(folder)
        arrays = {}
        codes = code_dtype(record["sizes"]["saturations"] // 4)
        for name in _DTYPES:
            dtype = np.dtype(_DTYPES[name] or codes)
            path = folder / f"{name}.bin"
            size = path.stat().st_size if path.is_file() else -1
            if size != record["sizes"][name] or size % dtype.itemsize:
                found = "is missing" if size < 0 else f"has {size:,} bytes"
                raise IndexFormatError(f"{path} {found}, not {record['sizes'][name]:,}: remove {folder}, build it anew")
            arrays[name] = np.memmap(path, dtype, "r") if size else np.zeros(0, dtype)
        terms = len(arrays["best_codes"])
        dense = len(arrays["dense_terms"])
        for name, count, last in (
            ("term_ends", terms, len(arrays["terms"])),
            ("starts", terms, len(arrays["documents"])),
            ("piece_firsts", dense, len(arrays["pieces"]) // 4),
        ):
            if len(arrays[name]) != count + 1 or arrays[name][-1] != last:
                raise IndexFormatError(f"{folder / name}.bin does not fit the other files: build the index anew")
        facts = {name: record[name] for name in ("documents", "filled", "k1", "b")}
        return cls({name: np.asarray(values) for name, values in arrays.items()}, **facts)


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    if not path.is_file():
        raise DataNotFoundError(f"no search index in {folder}: there is no index.json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        known = (record["format"], record["version"])
        sizes = record["sizes"]
        missing = [name for name in _DTYPES if name not in sizes]
        missing += [name for name in ("documents", "filled", "k1", "b", "fingerprint") if name not in record]
    except (ValueError, KeyError, TypeError) as error:
        raise IndexFormatError(f"{path} is damaged ({error!r}): remove {folder} and build it anew") from error
    if known != (FORMAT, VERSION):
        raise IndexFormatError(
            f"{path} is {known[0]} version {known[1]}, not {FORMAT} version {VERSION}: build it anew"
        )
    if missing:
        raise IndexFormatError(f"{path} lacks {', '.join(missing)}: remove {folder} and build it anew")
    assert isinstance(record, dict)
    return record


def _fingerprint_in(folder: Path) -> str:
    try:
        return str(_record(folder)["fingerprint"])
    except (DataNotFoundError, IndexFormatError):
        return ""
