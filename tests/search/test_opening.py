import gc
import sys

import pytest

from agentgym_prm.errors import DataFormatError, DataNotFoundError, IndexFormatError, MissingDependencyError
from agentgym_prm.search import lucene_passages, opening
from agentgym_prm.search.opening import open_search
from agentgym_prm.search.passages import PassageIndex
from agentgym_prm.search.remote import RemoteSearch
from tests.search.test_passages import drawn, write_corpus


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTGYM_PRM_CACHE", str(tmp_path / "cache"))


def test_a_search_is_returned_as_it_is():
    index = PassageIndex.build(drawn(5))
    assert open_search(index) is index


def test_a_corpus_and_the_folder_of_an_index_are_opened_once_for_all(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    corpus = write_corpus(tmp_path / "corpus.jsonl", drawn(20))
    PassageIndex.write(tmp_path / "index", drawn(10))
    for path, size in ((corpus, 20), (tmp_path / "index", 10)):
        opened = open_search(path)
        assert len(opened) == size
        assert open_search(str(path)) is opened is open_search(f"~/{path.name}")


def test_a_changed_corpus_is_opened_anew_and_what_nobody_uses_is_let_go(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", drawn(20))
    before = open_search(corpus)
    write_corpus(corpus, drawn(21))
    assert len(open_search(corpus)) == 21
    assert len(before) == 20
    del before
    gc.collect()
    assert not opening._opened


def test_an_address_is_that_of_a_server():
    opened = open_search("http://localhost:8000")
    assert isinstance(opened, RemoteSearch)
    assert opened.url == "http://localhost:8000/retrieve"


def test_lucene_is_asked_for_by_name(monkeypatch):
    asked = []
    monkeypatch.setattr(opening, "LucenePassages", lambda name: asked.append(name) or PassageIndex.build(drawn(3)))
    opened = open_search("lucene:wikipedia-kilt-doc")
    assert open_search("lucene:wikipedia-kilt-doc") is opened
    assert asked == ["wikipedia-kilt-doc"]


def test_what_is_nothing_of_these_is_told_what_would_be(tmp_path):
    valid = r"valid are a corpus .*, the folder of an index of passages, http://HOST:PORT .*, or lucene:NAME_OR_FOLDER"
    with pytest.raises(DataNotFoundError, match=f"'wikipedia' is nothing to search in: there is no such file.*{valid}"):
        open_search("wikipedia")
    with pytest.raises(DataNotFoundError, match=rf"the folder holds no passages\.json.*{valid}"):
        open_search(tmp_path)
    (tmp_path / "segments_1").touch()
    with pytest.raises(DataNotFoundError, match=f"holds a Lucene index, which is named lucene:{tmp_path}"):
        open_search(tmp_path)


def test_damage_is_reported_and_not_kept(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("{}\n")
    for _ in range(2):
        with pytest.raises(DataFormatError, match="line 1"):
            open_search(corpus)
    (tmp_path / "passages.json").write_text("{}")
    with pytest.raises(IndexFormatError, match="is damaged"):
        open_search(tmp_path)


# --- Lucene, as far as it goes without Java ---


def test_a_folder_without_a_lucene_index_is_named(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no Lucene index in .*: there is no segments file"):
        open_search(f"lucene:{tmp_path}")


def test_without_pyserini_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyserini.pyclass", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'agentgym_prm\[search\]'"):
        open_search("lucene:wikipedia-kilt-doc")


def test_stored_documents_of_known_forms_are_passages():
    raw = (
        '{"id": "12", "contents": "Cat\\nA cat.\\n", "wikipedia_id": "12", "wikipedia_title": "Cat", "categories": "x"}'
    )
    assert lucene_passages.passage_of_raw("12", raw) == ("12", "Cat", "A cat.\n")
    assert lucene_passages.passage_of_raw("0", '{"id": 0, "contents": "\\"Cat\\"\\nA cat."}') == ("0", "Cat", "A cat.")
    for raw in ("plain text", "[]", '{"id": "0", "body": "x"}', '{"contents": 3}'):
        with pytest.raises(IndexFormatError, match="the document '0' is of no known form"):
            lucene_passages.passage_of_raw("0", raw)


def test_an_unknown_prebuilt_name_proposes_the_nearest():
    known = ["msmarco-v1-passage", "wikipedia-kilt-doc", "wikipedia-dpr-100w"]
    message = lucene_passages._unknown("wikipedia-kilt-docs", known)
    assert message == (
        "unknown Lucene index 'wikipedia-kilt-docs' (did you mean 'wikipedia-kilt-doc'?); prebuilt are, among others, "
        "wikipedia-kilt-doc, wikipedia-dpr-100w"
    )
