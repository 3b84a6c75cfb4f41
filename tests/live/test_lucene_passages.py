"""Passages found by Lucene itself. Needs the extra [search] and Java 21 or newer (``JAVA_HOME``)."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentgym_prm.errors import DataNotFoundError, IndexFormatError, UnknownNameError
from agentgym_prm.search import lucene_passages
from agentgym_prm.search.lucene import java_class
from agentgym_prm.search.lucene_passages import LucenePassages
from agentgym_prm.search.opening import open_search
from agentgym_prm.search.passages import PassageIndex
from tests.conftest import DATA_VARIABLE, data_path
from tests.search.test_passages import drawn, questions

pytest.importorskip("pyserini", reason="Lucene is not installed: pip install 'agentgym_prm[search]'")
pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore")]

PAGE = {
    "id": "12",
    "contents": "Cat\nA feline animal.\n",
    "wikipedia_id": "12",
    "wikipedia_title": "Cat",
    "categories": "",
}


def written(folder, records, *options):
    """A Lucene index as Pyserini's command makes it."""
    (folder / "texts").mkdir(parents=True)
    (folder / "texts" / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    settings = {"collection": "JsonCollection", "generator": "DefaultLuceneDocumentGenerator", "threads": "1"}
    settings |= {"input": str(folder / "texts"), "index": str(folder / "index")}
    words = [word for name, value in settings.items() for word in (f"-{name}", value)]
    java_class("io.anserini.index.IndexCollection").main([*words, *options])
    return folder / "index"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    records = [{"id": p.id, "contents": f'"{p.title}"\n{p.text}'} for p in drawn(2000)]
    return written(tmp_path_factory.mktemp("lucene"), [*records, PAGE], "-storeRaw")


def test_lucene_finds_the_passages_that_our_index_finds_and_gives_them_back_whole(index):
    lucene, ours = open_search(f"lucene:{index}"), PassageIndex.build(drawn(2000))
    assert len(lucene) == 2001
    found = lucene.search(questions(200), 10)
    # One page more changes the statistics, not the order.
    assert [[e.passage for e in some] for some in found] == [
        [e.passage for e in some] for some in ours.search(questions(200), 10)
    ]
    assert lucene.search(["feline"], 3)[0][0].passage == ("12", "Cat", "A feline animal.\n")


def test_pages_of_kilt_are_indexed_as_pyserini_indexes_them(tmp_path):
    corpus = data_path() / "wiki_search" / "kilt_pages_100.jsonl.gz"
    if not corpus.is_file():
        pytest.skip(f"no {corpus}: let ${DATA_VARIABLE} name the folder that holds wiki_search/")
    pages = [*map(json.loads, gzip.decompress(corpus.read_bytes()).splitlines())]
    records = [
        {"id": page["wikipedia_title"], "contents": "".join(page["text"]), "wikipedia_title": page["wikipedia_title"]}
        for page in pages
    ]
    lucene = LucenePassages(written(tmp_path / "kilt", records, "-storeRaw"))
    ours = PassageIndex.of_file(corpus, tmp_path / "cache")
    asked = [" ".join(page["text"][1].split()[5:13]) for page in pages]
    for mine, theirs in zip(ours.search(asked, 5), lucene.search(asked, 5), strict=True):
        assert [each.passage for each in mine] == [each.passage for each in theirs]
        assert [each.score for each in mine] == pytest.approx([each.score for each in theirs], abs=1e-4)


def test_many_threads_search_in_lucene(index):
    lucene = LucenePassages(index)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda query: lucene.search([query], 5)[0], questions())) == lucene.search(questions(), 5)


def test_a_hostile_query_is_a_query(index):
    queries = ["", "the of", "\ud800", "\0", 'title:"x" AND [a TO *', "w1 " * 20_000]
    assert [len(found) for found in LucenePassages(index).search(queries, 2)] == [0, 0, 0, 0, 0, 2]


def test_an_index_without_documents_or_with_others_is_refused(tmp_path):
    with pytest.raises(IndexFormatError, match="does not keep its documents: index them with -storeRaw"):
        LucenePassages(written(tmp_path / "bare", [PAGE]))


def test_a_prebuilt_index_is_resolved_by_name(index, monkeypatch):
    monkeypatch.setattr(lucene_passages, "_download", {"wikipedia-kilt-doc": str(index)}.__getitem__)
    assert len(LucenePassages("wikipedia-kilt-doc")) == 2001
    with pytest.raises(UnknownNameError, match=r"did you mean 'wikipedia-kilt-doc'\?.*or give the folder"):
        LucenePassages("wikipedia-kilt-docs")

    def offline(name):
        raise ValueError("Unable to download prebuilt index at any known URLs.")

    monkeypatch.setattr(lucene_passages, "_download", offline)
    with pytest.raises(
        DataNotFoundError, match="the prebuilt index wikipedia-kilt-doc could not be downloaded: Unable"
    ):
        LucenePassages("wikipedia-kilt-doc")
