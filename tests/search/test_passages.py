import json
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentgym_prm.errors import DataFormatError, DataNotFoundError, IndexFormatError
from agentgym_prm.search import BM25Index
from agentgym_prm.search import passages as passages_module
from agentgym_prm.search.core import Passage
from agentgym_prm.search.corpus import read_passages
from agentgym_prm.search.passages import PassageIndex

WORDS = [f"w{number}" for number in range(300)]


def drawn(count=400, seed=0):
    draw = random.Random(seed)
    return [
        Passage(
            f"id{draw.random()}",
            " ".join(draw.choices(WORDS, k=2)),
            " ".join(draw.choices(WORDS, k=draw.randint(0, 40))),
        )
        for _ in range(count)
    ]


def questions(count=40, seed=1):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=4)) for _ in range(count)]


def write_corpus(path, passages):
    path.write_text("".join(json.dumps(passage._asdict()) + "\n" for passage in passages))
    return path


def test_title_and_text_are_searched_and_ties_come_in_the_order_of_ids():
    texts = [("c", "Red", "fox"), ("a", "red fox", ""), ("b", "", "fox red"), ("d", "Blue", "whale")]
    index = PassageIndex.build([Passage(*each) for each in texts])
    # Two terms each, so the three have the same score; nothing else holds a term.
    (found,) = index.search(["the RED foxes"], 10)
    assert [each.passage.id for each in found] == ["a", "b", "c"]
    assert len({each.score for each in found}) == 1
    assert index.search(["", "nothing here", "whale"], 1)[2][0].passage == Passage("d", "Blue", "whale")


def test_found_passages_and_scores_are_those_of_the_index_of_their_texts(tmp_path):
    passages = drawn()
    plain = BM25Index.build([f"{p.title} {p.text}" for p in passages], names=[p.id for p in passages])
    expected = [[(passages[hit.document], hit.score) for hit in hits] for hits in plain.search(questions(), 7)]
    for index in (PassageIndex.build(passages), PassageIndex.write(tmp_path / "index", iter(passages))):
        assert index.search(questions(), 7) == expected
        assert list(index) == passages
        assert len(index) == len(passages)


def test_an_opened_index_is_the_built_one_and_its_texts_are_a_corpus(tmp_path):
    passages = [*drawn(50), Passage("é", 'naïve "東京"\n', "😀 \ud800 half a pair\u2028")]
    written = PassageIndex.write(tmp_path / "index", passages)
    opened = PassageIndex.open(tmp_path / "index")
    assert opened.fingerprint == written.fingerprint == PassageIndex.build(passages).fingerprint
    assert list(opened) == passages == list(read_passages(tmp_path / "index" / "passages.jsonl"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]


def test_the_fingerprint_tells_whatever_decides_results():
    passages = drawn(20)
    fingerprints = {
        PassageIndex.build(passages).fingerprint,
        PassageIndex.build(passages[::-1]).fingerprint,
        PassageIndex.build([passages[0]._replace(text="other"), *passages[1:]]).fingerprint,
        PassageIndex.build(passages, k1=1.2).fingerprint,
        PassageIndex.build(passages, b=0.75).fingerprint,
    }
    assert len(fingerprints) == 5
    assert PassageIndex.build(passages, k1=0.9, b=0.4).fingerprint in fingerprints


def test_many_threads_search_one_index(tmp_path):
    index = PassageIndex.write(tmp_path / "index", drawn())
    asked = questions(200)
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda query: index.search([query], 5)[0], asked))
    assert found == index.search(asked, 5)


def test_a_hostile_query_is_a_query(tmp_path):
    index = PassageIndex.write(
        tmp_path / "index", [Passage("1", "Kiew", "Київ is a city"), Passage("2", "AND", "title")]
    )
    queries = ["the of and", "", "x" * 1_000_000, "w " * 500_000, 'title:"AND" ~2 [a TO b] *', "Київ", "\ud800", "\0"]
    found = index.search(queries, 3)
    assert [[each.passage.id for each in some] for some in found] == [[], [], [], [], ["2"], ["1"], [], []]
    with pytest.raises(ValueError, match="k must be positive, got 0"):
        index.search(["x"], 0)


def test_a_passage_number_out_of_range_is_refused():
    index = PassageIndex.build(drawn(3))
    for number in (-1, 3):
        with pytest.raises(IndexError, match=rf"in \[0, 3\), got {number}"):
            index[number]


def test_nothing_to_index_and_repeated_ids_are_refused_and_leave_nothing_behind(tmp_path):
    with pytest.raises(DataFormatError, match="there is no passage"):
        PassageIndex.write(tmp_path / "index", [])
    passages = drawn(5)
    with pytest.raises(DataFormatError, match=rf"the id '{passages[1].id}': the 2\. and the 6\."):
        PassageIndex.write(tmp_path / "index", [*passages, passages[1]])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_build_leaves_nothing_behind(tmp_path):
    def interrupted():
        yield from drawn(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PassageIndex.write(tmp_path / "index", interrupted())
    assert list(tmp_path.iterdir()) == []


def test_a_build_that_fails_at_its_very_end_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, *_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(type(tmp_path), "rename", full)
    with pytest.raises(OSError, match="no space left"):
        PassageIndex.write(tmp_path / "index", drawn(5))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(tmp_path):
    PassageIndex.write(tmp_path / "index", drawn(5))
    with pytest.raises(FileExistsError, match="index is there already"):
        PassageIndex.write(tmp_path / "index", drawn(6))
    assert len(PassageIndex.open(tmp_path / "index")) == 5


def test_what_a_killed_build_left_is_removed_a_day_later(tmp_path):
    for name, hours in (("old", 25), ("new", 1)):
        left = tmp_path / f".unfinished-{name}"
        left.mkdir()
        then = os.stat(left).st_mtime - hours * 3600
        os.utime(left, (then, then))
    PassageIndex.write(tmp_path / "index", drawn(5))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".unfinished-new", "index"]


FILES = ("passages.jsonl", "offsets.bin", "bm25/documents.bin", "bm25/terms.bin", "bm25/ranks.bin")


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_refused_by_name(tmp_path, name):
    PassageIndex.write(tmp_path / "index", drawn(50))
    path = tmp_path / "index" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexFormatError, match=rf"{name} has [\d,]+ bytes, not [\d,]+: remove .* build it anew"):
        PassageIndex.open(tmp_path / "index")
    path.unlink()
    with pytest.raises(IndexFormatError, match=f"{name} is missing"):
        PassageIndex.open(tmp_path / "index")


def test_a_damaged_record_another_version_and_files_of_two_indices_are_refused(tmp_path):
    folder = tmp_path / "index"
    PassageIndex.write(folder, drawn(50))
    PassageIndex.write(tmp_path / "other", drawn(51))
    record = folder / "passages.json"
    whole = record.read_text()
    for text, problem in (
        (whole[: len(whole) // 2], "is damaged"),
        (whole.replace('"version": 1', '"version": 99'), "version 99, not agentgym_prm.search.passages version 1"),
        (whole.replace('"offsets.bin"', '"../x"'), "is damaged"),
        (whole.replace('"passages": 50', '"passages": 49'), "does not fit the other files"),
        ("[]", "is damaged"),
    ):
        record.write_text(text)
        with pytest.raises(IndexFormatError, match=problem):
            PassageIndex.open(folder)
    record.write_text(whole)
    shutil.rmtree(folder / "bm25")
    with pytest.raises(IndexFormatError, match="no search index in"):
        PassageIndex.open(folder)
    shutil.copytree(tmp_path / "other" / "bm25", folder / "bm25")
    with pytest.raises(IndexFormatError, match="bm25 does not fit the other files"):
        PassageIndex.open(folder)
    with pytest.raises(DataNotFoundError, match=r"there is no passages\.json"):
        PassageIndex.open(tmp_path)


def test_an_altered_text_is_an_error_not_a_passage(tmp_path):
    PassageIndex.write(tmp_path / "index", drawn(5))
    path = tmp_path / "index" / "passages.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"id"', b'{"iX"', 1))
    index = PassageIndex.open(tmp_path / "index")
    with pytest.raises(IndexFormatError, match="the text of passage 0 is damaged"):
        index[0]
    assert index[1] == drawn(5)[1]


@pytest.fixture
def builds(monkeypatch):
    """How often an index was built."""
    counted = []
    build = BM25Index.build.__func__
    monkeypatch.setattr(BM25Index, "build", classmethod(lambda *a, **k: (counted.append(1), build(*a, **k))[1]))
    return counted


def test_a_corpus_is_indexed_once_and_anew_when_its_content_changes(tmp_path, builds):
    corpus, cache = write_corpus(tmp_path / "corpus.jsonl", drawn(50)), tmp_path / "cache"
    first = PassageIndex.of_file(corpus, cache)
    assert PassageIndex.of_file(corpus, cache).fingerprint == first.fingerprint
    os.utime(corpus, (1, 1))  # touched, or copied elsewhere: the content is the same
    moved = shutil.copy(corpus, tmp_path / "copy")
    assert PassageIndex.of_file(moved, cache).fingerprint == first.fingerprint
    assert len(builds) == 1
    changed = [*drawn(49), Passage("last", "other", "words")]
    write_corpus(corpus, changed)
    assert list(PassageIndex.of_file(corpus, cache)) == changed
    assert len(builds) == 2
    assert list(first) == drawn(50)  # what was opened before stays


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTGYM_PRM_CACHE", str(tmp_path / "there"))
    PassageIndex.of_file(write_corpus(tmp_path / "corpus.jsonl", drawn(5)))
    (folder,) = (path for path in (tmp_path / "there" / "search").iterdir() if path.name != "hashes")
    assert len(PassageIndex.open(folder)) == 5


def test_paragraphs_and_pages_of_one_file_are_two_indices(tmp_path):
    corpus = tmp_path / "pages.jsonl"
    corpus.write_text(json.dumps({"wikipedia_id": "1", "wikipedia_title": "A", "text": ["A\n", "b\n", "c\n"]}) + "\n")
    assert len(PassageIndex.of_file(corpus, tmp_path / "cache")) == 1
    assert [passage.id for passage in PassageIndex.of_file(corpus, tmp_path / "cache", split_pages=True)] == [
        "1-1",
        "1-2",
    ]


def test_a_damaged_index_in_the_cache_is_built_anew(tmp_path, builds, caplog):
    corpus, cache = write_corpus(tmp_path / "corpus.jsonl", drawn(50)), tmp_path / "cache"
    PassageIndex.of_file(corpus, cache)
    (path,) = cache.glob("search/*/passages.jsonl")
    path.write_bytes(path.read_bytes()[:-1])
    assert list(PassageIndex.of_file(corpus, cache)) == drawn(50)
    assert len(builds) == 2
    assert "passages.jsonl has" in caplog.text


def test_a_repeated_id_in_a_corpus_is_refused_with_both_lines(tmp_path):
    passages = drawn(5)
    corpus = write_corpus(tmp_path / "corpus.jsonl", passages)
    corpus.write_text("\n" + corpus.read_text() + "\n" + json.dumps(passages[2]._asdict()))
    with pytest.raises(DataFormatError, match=rf"corpus\.jsonl, line 8: id '{passages[2].id}' is that of line 4"):
        PassageIndex.of_file(corpus, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache" / "search").iterdir()] == ["hashes"]


def test_equal_hashes_of_different_ids_are_no_repeat(monkeypatch):
    monkeypatch.setattr(passages_module, "hash", len, raising=False)
    assert len(PassageIndex.build([Passage(name, "", "x") for name in ("a", "b", "cc")])) == 3
    with pytest.raises(DataFormatError, match=r"id 'b': the 2\. and the 4\."):
        PassageIndex.build([Passage(name, "", "x") for name in ("a", "b", "cc", "b")])


def test_a_process_that_was_faster_is_no_error(tmp_path, monkeypatch):
    corpus, cache = write_corpus(tmp_path / "corpus.jsonl", drawn(20)), tmp_path / "cache"
    write = PassageIndex.write.__func__

    def slow(cls, folder, passages, **settings):
        write(cls, folder, drawn(20))  # the other one
        return write(cls, folder, passages, **settings)

    monkeypatch.setattr(PassageIndex, "write", classmethod(slow))
    assert len(PassageIndex.of_file(corpus, cache)) == 20


def test_a_missing_corpus_is_named(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no corpus .*missing"):
        PassageIndex.of_file(tmp_path / "missing", tmp_path / "cache")


def test_progress_shows_only_when_it_takes_a_while(tmp_path, monkeypatch, capsys):
    corpus = write_corpus(tmp_path / "corpus.jsonl", drawn(50))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    PassageIndex.of_file(corpus, tmp_path / "cache")
    assert capsys.readouterr().err.strip() == ""
    monkeypatch.setattr(passages_module, "SILENT_S", 0)
    PassageIndex.of_file(corpus, tmp_path / "another")
    assert "indexing corpus.jsonl" in capsys.readouterr().err
