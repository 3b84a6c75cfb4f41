import json
import math
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym_prm.errors import DataNotFoundError, IndexFormatError
from agentgym_prm.search import BM25Index, Hit, bm25, building, postings
from agentgym_prm.search.analysis import analyze
from agentgym_prm.search.building import NORM_LENGTHS
from tests.conftest import DATA_VARIABLE, data_path
from tests.search import slow
from tests.search.corpora import CORPORA, digest

HERE = Path(__file__).parent
WORDS = ("red", "blue", "shoes", "shoe", "run", "running", "size", "the", "of", "7.5", "wide", "é")
texts = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join)


def numbers(hits: list[Hit]) -> list[int]:
    return [hit.document for hit in hits]


def drawn_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of words of which few are frequent and many rare."""
    draw = random.Random(seed)
    words = [f"w{number}" for number in range(400)]
    weights = [1 / (number + 1) for number in range(400)]
    return [" ".join(draw.choices(words, weights, k=draw.randint(0, 80))) for _ in range(count)]


@pytest.fixture(params=["compiled", "numpy"])
def way(request, monkeypatch):
    """Both ways to search, one after the other."""
    if request.param == "numpy":
        monkeypatch.setattr(bm25, "_kernel", lambda: None)
    else:
        pytest.importorskip("numba", reason="numba is not installed: pip install 'agentgym_prm[fast]'")
        monkeypatch.setattr(bm25, "_WORTH_LOADING_S", 0.0)


def test_scores_are_those_computed_by_hand(way):
    index = BM25Index.build(["red", "blue"])
    # Length 1 is the mean, so norm = 0.9; idf = ln(1 + 1.5 / 1.5) = ln 2; score = ln 2 (1 - 1 / (1 + 1 / 0.9)).
    assert index.search(["red"], 5) == [[(0, pytest.approx(math.log(2) * (1 - 9 / 19), rel=1e-6))]]
    # A term given twice counts twice.
    assert index.search(["red Reds"], 5)[0][0].score == pytest.approx(2 * math.log(2) * (1 - 9 / 19), rel=1e-6)


def test_lengths_are_rounded_as_lucene_rounds_them():
    assert NORM_LENGTHS.tolist() == json.loads((HERE / "norms.json").read_text())["lengths"]
    assert [slow.rounded_length(length) for length in (39, 40, 41, 57, 1_000_000)] == [39, 40, 40, 56, 983_064]


PARAMETERS = [(0.9, 0.4), (1.2, 0.75), (0.0, 0.5), (2.0, 1.0), (1.5, 0.0), (1e9, 0.4)]  # with the last, scores are 0


@given(st.lists(texts, max_size=30), texts, st.integers(1, 12), st.booleans(), st.sampled_from(PARAMETERS))
def test_the_best_are_those_of_a_literal_count(documents, query, k, named, parameters):
    k1, b = parameters
    names = [f"{number * 7 % 11}" for number in range(len(documents))] if named else None
    index = BM25Index.build(documents, names=names, k1=k1, b=b)
    assert index.search([query], k)[0] == slow.ranking(documents, query, k, names, k1, b)


@pytest.mark.parametrize(("ranking", "counting"), [(0.5, 2), (0.0, 0.0), (0.0, math.inf), (math.inf, 0.0)])
def test_leaving_out_documents_changes_nothing(monkeypatch, ranking, counting):
    monkeypatch.setattr(bm25, "_kernel", lambda: None)
    monkeypatch.setattr(bm25, "_WORTH_RANKING", ranking)
    monkeypatch.setattr(bm25, "_WORTH_COUNTING", counting)
    documents = drawn_texts(600)
    index = BM25Index.build(documents)
    for query in drawn_texts(12, seed=1):
        for k in (1, 10):
            words = " ".join(query.split()[:8])
            assert index.search([words], k)[0] == slow.ranking(documents, words, k)


def test_a_document_that_is_far_ahead_is_found_before_the_rest_is_counted(way):
    # Its own score is the bound that leaves out the three hundred others, which it must not fall under itself.
    documents = ["common plain"] * 300 + ["rare common words"]
    assert BM25Index.build(documents).search(["rare common"], 1)[0] == slow.ranking(documents, "rare common", 1)


@dataclass
class Recorded:
    """Data of a benchmark, and what Lucene made of them (tests/live/lucene_record.py)."""

    documents: list[str]
    names: list[str] | None
    queries: list[str]
    k: int
    lucene: dict[str, Any]


def recorded(name: str) -> Recorded:
    try:
        documents, names, queries, k = CORPORA[name](data_path())
    except FileNotFoundError as error:
        pytest.skip(f"no {error.filename}: let ${DATA_VARIABLE} name the folder that holds it")
    lucene = json.loads((HERE / "rankings.json").read_text())[name]
    assert lucene["k"] == k
    assert len(queries) == len(lucene["rankings"]) > 900
    return Recorded(documents, names, queries, k, lucene)


@pytest.fixture(scope="module", params=list(CORPORA))
def corpus(request):
    return recorded(request.param)


def test_rankings_and_scores_are_those_that_lucene_recorded(corpus, way):
    hits = BM25Index.build(corpus.documents, names=corpus.names).search(corpus.queries, corpus.k)
    rankings = [digest(numbers(found)) for found in hits]
    scores = [digest(np.array([hit.score for hit in found], np.float32).view(np.uint32).tolist()) for found in hits]
    assert rankings == corpus.lucene["rankings"]
    assert scores == corpus.lucene["scores"]


def test_terms_of_all_texts_are_those_that_lucene_recorded(corpus):
    texts = [*corpus.documents, *corpus.queries]
    hundreds = (texts[first : first + 100] for first in range(0, len(texts), 100))
    assert [digest([analyze(text) for text in hundred]) for hundred in hundreds] == corpus.lucene["terms"]


def test_exact_lengths_would_rank_otherwise(monkeypatch):
    # Negative control of the two above: the recorded rankings tell Lucene's rounded lengths from true ones.
    corpus = recorded("webshop")
    monkeypatch.setattr(building, "NORM_LENGTHS", np.unique([len(analyze(text)) for text in corpus.documents]))
    index = BM25Index.build(corpus.documents, names=corpus.names)
    found = [digest(numbers(hits)) for hits in index.search(corpus.queries, corpus.k)]
    assert sum(map(str.__eq__, found, corpus.lucene["rankings"])) < len(found) / 2


def test_equal_scores_come_in_the_order_of_names(way):
    documents = ["red shoe"] * 5
    assert numbers(BM25Index.build(documents).search(["shoes"], 3)[0]) == [0, 1, 2]
    named = BM25Index.build(documents, names=["B2", "B10", "a", "B1", "é"])
    assert numbers(named.search(["shoes"], 4)[0]) == [3, 1, 0, 2]


@pytest.mark.parametrize(
    "query",
    ["", "   ", "the of and", "!?", "\x00\x1b[31m", "_" * 1000, "unknown", "未知", "\ud800"],
)
def test_a_query_without_a_known_term_finds_nothing(query, way):
    assert BM25Index.build(["red shoes", "of the"]).search([query], 10) == [[]]


def test_queries_of_a_million_characters_are_answered(way):
    index = BM25Index.build(["red shoes", "blue"])
    million = ["red " * 250_000, "x" * 1_000_000, "🏽 red ٪ ру 日本 \x00" * 50_000, "red"]
    assert [numbers(hits) for hits in index.search(million, 10)] == [[0], [], [0], [0]]


def test_an_index_of_nothing_finds_nothing(tmp_path, way):
    for folder, documents in (("none", []), ("empty", [""]), ("stop words", ["the", "of"])):
        index = BM25Index.build(documents)
        index.save(tmp_path / folder)
        for same in (index, BM25Index.open(tmp_path / folder)):
            assert (len(same), same.search(["the red"], 3)) == (len(documents), [[]])


def test_documents_are_read_once_and_in_pieces(monkeypatch):
    documents = drawn_texts(200)
    whole = BM25Index.build(documents, names=map(str, range(200)))
    monkeypatch.setattr(building, "_CHUNK", 100)
    monkeypatch.setattr(building, "_REMEMBERED", 10)
    assert BM25Index.build(iter(documents), names=map(str, range(200))).fingerprint == whole.fingerprint


def test_fingerprints_tell_documents_names_and_parameters_apart():
    documents = ["red shoes", "blue shoes"]
    indexes = [
        BM25Index.build(documents),
        BM25Index.build(documents[::-1]),
        BM25Index.build(documents, names="ba"),
        BM25Index.build(documents, b=0.5),
        BM25Index.build([*documents, ""]),
    ]
    assert len({index.fingerprint for index in indexes}) == len(indexes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"k1": -1}, "k1"), ({"k1": math.nan}, "k1"), ({"b": 1.5}, "b must"), ({"names": ["a"]}, "a name for each")],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BM25Index.build(["red", "blue"], **arguments)
    with pytest.raises(ValueError, match="k must be positive, got 0"):
        BM25Index.build(["red"]).search(["red"], 0)


def test_many_distinct_codes_take_wider_ones(tmp_path, monkeypatch):
    # As if 16 bits held 5 values.
    monkeypatch.setattr(postings, "code_dtype", lambda codes: "<u2" if codes <= 5 else "<u4")
    monkeypatch.setattr(building, "code_dtype", postings.code_dtype)
    documents = drawn_texts(50)
    index = BM25Index.build(documents)
    index.save(tmp_path / "index")
    opened = BM25Index.open(tmp_path / "index")
    assert opened._postings.arrays["codes"].dtype == np.uint32
    assert opened.search(["w0 w1 w2"], 5)[0] == slow.ranking(documents, "w0 w1 w2", 5)


def test_a_saved_index_is_mapped_and_finds_the_same(tmp_path):
    documents = drawn_texts(300)
    index = BM25Index.build(documents, names=[f"{number % 7}" for number in range(300)])
    index.save(tmp_path / "index")
    opened = BM25Index.open(tmp_path / "index")
    assert isinstance(opened._postings.arrays["documents"].base, np.memmap)
    queries = drawn_texts(20, seed=2)
    assert opened.search(queries, 10) == index.search(queries, 10)
    assert (opened.fingerprint, len(opened)) == (index.fingerprint, 300)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_the_same_index_may_be_saved_again_and_another_one_may_not(tmp_path):
    BM25Index.build(["red"]).save(tmp_path / "index")
    BM25Index.build(["red"]).save(tmp_path / "index")
    with pytest.raises(FileExistsError, match="holds something else"):
        BM25Index.build(["blue"]).save(tmp_path / "index")
    (tmp_path / "file").write_text("notes")
    with pytest.raises(FileExistsError, match="holds something else"):
        BM25Index.build(["red"]).save(tmp_path / "file")
    assert numbers(BM25Index.open(tmp_path / "index").search(["red"], 1)[0]) == [0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "index"]


def test_saving_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        BM25Index.build(["red"]).save(tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def saved(tmp_path):
    BM25Index.build(["red shoes", "blue shoes"]).save(tmp_path / "index")
    return tmp_path / "index"


def test_damaged_indexes_are_refused_with_what_to_do(saved):
    record = json.loads((saved / "index.json").read_text())
    damages = {
        "codes.bin has 1 bytes, not 8": lambda: (saved / "codes.bin").write_bytes(b"x"),
        "documents.bin is missing": lambda: (saved / "documents.bin").unlink(),
        "starts.bin does not fit": lambda: (saved / "starts.bin").write_bytes(bytes(32)),
        "is damaged": lambda: (saved / "index.json").write_text("{"),
        "version 0, not agentgym_prm": lambda: (saved / "index.json").write_text(json.dumps({**record, "version": 0})),
        "lacks k1": lambda: (saved / "index.json").write_text(json.dumps(record).replace('"k1"', '"K1"')),
    }
    whole = saved.with_name("whole")
    saved.rename(whole)
    for message, damage in damages.items():
        shutil.copytree(whole, saved)
        damage()
        with pytest.raises(IndexFormatError, match=message):
            BM25Index.open(saved)
        shutil.rmtree(saved)


def test_a_folder_without_an_index_is_named(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no search index in .*nowhere"):
        BM25Index.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [name for name in postings._DTYPES if name != "ranks"])
def test_an_index_with_a_file_cut_short_is_refused(saved, name):
    path = saved / f"{name}.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexFormatError, match=rf"{name}.bin has .* bytes, not .*: remove .*, build it anew"):
        BM25Index.open(saved)


def test_one_text_is_not_taken_for_queries():
    with pytest.raises(TypeError, match="queries must be a sequence of texts, got one text"):
        BM25Index.build(["red"]).search("red", 1)


@pytest.mark.parametrize("k", [0, -1])
def test_fewer_than_one_hit_is_refused(k, way):
    with pytest.raises(ValueError, match=f"k must be positive, got {k}"):
        BM25Index.build(["red"]).search(["red"], k)


def test_more_hits_than_documents_are_all_that_match(way):
    index = BM25Index.build(["red", "blue", "red red"])
    assert [numbers(hits) for hits in index.search(["red", "blue", "green"], 10**12)] == [[2, 0], [1], []]


def test_what_other_engines_take_for_syntax_is_text(way):
    index = BM25Index.build(["red and blue shoes", "contents of the red box", "blue"])
    for query, words in [
        ('"red shoes" AND NOT blue^5 ~', "red shoes blue 5"),
        ("contents:red title:(blue* OR +shoes)", "contents:red title blue shoes"),
        ("red [1 TO 5] {a TO b} /x.*/ \\ && || !", "red 1 5 b x"),
    ]:
        (found, plain) = index.search([query, words], 3)
        assert found == plain != []


def test_several_queries_find_what_each_finds_alone(way, monkeypatch):
    index = BM25Index.build(drawn_texts(300))
    queries = ["", *(" ".join(text.split()[:5]) for text in drawn_texts(50, seed=4)), "the"]
    alone = [index.search([query], 7)[0] for query in queries]
    assert index.search(queries, 7) == alone
    monkeypatch.setattr(bm25, "_AT_ONCE", 21)  # three at a time
    assert index.search(queries, 7) == alone
    assert index.search([], 7) == []


def test_threads_share_an_index(way):
    index = BM25Index.build(drawn_texts(500))
    queries = [" ".join(text.split()[:6]) for text in drawn_texts(100, seed=3)]
    alone = index.search(queries, 10)
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(lambda number: index.search([queries[number % 100]], 10)[0], range(1600)))
    assert together == alone * 16
