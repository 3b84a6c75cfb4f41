import bz2
import gzip
import json
import lzma
import re
import sys

import polars as pl
import pytest

from agentgym_prm.errors import DataFormatError, DataNotFoundError, MissingDependencyError
from agentgym_prm.search.core import Passage
from agentgym_prm.search.corpus import _page_passages, contents_of, passage_of, placed_passages, read_passages
from tests.conftest import DATA_VARIABLE, data_path

ADA = {"id": "1", "title": "Ada Lovelace", "text": "She wrote\nthe first program."}
BERN = {"id": "2", "title": "Bern", "text": "Die Stadt an der Aare; naïve 東京."}
BOTH = [Passage(**ADA), Passage(**BERN)]
PAGE = {
    "_id": "12",
    "wikipedia_id": "12",
    "wikipedia_title": "Cat",
    "text": [
        "Cat\n",
        "A cat is an animal.\n",
        "Section::::Kinds.\n",
        "There are kinds:\n",
        "BULLET::::- wild ones;\n",
        "BULLET::::1. tame ones.\n",
        "\n",
        "Cats sleep.\n",
        "Section::::See also.\n",
        "BULLET::::- Dog\n",
        "BULLET::::- Cow\n",
    ],
}


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def read(tmp_path, content, name="corpus", **options):
    path = tmp_path / name
    path.write_bytes(content)
    return list(read_passages(path, **options))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress], ids=["plain", "gzip", "xz"])
@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.txt"])
def test_lines_of_json_are_read_whatever_the_file_is_called(tmp_path, compress, name):
    assert read(tmp_path, compress(lines(ADA, BERN)), name) == BOTH


def test_empty_lines_a_byte_order_mark_and_further_fields_are_passed_over(tmp_path):
    content = b"\xef\xbb\xbf\n" + lines({**ADA, "source": "x"}) + b"\n  \r\n" + lines(BERN).replace(b"\n", b"\r\n")
    assert read(tmp_path, content) == BOTH


def test_ids_may_be_numbers_or_be_called_as_beir_calls_them(tmp_path):
    assert read(tmp_path, lines({**ADA, "id": 7}, {"_id": "b", "title": "", "text": ""})) == [
        Passage("7", ADA["title"], ADA["text"]),
        Passage("b", "", ""),
    ]


@pytest.mark.parametrize(
    ("contents", "title", "text"),
    [
        ('"Ada Lovelace"\nShe wrote\nit.', "Ada Lovelace", "She wrote\nit."),
        ('""Heroes" (album)"\nText', '"Heroes" (album)', "Text"),  # one pair is that of the corpus
        ("Ada\nText", "Ada", "Text"),
        ('"Weird Al" Yankovic\nText', '"Weird Al" Yankovic', "Text"),
        ('"\nText', '"', "Text"),
        ("One line only.", "", "One line only."),
        ("\nText", "", "Text"),
    ],
)
def test_the_first_line_of_contents_is_the_title(tmp_path, contents, title, text):
    assert read(tmp_path, lines({"id": "0", "contents": contents})) == [Passage("0", title, text)]


def test_a_stated_title_is_taken_off_contents_that_begin_with_it():
    # As Pyserini's wikipedia-kilt-doc keeps its documents.
    page = {"id": "12", "contents": "Cat\nA cat.\n", "wikipedia_id": "12", "wikipedia_title": "Cat", "categories": ""}
    assert passage_of(page) == Passage("12", "Cat", "A cat.\n")
    assert passage_of({"id": "1", "title": "A", "contents": "B\nC"}) == Passage("1", "A", "B\nC")


@pytest.mark.parametrize(
    "passage",
    [
        *BOTH,
        Passage("1", "", ""),
        Passage("1", '"Heroes"', "x"),
        Passage("1", "two\nlines", "x\n"),
        Passage("1", '"', ""),
    ],
)
def test_contents_with_a_stated_title_give_back_the_passage(passage):
    assert passage_of({"id": passage.id, "title": passage.title, "contents": contents_of(passage)}) == passage


def test_dpr_tables_are_read_with_their_quotation_marks(tmp_path):
    # The corpus's own way: tabs, texts in quotation marks, which are doubled inside; a text may go over lines.
    content = 'id\ttext\ttitle\n1\t"Aaron (""the Levite"") was\na brother."\tAaron\n2\tplain\t"""Heroes"" (album)"\n'
    path = tmp_path / "psgs.tsv.gz"
    path.write_bytes(gzip.compress(content.encode()))
    found = list(placed_passages(path))
    assert [passage for _, passage in found] == [
        Passage("1", "Aaron", 'Aaron ("the Levite") was\na brother.'),
        Passage("2", '"Heroes" (album)', "plain"),
    ]
    assert [row.number for row, _ in found] == [2, 4]


def test_a_page_of_kilt_is_one_passage_with_the_words_that_pyserini_indexes():
    # Its `contents` are all paragraphs put together, title first: the words of title and text, in this order.
    (passage,) = _page(split_pages=False)
    assert passage.id == "12"
    assert f"{passage.title}\n{passage.text}" == "".join(PAGE["text"])


def test_paragraphs_of_a_page_keep_their_numbers_and_lists_what_they_follow():
    assert _page(split_pages=True) == [
        Passage("12-1", "Cat", "A cat is an animal."),
        Passage("12-3", "Cat", "There are kinds:\n- wild ones;\n1. tame ones."),
        Passage("12-7", "Cat", "Cats sleep."),
        Passage("12-9", "Cat", "- Dog\n- Cow"),
    ]


def test_a_page_without_an_id_is_called_by_its_title_and_one_without_paragraphs_has_no_text():
    page = {"wikipedia_title": "Cat", "text": []}
    assert _page(page, split_pages=False) == [Passage("Cat", "Cat", "")]
    assert _page(page, split_pages=True) == []
    page["text"] = ["Another beginning.\n"]
    assert _page(page, split_pages=True) == [Passage("Cat-0", "Cat", "Another beginning.")]


def _page(page=PAGE, **options):
    return _page_passages(page, options["split_pages"])


def test_pages_are_read_from_files_and_paragraphs_on_request(tmp_path):
    assert len(read(tmp_path, lines(PAGE, {**PAGE, "_id": "13", "wikipedia_id": "13"}), "kilt.json")) == 2
    assert len(read(tmp_path, lines(PAGE), split_pages=True)) == 4


def test_parquet_is_read_in_batches_by_what_is_needed_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("agentgym_prm.search.rows._BATCH", 2)
    passages = [Passage(str(number), f"T{number}", "x" * number) for number in range(5)]
    table = pl.DataFrame(passages, orient="row", schema=["id", "title", "text"]).with_columns(embedding=pl.lit(0.5))
    table.write_parquet(tmp_path / "corpus.bin")
    found = list(placed_passages(tmp_path / "corpus.bin"))
    assert [passage for _, passage in found] == passages
    assert [(row.unit, row.number) for row, _ in found] == [("row", number) for number in range(1, 6)]
    assert "embedding" not in found[0][0].record


def test_missing_polars_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'agentgym_prm\[data\]'"):
        read(tmp_path, b"PAR1....")


def test_an_empty_parquet_file_holds_no_passage_and_a_cut_one_is_refused(tmp_path):
    pl.DataFrame(
        {"id": [], "title": [], "text": []}, schema=dict.fromkeys(("id", "title", "text"), pl.String)
    ).write_parquet(tmp_path / "empty")
    assert list(read_passages(tmp_path / "empty")) == []
    pl.DataFrame([ADA] * 100).write_parquet(tmp_path / "whole")
    with pytest.raises(DataFormatError, match="cut is damaged or cut short"):
        read(tmp_path, (tmp_path / "whole").read_bytes()[:-20], "cut")


GOOD = lines(ADA, BERN)


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        (GOOD + b"{not json}\n", "line 3", "no JSON: Expecting property name"),
        (GOOD + GOOD[:30], "line 3", "no JSON: Unterminated string"),
        (b"{not json}\n" + GOOD, "line 1", "no JSON: Expecting property name"),
        (GOOD[:30] + b"\n" + GOOD, "line 1", "no JSON: "),
        (GOOD + b"[1]\n", "line 3", r"expected a JSON object, got \[1\]"),
        (
            GOOD + b"\n" + lines({"id": "3", "title": "T"}),
            "line 4",
            "there is no 'text': expected {id, title, text}, {id,",
        ),
        (lines({"title": "T", "text": "x"}), "line 1", "there is no 'id'"),
        (lines({"id": "3", "text": "x"}), "line 1", "there is no 'title'"),
        (lines({**ADA, "text": None}), "line 1", "'text' must be a string, got None"),
        (lines({**ADA, "title": 3}), "line 1", "'title' must be a string, got 3"),
        (lines({"id": "3", "contents": ["x"]}), "line 1", r"'contents' must be a string, got \['x'\]"),
        (lines({**ADA, "id": ""}), "line 1", "'id' must be a string that is not empty, or a whole number, got ''"),
        (lines({**ADA, "id": True}), "line 1", "'id' must be a string that is not empty, or a whole number, got True"),
        (lines({**PAGE, "text": ["Cat\n", 5]}), "line 1", "paragraph 1 of 'text' must be a string, got 5"),
        (GOOD + b'{"id": "\xff"}\n', "line 3", "no JSON: 'utf-8' codec"),
        (b"[" * 10_000 + b"\n", "", "no JSON: .*recursion"),
        (GOOD + b'{"a":' + b"[" * 100_000 + b"\n", "line 3", "no JSON: .*recursion"),
        (b"id\ttext\ttitle\n1\tx\tT\n2\tx\n", "line 3", r"expected 3 columns \(id, text, title\), got 2"),
        (b"id\ttext\ttitle\n1\t\xff\tT\n", "line 2", "no UTF-8"),
        (b'id\ttext\ttitle\n1\tx\tT\n2\t"' + b"x y " * 50_000, "line 3", ".*is a quotation mark left open?"),
        (b"a,b\n1,2\n", "line 1", "expected a JSON object, a JSON list, Parquet or a table"),
        (b"\n[1, 2]\n", "row 1", "expected a JSON object, got 1"),
        (b'\n[\n{"id": 1},\n{"id": }]\n', "line 4", "no JSON: Expecting value"),
        (b'{\n "id": "1"\n}\n', "", "expected a JSON object a line, or one that holds a list 'Data'"),
    ],
)
def test_a_bad_row_is_named_with_what_was_expected(tmp_path, content, place, problem):
    with pytest.raises(DataFormatError, match=rf"corpus{f', {place}' if place else ''}: {problem}"):
        read(tmp_path, content)


def test_rows_before_a_bad_one_are_given(tmp_path):
    (tmp_path / "corpus").write_bytes(GOOD + b"{\n")
    passages = read_passages(tmp_path / "corpus")
    assert [next(passages), next(passages)] == BOTH
    with pytest.raises(DataFormatError, match="line 3"):
        next(passages)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_a_compressed_file_that_is_cut_short_is_named(tmp_path, compress):
    content = compress(b"".join(lines({**ADA, "id": number}) for number in range(1000)))
    with pytest.raises(DataFormatError, match=r"corpus is damaged or cut short after line \d+"):
        read(tmp_path, content[: len(content) // 2])


def test_other_compressions_are_named(tmp_path):
    with pytest.raises(DataFormatError, match="compressed by bzip2: decompress it first, or use gzip or xz"):
        read(tmp_path, bz2.compress(GOOD))


def test_a_file_that_is_missing_empty_or_a_folder_is_said_to_be(tmp_path):
    with pytest.raises(DataFormatError, match="corpus is empty"):
        read(tmp_path, b"\n \n")
    with pytest.raises(DataNotFoundError, match=f"no file {re.escape(str(tmp_path))}: it is a folder"):
        list(read_passages(tmp_path))
    with pytest.raises(DataNotFoundError, match="no file"):
        list(read_passages(tmp_path / "missing"))


def test_real_passages_and_pages_are_read():
    folder = data_path() / "wiki_search"
    if not (folder / "passages.jsonl.gz").is_file():
        pytest.skip(f"no {folder / 'passages.jsonl.gz'}: let ${DATA_VARIABLE} name the folder that holds wiki_search/")
    assert sum(1 for _ in read_passages(folder / "passages.jsonl.gz")) == 10_065
    pages = [*map(json.loads, gzip.decompress((folder / "kilt_pages_100.jsonl.gz").read_bytes()).splitlines())]
    whole = list(read_passages(folder / "kilt_pages_100.jsonl.gz"))
    assert [f"{page.title}\n{page.text}" for page in whole] == ["".join(page["text"]) for page in pages]
    for split in read_passages(folder / "kilt_pages_100.jsonl.gz", split_pages=True):
        assert "::::" not in split.text
        assert split.text.strip()
