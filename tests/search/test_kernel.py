"""The compiled search beside the same in numpy, which ``test_bm25`` holds against a literal count."""

import random
import subprocess
import sys

import numpy as np
import pytest

from agentgym_prm.search import BM25Index, Hit, bm25
from agentgym_prm.search.postings import fewest_dense, piece_shift
from tests.search import slow

numba = pytest.importorskip("numba", reason="numba is not installed: pip install 'agentgym_prm[fast]'")

SIZE = 9000
"""Documents: two windows and a part of one."""


def texts(size: int, seed: int = 0) -> list[str]:
    """Short ones of words that from a third of them to one holds; every tenth is a copy of another."""
    draw = random.Random(seed)
    words = [f"w{number}" for number in range(3000)]
    weights = [1 / (number + 1) for number in range(3000)]
    made = [" ".join(draw.choices(words, weights, k=draw.randint(0, 12))) for _ in range(size)]
    return [draw.choice(made) if number % 10 == 0 else text for number, text in enumerate(made)]


@pytest.fixture(scope="module")
def documents():
    return texts(SIZE)


@pytest.fixture(scope="module", params=["by number", "by name"])
def index(request, documents):
    names = None if request.param == "by number" else [f"{number * 7919 % 5000}" for number in range(SIZE)]
    return BM25Index.build(documents, names=names)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """The compiled loop searches from the first query on."""
    monkeypatch.setattr(bm25, "_WORTH_LOADING_S", 0.0)


def both(index: BM25Index, queries: list[str], k: int) -> tuple[list[list[Hit]], list[list[Hit]]]:
    """What is found compiled, and what in numpy."""
    compiled = index.search(queries, k)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bm25, "_kernel", lambda: None)
        return compiled, index.search(queries, k)


def test_lists_of_all_densities_are_there(index):
    counts = np.diff(index._postings.arrays["starts"])
    dense = counts[counts >= fewest_dense(SIZE)].tolist()
    assert {piece_shift(count, SIZE) for count in dense} == {6, 7, 8, 9, 10, 11, 12}
    assert counts.min() == 1
    assert len(dense) < len(counts) / 2


@pytest.mark.parametrize("k", [1, 10, 200, 2 * SIZE])
def test_both_ways_find_the_same_in_the_same_order_with_the_same_bits(index, k):
    draw = random.Random(k)
    queries = [" ".join(text.split()[: draw.randint(1, 12)]) for text in texts(200 if k < 200 else 20, seed=5)]
    queries += ["w0", "w0 w0 w0 w1", "w2999 w2998 w2997", "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9"]
    compiled, plain = both(index, queries, k)
    assert compiled == plain
    assert sum(map(len, compiled)) > len(queries) / 2


def test_the_best_of_several_windows_are_those_of_a_literal_count(index, documents):
    names = None if not len(index._ranks) else [f"{number * 7919 % 5000}" for number in range(SIZE)]
    for query in ("w0 w40", "w3 w5 w900", "w1 w1 w2 w30 w200"):
        assert index.search([query], 10)[0] == slow.ranking(documents, query, 10, names)


def test_queries_of_very_many_terms_are_counted(index):
    # More terms than are looked up one by one; a word that all hold besides.
    compiled, plain = both(index, [" ".join(f"w{number}" for number in range(2500)), "w0 " * 5000 + "w7"], 10)
    assert compiled == plain


@pytest.mark.parametrize(("k1", "b"), [(0.0, 0.5), (2.0, 1.0), (1e9, 0.4)])  # with the last, scores are 0
def test_parameters_at_their_ends_change_nothing(k1, b):
    index = BM25Index.build(texts(5000, seed=2), k1=k1, b=b)
    compiled, plain = both(index, [" ".join(text.split()[:5]) for text in texts(40, seed=6)], 10)
    assert compiled == plain


def test_pieces_say_where_they_start_and_what_they_hold(index):
    arrays = index._postings.arrays
    tables = arrays["pieces"].reshape(-1, 4)
    assert len(tables) == arrays["piece_firsts"][-1]
    for place, term in enumerate(arrays["dense_terms"].tolist()[::20]):
        start, end = arrays["starts"][term : term + 2].tolist()
        first = arrays["piece_firsts"][20 * place]
        shift = piece_shift(end - start, SIZE)
        held = arrays["documents"][start:end].tolist()
        counts = arrays["saturations"][arrays["codes"][start:end]].tolist()
        for piece in range(-(-SIZE // 2**shift)):
            inside = [number for number, document in enumerate(held) if document >> shift == piece]
            before = sum(document >> shift < piece for document in held)
            top = max((counts[number] for number in inside), default=1.0)
            bits = {(held[number] % 2**shift) * 64 // 2**shift for number in inside}
            mask = sum(2**bit for bit in bits)
            low, high = mask % 2**32, mask // 2**32
            assert tables[first + piece].tolist() == [before, np.float32(top).view(np.uint32), low, high]


def test_without_numba_the_search_is_numpys():
    code = """
import sys
sys.modules["numba"] = None
from agentgym_prm.search import BM25Index, bm25
print(BM25Index.build(["blue", "red"]).search(["red"], 1)[0][0].document, bm25._kernel())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "1 None\n"


def test_numba_is_loaded_when_numpy_has_searched_for_long_enough_also_within_a_call(index, monkeypatch):
    queries = texts(60, seed=9)
    wanted, in_numpy = both(index, queries, 10)
    calls = []
    found, best = BM25Index._found, BM25Index._best
    monkeypatch.setattr(BM25Index, "_found", lambda *given: calls.append("compiled") or found(*given))
    monkeypatch.setattr(BM25Index, "_best", lambda *given: calls.append("numpy") or best(*given))
    monkeypatch.setattr(bm25, "_WORTH_LOADING_S", 1e9)
    assert index.search(queries, 10) == in_numpy == wanted
    assert calls == ["numpy"] * 60
    calls.clear()
    # No query takes less than a microsecond, nor a thousand times as long.
    monkeypatch.setattr(bm25, "_numpy", bm25._Clock())
    monkeypatch.setattr(bm25, "_WORTH_LOADING_S", 1e-6)
    assert index.search(queries, 10) == wanted
    assert calls == ["numpy", "compiled"]


def test_a_few_searches_load_no_numba(tmp_path):
    code = f"""
import sys
from agentgym_prm.search import BM25Index
BM25Index.build(["blue", "red"]).save({str(tmp_path / "index")!r})
BM25Index.open({str(tmp_path / "index")!r}).search(["red"] * 10, 1)
print("numba" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_a_place_where_nothing_can_be_written_does_without_the_copy_on_disk(monkeypatch):
    from numba.core import caching

    from agentgym_prm.search.kernel import _compiled

    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(lambda number: number + 1)
    assert _compiled()(lambda number: number + 1)(1) == 2
