"""Claim: the search ranks as Lucene does, document by document, without Java, and a built index opens at once.

    python benchmarks/search.py [--documents webshop 10065 100000] [--engines ours lucene bm25s tantivy]

Reads the folder that ``AGENTGYM_PRM_TEST_DATA`` names: Wikipedia passages and questions (``wiki_search``), WebShop's
1,000 products and people's queries (``webshop``). More passages than there are come from their sentences, shuffled,
with a fifth of the words replaced and two made up. Queries are the questions and five words of each.

``ours``      ``BM25Index``, compiled by numba; of its rates the second is for all queries in one call
``numpy``     the same index without numba
``lucene``    ``LuceneIndex``: Pyserini (extra ``[search]``) and Java 21 or newer
``bm25s``     with its method "lucene", k1 0.9, b 0.4, our terms; compiled by numba where that is installed
``tantivy``   with our terms; its k1 1.2 and b 0.75 are constants

An engine that is not installed is skipped. Each builds and searches in processes of its own, on the same core. ``q/s``
are queries by CPU second of the thread that asks, best of five rounds, ten hits each (fifty in the shop); ``build`` is
CPU seconds of the process; ``MB`` are the peak when building, the peak when searching (mapped pages included), the
files. Agreement with Lucene: the same first hit, the same set of ten, the same order of all hits. ``slope`` is what our
index takes at each size and, extrapolated from the two largest, at 21 million passages, as many as Wikipedia has in
pieces of 100 words.
"""

import argparse
import gzip
import json
import math
import os
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from agentgym_prm.search import BM25Index, SearchIndex, bm25
from agentgym_prm.search.analysis import analyze

DATA = Path(os.environ.get("AGENTGYM_PRM_TEST_DATA", Path(__file__).parents[2] / "shared/data"))
QUESTIONS = (
    "hotpotqa_train_100_distractor", "musique_train_100", "2wiki_matched_to_corpus", "triviaqa_637_aliases",
)  # fmt: skip
NEEDED = {"ours": "numba", "numpy": "numpy", "lucene": "pyserini", "bm25s": "bm25s", "tantivy": "tantivy"}
OURS = ("ours", "numpy")
K1, B = 0.9, 0.4
WIKIPEDIA = 21_000_000
Searcher = Callable[[Sequence[str], int], Sequence[Sequence[int]]]


def lines(name: str) -> Iterator[dict]:
    with gzip.open(DATA / "wiki_search" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def products() -> list[dict]:
    return json.loads(gzip.decompress((DATA / "webshop/lucene_documents_1000.json.gz").read_bytes()))


def texts(corpus: str) -> Iterator[str]:
    """``webshop``, or a number of passages."""
    if corpus == "webshop":
        yield from (product["contents"] for product in products())
        return
    passages = [f"{passage['title']} {passage['text']}" for passage in lines("passages")]
    yield from passages[: int(corpus)]
    sentences = [part for text in passages for part in re.split(r"(?<=[.!?]) ", text) if len(part) > 20]
    words = [word for text in passages for word in text.split()]
    draw = random.Random(0)
    for _ in range(int(corpus) - len(passages)):
        made = " ".join(draw.choices(sentences, k=draw.choice((2, 3, 3, 4, 5, 6)))).split()
        for _ in range(len(made) // 5):
            made[draw.randrange(len(made))] = draw.choice(words)
        for _ in range(2):
            made[draw.randrange(len(made))] = draw.choice(words).strip(".,") + draw.choice(words).lower()[:4]
        yield " ".join(made)


def queries(corpus: str) -> dict[str, list[str]]:
    if corpus == "webshop":
        asked = json.loads(gzip.decompress((DATA / "webshop/goal_query_map.json.gz").read_bytes()))
        return {"people's": [query for found in asked.values() for query in found]}
    questions = list(dict.fromkeys(line["question"] for name in QUESTIONS for line in lines(name)))
    draw = random.Random(0)
    five = [" ".join(draw.sample(words, min(5, len(words)))) for words in map(str.split, questions)]
    return {"questions": questions, "five words": five}


def build(engine: str, corpus: str, folder: Path) -> None:
    names = [product["id"] for product in products()] if corpus == "webshop" else None
    if engine in OURS:
        BM25Index.build(texts(corpus), names=names).save(folder)
    elif engine == "lucene":
        from agentgym_prm.search.lucene import LuceneIndex

        LuceneIndex.build(texts(corpus), folder, names=names)
    elif engine == "bm25s":
        import bm25s

        index = bm25s.BM25(method="lucene", k1=K1, b=B, backend="numba" if find_spec("numba") else "numpy")
        index.index([analyze(text) for text in texts(corpus)], show_progress=False)
        index.save(folder)
    else:
        import tantivy

        folder.mkdir(parents=True)
        writer = tantivy_index(folder).writer(num_threads=1)
        for number, text in enumerate(texts(corpus)):
            writer.add_document(tantivy.Document(number=number, text=" ".join(analyze(text))))
        writer.commit()
        writer.wait_merging_threads()


def tantivy_index(folder: Path):
    import tantivy

    schema = tantivy.SchemaBuilder()
    schema.add_text_field("text", tokenizer_name="whitespace", index_option="freq")
    schema.add_integer_field("number", stored=True)
    return tantivy.Index(schema.build(), path=str(folder))


def searcher(engine: str, folder: Path) -> Searcher:
    if engine in OURS:
        if engine == "numpy":
            bm25._kernel = lambda: None
        return numbers_of(BM25Index.open(folder))
    if engine == "lucene":
        from agentgym_prm.search.lucene import LuceneIndex

        return numbers_of(LuceneIndex(folder))
    if engine == "bm25s":
        import bm25s

        index = bm25s.BM25.load(folder, mmap=True)

        def by_bm25s(query: str, k: int) -> list[int]:
            terms = [term for term in analyze(query) if term in index.vocab_dict]
            if not terms:
                return []
            return index.retrieve([terms], k=k, show_progress=False, return_as="documents")[0].tolist()

        return each(by_bm25s)
    import tantivy

    found = tantivy_index(folder)
    search, schema = found.searcher(), found.schema
    should = tantivy.Occur.Should

    def by_tantivy(query: str, k: int) -> list[int]:
        parts = [(should, tantivy.Query.term_query(schema, "text", term)) for term in analyze(query)]
        hits = search.search(tantivy.Query.boolean_query(parts), limit=k).hits
        return [search.doc(address)["number"][0] for _, address in hits]

    return each(by_tantivy)


def numbers_of(index: SearchIndex) -> Searcher:
    return lambda queries, k: [[hit.document for hit in hits] for hits in index.search(queries, k)]


def each(search: Callable[[str, int], Sequence[int]]) -> Searcher:
    return lambda queries, k: [search(query, k) for query in queries]


def measure(stage: str, engine: str, corpus: str, folder: Path) -> dict:
    start, used = time.perf_counter(), time.process_time()
    if stage == "build":
        build(engine, corpus, folder)
        files = sum(path.stat().st_size for path in folder.rglob("*"))
        return {"build": time.process_time() - used, "build_mb": peak(), "disk_mb": files / 2**20}
    search = searcher(engine, folder)
    opened = time.perf_counter() - start
    k = 50 if corpus == "webshop" else 10
    rates, at_once, hits = {}, {}, {}
    for kind, asked in queries(corpus).items():
        hits[kind] = [list(search([query], k)[0]) for query in asked]
        rates[kind] = best_rate(len(asked), lambda asked=asked: [search([query], k) for query in asked])
        at_once[kind] = best_rate(len(asked), lambda asked=asked: search(asked, k))
    return {"open": opened, "rates": rates, "at_once": at_once, "search_mb": peak(), "hits": hits}


def best_rate(count: int, work: Callable[[], object]) -> float:
    rates = []
    for _ in range(5):
        used = time.thread_time()
        work()
        rates.append(count / (time.thread_time() - used))
    return max(rates)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def agreement(hits: list[list[int]], wanted: list[list[int]]) -> str:
    pairs = list(zip(hits, wanted, strict=True))
    first = sum(a[:1] == b[:1] for a, b in pairs) / len(pairs)
    ten = sum(len({*a[:10]} & {*b[:10]}) / max(len(b[:10]), 1) if b else not a for a, b in pairs) / len(pairs)
    same_ten = sum({*a[:10]} == {*b[:10]} for a, b in pairs) / len(pairs)
    order = sum(a == b for a, b in pairs) / len(pairs)
    return f"first {first:.4f}  ten {same_ten:.4f} (overlap {ten:.4f})  order {order:.4f}"


def run(corpus: str, engines: Sequence[str], folder: Path, slopes: dict[int, tuple[float, ...]]) -> None:
    wanted: dict[str, list[list[int]]] = {}
    # Lucene first: the others are held against it
    for engine in sorted(engines, key=lambda engine: engine != "lucene"):
        if not find_spec(NEEDED[engine]):
            print(f"{corpus:>9} {engine:8} skipped: {NEEDED[engine]} is not installed")
            continue
        place = folder / f"{engine}-{corpus}"
        result: dict = {}
        for stage in ("search",) if place.exists() else ("build", "search"):
            command = [sys.executable, __file__, "--stage", stage, "--engines", engine, "--documents", corpus]
            done = subprocess.run([*command, "--folder", str(place)], stdout=subprocess.PIPE, text=True)
            if done.returncode:
                sys.exit(f"{engine} could not {stage} {corpus}")
            result |= json.loads(done.stdout.splitlines()[-1])
        built = "built before"
        if "build" in result:
            built = "build {build:.1f} s, {build_mb:,.0f} MB, files {disk_mb:,.0f} MB".format(**result)
        print(f"{corpus:>9} {engine:8} {built}; open {result['open']:.3f} s, search {result['search_mb']:,.0f} MB")
        for kind, rate in result["rates"].items():
            hits = result["hits"][kind]
            if engine == "lucene":
                wanted[kind] = hits
            compared = agreement(hits, wanted[kind]) if wanted else "Lucene not there to compare with"
            together = f" / {result['at_once'][kind]:,.0f}" if engine == "ours" else ""
            print(f"{'':18} {kind:10} {rate:9,.0f}{together} q/s   {compared}", flush=True)
        if engine == "ours" and corpus != "webshop" and "build" in result:
            slopes[int(corpus)] = (result["build"], result["disk_mb"], *result["rates"].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", nargs="+", default=["webshop", "10065", "100000"])
    parser.add_argument("--engines", nargs="+", default=list(NEEDED), choices=list(NEEDED))
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-search"))
    parser.add_argument("--stage", choices=("build", "search"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(measure(options.stage, options.engines[0], options.documents[0], options.folder)))
        return
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    slopes: dict[int, tuple[float, ...]] = {}
    for corpus in options.documents:
        run(corpus, options.engines, options.folder, slopes)
    if len(slopes) > 1:
        print_slopes(slopes)


def print_slopes(slopes: dict[int, tuple[float, ...]]) -> None:
    """What is measured at each size, and the line through the logarithms of the two largest."""
    (small, first), (large, last) = sorted(slopes.items())[-2:]
    share = math.log(WIKIPEDIA / large) / math.log(large / small)
    beyond = tuple(b * (b / a) ** share for a, b in zip(first, last, strict=True))
    for size, values in [*sorted(slopes.items()), (WIKIPEDIA, beyond)]:
        said = " (extrapolated)" if values is beyond else ""
        build, files, *rates = values
        asked = " / ".join(f"{rate:,.0f}" for rate in rates)
        print(f"slope {size:>12,}{said}: index {build:,.0f} CPU s, files {files:,.0f} MB, {asked} q/s")


if __name__ == "__main__":
    main()
