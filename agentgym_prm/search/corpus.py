"""Passages of an encyclopedia from the files that such corpora are shared in.

Known rows, in any file that ``rows.read_rows`` reads:

- ``{id, title, text}``, also with ``_id``; DPR's ``psgs_w100.tsv`` is a table of these;
- ``{id, contents}``: Pyserini's form, and that of Search-R1's ``wiki-18``. The first line is the title, in quotation
  marks or not, unless a field states it;
- pages of KILT, ``{wikipedia_id, wikipedia_title, text: [paragraphs]}``. A page is one passage whose indexed words are
  those of Pyserini's ``wikipedia-kilt-doc`` (all paragraphs put together, marks of lists and headings included); or its
  paragraphs are passages, numbered as KILT and ``wikipedia-kilt`` number them, without headings, and with a list
  belonging to what it follows.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from agentgym_prm.search.core import Passage
from agentgym_prm.search.rows import Row, read_rows

_HEADING: Final = "Section::::"
_BULLET: Final = "BULLET::::"
_COLUMNS: Final = ("id", "_id", "title", "text", "contents", "wikipedia_id", "wikipedia_title")
_EXPECTED: Final = "expected {id, title, text}, {id, contents} or a page of KILT {wikipedia_title, text: [paragraphs]}"


def read_passages(path: str | Path, *, split_pages: bool = False) -> Iterator[Passage]:
    """The passages of a corpus, one at a time.

    Args:
        path: The file; see the module for what it may hold.
        split_pages: Of pages of KILT, whether each paragraph is a passage; by default a page is one.

    Raises:
        DataNotFoundError: There is no such file.
        DataFormatError: A row is no passage, or the file is damaged; names the line and what was expected.
        MissingDependencyError: It is Parquet, and polars is not installed.
    """
    for _, passage in placed_passages(path, split_pages=split_pages):
        yield passage


def placed_passages(path: str | Path, *, split_pages: bool = False) -> Iterator[tuple[Row, Passage]]:
    """``read_passages`` with the row that each passage was read from."""
    for row in read_rows(path, _COLUMNS):
        try:
            if isinstance(row.record.get("text"), list):
                found = _page_passages(row.record, split_pages)
            else:
                found = [passage_of(row.record)]
        except ValueError as error:
            raise row.error(error) from error
        for passage in found:
            yield row, passage


def passage_of(record: Mapping[str, Any]) -> Passage:
    """The passage that a record of one of the known forms states; a document without an id is called by its title.

    Raises:
        ValueError: It states none; says what is missing or of the wrong type.
    """
    if "contents" not in record:
        return Passage(_identity(record), _string(record, "title"), _string(record, "text"))
    contents = _string(record, "contents")
    stated = next((record[name] for name in ("title", "wikipedia_title") if isinstance(record.get(name), str)), None)
    title, text = _titled(contents, stated)
    known = any(name in record for name in ("id", "_id"))
    return Passage(_identity(record) if known else title, title, text)


def contents_of(passage: Passage) -> str:
    r"""Title and text in one, as Search-R1's corpus and server have it.

    >>> contents_of(Passage("7", "Ada Lovelace", "She wrote the first program."))
    '"Ada Lovelace"\nShe wrote the first program.'
    """
    return f'"{passage.title}"\n{passage.text}'


def _titled(contents: str, stated: str | None) -> tuple[str, str]:
    """The title and the text in ``contents``, which may begin with the title that is ``stated`` elsewhere."""
    if stated is not None:
        for start in (f'"{stated}"\n', f"{stated}\n"):
            if contents.startswith(start):
                return stated, contents[len(start) :]
        return stated, contents
    title, separator, text = contents.partition("\n")
    if not separator:
        return "", contents
    if len(title) > 1 and title[0] == title[-1] == '"':
        title = title[1:-1]
    return title, text


def _page_passages(record: Mapping[str, Any], split: bool) -> list[Passage]:
    title = _string(record, "wikipedia_title")
    paragraphs = record["text"]
    for number, paragraph in enumerate(paragraphs):
        if not isinstance(paragraph, str):
            raise ValueError(f"paragraph {number} of 'text' must be a string, got {paragraph!r}")
    identity = _identity(record, default=title)
    first = 1 if paragraphs and paragraphs[0].strip() == title else 0
    if not split:
        return [Passage(identity, title, "".join(paragraphs[first:]))]
    texts: dict[int, str] = {}
    open_paragraph: int | None = None  # to which the items of a list are added
    for number in range(first, len(paragraphs)):
        text = paragraphs[number].strip()
        if text.startswith(_HEADING) or not text:
            open_paragraph = None
        elif text.startswith(_BULLET):
            item = text.removeprefix(_BULLET)
            if open_paragraph is None:
                open_paragraph, texts[number] = number, item
            else:
                texts[open_paragraph] += f"\n{item}"
        else:
            open_paragraph, texts[number] = number, text
    return [Passage(f"{identity}-{number}", title, text) for number, text in texts.items()]


def _identity(record: Mapping[str, Any], default: str | None = None) -> str:
    for name in ("id", "_id", "wikipedia_id"):
        if name in record:
            identity = record[name]
            if isinstance(identity, int) and not isinstance(identity, bool):
                return str(identity)
            if not isinstance(identity, str) or not identity:
                raise ValueError(f"{name!r} must be a string that is not empty, or a whole number, got {identity!r}")
            return identity
    if default is None:
        raise ValueError(f"there is no 'id': {_EXPECTED}")
    return default


def _string(record: Mapping[str, Any], name: str) -> str:
    if name not in record:
        raise ValueError(f"there is no {name!r}: {_EXPECTED}")
    value = record[name]
    if not isinstance(value, str):
        raise ValueError(f"{name!r} must be a string, got {value!r}"[:200])
    return value
