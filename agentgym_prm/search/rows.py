"""Rows of data files, one after the other: lines of JSON, one JSON document, Parquet, tables; also compressed.

What a file is, its first bytes say, not its name: a corpus called ``.json`` may hold a document a line.
"""

import csv
import gzip
import json
import lzma
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from agentgym_prm.errors import DataFormatError, DataNotFoundError, needs_extra

_GZIP: Final = b"\x1f\x8b"
_XZ: Final = b"\xfd7zXZ\x00"
_PARQUET: Final = b"PAR1"
_UNREAD: Final = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"PK\x03\x04": "zip", b"7z\xbc\xaf": "7z"}
_BATCH: Final = 10_000
"""Rows of a Parquet file that are in memory at once."""
_TABLE: Final = {"id", "text", "title"}
"""The columns by which a table is known to be one: those of DPR's ``psgs_w100.tsv``."""


class Row(NamedTuple):
    """A row, and where it stands."""

    path: Path
    unit: str
    """What is counted: ``line``, or ``row`` in Parquet and in one JSON document."""
    number: int
    """From 1."""
    record: Mapping[str, Any]

    @property
    def place(self) -> str:
        """As errors name it."""
        return f"{self.path}, {self.unit} {self.number:,}"

    def error(self, problem: object) -> DataFormatError:
        """An error that names this row."""
        return DataFormatError(f"{self.place}: {problem}")


def read_rows(path: str | Path, columns: Collection[str] | None = None) -> Iterator[Row]:
    """The rows of a file, of which one is in memory at a time (of one JSON document: all).

    Args:
        path: Lines of JSON objects; a JSON list of objects, or an object that holds one as ``Data`` (TriviaQA); a table
            with tabs and a head that names ``id``, ``text`` and ``title`` (DPR); any of these also compressed by gzip
            or xz; Parquet (extra ``[data]``).
        columns: What is wanted; of Parquet nothing else is read.

    Raises:
        DataNotFoundError: There is no such file.
        DataFormatError: It is none of these, damaged or cut short; names the line.
        MissingDependencyError: It is Parquet, and polars is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise DataNotFoundError(f"no file {path}" + (": it is a folder" if path.is_dir() else ""))
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_PARQUET):
        yield from _parquet_rows(path, columns)
        return
    for magic, name in _UNREAD.items():
        if start.startswith(magic):
            raise DataFormatError(f"{path} is compressed by {name}: decompress it first, or use gzip or xz")
    with _opened(path, start) as file:
        yield from _text_rows(path, file)


@contextmanager
def _opened(path: Path, start: bytes) -> Iterator[Iterable[bytes]]:
    if start.startswith(_GZIP):
        with gzip.open(path, "rb") as file:
            yield file
    elif start.startswith(_XZ):
        with lzma.open(path, "rb") as file:
            yield file
    else:
        with path.open("rb") as file:
            yield file


def _lines(path: Path, file: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1; damage of what they are compressed by is said with the number."""
    number = 0
    try:
        for number, line in enumerate(file, 1):
            yield number, line
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise DataFormatError(f"{path} is damaged or cut short after line {number:,}: {error}") from error


def _text_rows(path: Path, file: Iterable[bytes]) -> Iterator[Row]:
    lines = _lines(path, file)
    for number, line in lines:
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if line.strip():
            break
    else:
        raise DataFormatError(f"{path} is empty")
    if line.lstrip().startswith(b"["):
        yield from _elements(path, _document(path, number, line, lines))
    elif line.lstrip().startswith(b"{"):
        yield from _json_rows(path, number, line, lines)
    elif set(line.decode("utf-8", "replace").rstrip("\r\n").split("\t")) >= _TABLE:
        yield from _table_rows(path, number, line, lines)
    else:
        raise DataFormatError(
            f"{path}, line {number:,}: expected a JSON object, a JSON list, Parquet or a table with tabs and a head "
            f"that names {', '.join(sorted(_TABLE))}; got {_shortened(line)}"
        )


def _json_rows(path: Path, number: int, line: bytes, lines: Iterator[tuple[int, bytes]]) -> Iterator[Row]:
    """Rows of a file that begins with a brace: an object a line, or one object over many lines."""
    try:
        first = json.loads(line)
    except json.JSONDecodeError as error:
        if error.pos < len(error.doc.rstrip()):
            raise _no_json(path, number, line, error) from error
        first = _document(path, number, line, lines)  # it ends where there should be more of it
        if not _holds_data(first):
            raise DataFormatError(f"{path}: expected a JSON object a line, or one that holds a list 'Data'") from error
    except (ValueError, RecursionError) as error:
        raise _no_json(path, number, line, error) from error
    if _holds_data(first):
        yield from _elements(path, first["Data"])
        return
    yield Row(path, "line", number, first)
    for number, line in lines:
        if line.isspace():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _no_json(path, number, line, error) from error
        if not isinstance(record, dict):
            raise DataFormatError(f"{path}, line {number:,}: expected a JSON object, got {_shortened(line)}")
        yield Row(path, "line", number, record)


def _holds_data(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("Data"), list)


def _document(path: Path, number: int, line: bytes, lines: Iterator[tuple[int, bytes]]) -> Any:
    """What a line and all that follow say together."""
    try:
        return json.loads(b"".join([line, *(more for _, more in lines)]))
    except json.JSONDecodeError as error:
        raise DataFormatError(f"{path}, line {number + error.lineno - 1:,}: no JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise DataFormatError(f"{path}: no JSON: {error}") from error


def _elements(path: Path, elements: list[Any]) -> Iterator[Row]:
    for number, record in enumerate(elements, 1):
        if not isinstance(record, dict):
            raise DataFormatError(f"{path}, row {number:,}: expected a JSON object, got {_shortened(record)}")
        yield Row(path, "row", number, record)


def _table_rows(path: Path, number: int, head: bytes, lines: Iterator[tuple[int, bytes]]) -> Iterator[Row]:
    names = head.decode().rstrip("\r\n").split("\t")
    reader = csv.reader(_decoded(path, lines), delimiter="\t")
    first = number + 1
    try:
        for fields in reader:
            if fields and len(fields) != len(names):
                raise DataFormatError(
                    f"{path}, line {first:,}: expected {len(names)} columns ({', '.join(names)}), got {len(fields)}"
                )
            if fields:
                yield Row(path, "line", first, dict(zip(names, fields, strict=True)))
            first = number + reader.line_num + 1
    except csv.Error as error:
        raise DataFormatError(f"{path}, line {first:,}: {error}; is a quotation mark left open?") from error


def _decoded(path: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[str]:
    for number, line in lines:
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise DataFormatError(f"{path}, line {number:,}: no UTF-8: {error.reason}") from error


def _parquet_rows(path: Path, columns: Collection[str] | None) -> Iterator[Row]:
    with needs_extra("data"):
        import polars as pl
    try:
        table = pl.scan_parquet(path)
        if columns is not None:
            names = [name for name in table.collect_schema().names() if name in columns]
            table = table.select(names)
        count = table.select(pl.len()).collect().item()
        for start in range(0, count, _BATCH):
            for number, record in enumerate(table.slice(start, _BATCH).collect().iter_rows(named=True), start + 1):
                yield Row(path, "row", number, record)
    except pl.exceptions.PolarsError as error:
        raise DataFormatError(f"{path} is damaged or cut short: {error}") from error


def _no_json(path: Path, number: int, line: bytes, error: Exception) -> DataFormatError:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return DataFormatError(f"{path}, line {number:,}: no JSON: {reason}; the line is {_shortened(line)}")


def _shortened(value: object) -> str:
    text = value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
