"""Records what Lucene makes of texts and queries, for ``tests/search`` to replay without Java.

    python -m tests.live.lucene_record

Needs the extra [search], Java 21 or newer (``JAVA_HOME``) and the benchmarks' data (``AGENTGYM_PRM_TEST_DATA``). Writes
``analysis.jsonl`` (texts with Lucene's tokens and terms), ``norms.json`` (the lengths of its one-byte form) and
``rankings.json`` (digests of its terms, rankings and scores on the data, none of which is kept) into tests/search, and
the character classes of its scanner into the package.
"""

import itertools
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from agentgym_prm.search.lucene import LuceneIndex, java_class
from tests.conftest import REPOSITORY, data_path
from tests.search.corpora import CORPORA, digest

FOLDER = REPOSITORY / "tests/search"
CLASSES = REPOSITORY / "agentgym_prm/search/word_classes.txt"
# By the number that Lucene's scanner gives a class; equal letters: classes that it treats alike.
LETTERS = "oqksnmdlauexhdtyazcijKrvfRMTE"

WRITTEN = [
    "O'Neil's dogs' tails, the Dog’s TAIL, Dog＇S and rock'n'roll",
    "1,000.5 costs $3.50; 1.000,5 or 12:30 or 3'4 or 5-inch or 5inch x1.y2 a.b:c 1.a a.1",
    "snake_case __init__ _ __ a__b 1_000 _'_ end_",
    "naïve café CAFÉ İstanbul ILIK ılık ΣΑΣ ὈΔΥΣΣΕΎΣ straße ŒUVRE ŉ ǅ",
    "e\u0301clair a\u0308\u0323b \u0301x soft\u00adhyphen zero\u200bwidth word\u2060joiner non\u00a0breaking",
    "東京タワーへ行く ひらがな カタカナ・ダブル ﾊﾝｶｸ ＦＵＬＬ１２３ 한국어 글자 𠀀𠀁",
    "שלום ג'ורג' צה״ל צה\"ל א'ב\"ג العربية ١٢٣٫٤ हिन्दी ไทยแลนด์ ภาษา မြန်မာ",
    "👍 👍🏽 👩‍👩‍👧‍👦 🇩🇪🇫🇷🇬 1️⃣ #️⃣ *⃣ ❤️ ❤ ✈️x ☺︎ ©2020 ™ ® 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ℹ️ Ⓜ️ ℹ\u200d😀a ☺️\u200d🏽 ☺️\u200d\u200d🏽",
    "a" * 255 + " " + "b" * 256 + " " + "c" * 700 + " " + "_" * 300 + "d",
    "é" * 254 + "😀" + "𝐀" * 200 + " " + "ab'" * 100,
    "tab\tnew\nline\r\nnull\x00bell\x07 del\x7f nel\x85 bom\ufeff private\ue000 unassigned\u0378",
    "The Quick BROWN fox: it's a test (of) [brackets] {and} <tags> http://www.example.com/a?b=c me@here.com C++ .NET",
    "such That THEIR will with was this to no not or such", "", " ", "'s", "s's ss's", "x’s y‘s z's' 's's",
    "possibly analogy ornithology generalizations oscillators hopping hoping controlled rolling skies dies is as sky",
]  # fmt: skip
ROOTS = ("a", "b", "y", "ay", "tr", "oo", "hop", "fall", "agree", "relat", "vietnam", "sky", "gas", "fizz", "possib")
ENDINGS = (
    "", "s", "es", "ies", "sses", "ed", "eed", "ing", "y", "ational", "tional", "enci", "anci", "izer", "bli", "abli",
    "alli", "entli", "eli", "ousli", "ization", "ation", "ator", "alism", "iveness", "fulness", "ousness", "aliti",
    "iviti", "biliti", "logi", "icate", "ative", "alize", "iciti", "ical", "ful", "ness", "al", "ance", "ence", "er",
    "ic", "able", "ible", "ant", "ement", "ment", "ent", "sion", "tion", "ion", "ou", "ism", "ate", "iti", "ous", "ive",
    "ize", "e", "ll", "lle",
)  # fmt: skip


def drawn(classes: np.ndarray, count: int) -> Iterator[str]:
    """Texts of characters from a few classes each, some of them very long words."""
    draw = random.Random(0)
    classes = np.where((np.arange(0x110000) & ~0x7FF) == 0xD800, -1, classes)  # halves of pairs
    groups = [np.flatnonzero(classes == number).tolist() for number in range(len(LETTERS))]
    for number in range(count):
        some = draw.sample(groups, draw.randint(1, 8))
        repeats = (1, 1, 1, 1, 2, 3, *((100, 253) if number % 60 == 0 else ()))
        length = draw.choice((3, 6, 12, 25))
        yield "".join(chr(draw.choice(draw.choice(some))) * draw.choice(repeats) for _ in range(length))


def scanner_classes() -> np.ndarray:
    """The class of each code point in the compiled scanner, shape ``(0x110000,)``."""
    scanner = java_class("java.lang.Class").forName("org.apache.lucene.analysis.standard.StandardTokenizerImpl")
    read = java_class("org.apache.commons.lang3.reflect.FieldUtils").readStaticField
    top, blocks = (np.array(read(scanner, f"ZZ_CMAP_{name}", True)) for name in ("TOP", "BLOCKS"))
    points = np.arange(0x110000)
    return blocks[top[points >> 8] | (points & 255)]


def class_lines(classes: np.ndarray) -> Iterator[str]:
    yield "# Classes of code points in Lucene's StandardTokenizer: word break properties of Unicode 9.0, emoji of 11.0."
    yield "# Read off its compiled scanner by tests/live/lucene_record.py. A line: letter, then ranges in hexadecimal."
    letters = np.array(list(LETTERS))[classes]
    starts = np.flatnonzero(np.concatenate([[True], letters[1:] != letters[:-1]])).tolist()
    spans: dict[str, list[str]] = {}
    for first, end in itertools.pairwise([*starts, len(letters)]):
        span = f"{first:X}" if end == first + 1 else f"{first:X}-{end - 1:X}"
        spans.setdefault(str(letters[first]), []).append(span)
    for letter in sorted(set(LETTERS) - {"o"}):
        yield " ".join([letter, *spans[letter]])


def analyzers() -> tuple[Callable[[str], list[str]], Callable[[str], list[str]]]:
    """Lucene's tokens and its terms of a text."""
    utilities = java_class("io.anserini.analysis.AnalyzerUtils")
    english = java_class("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
    builder = java_class("org.apache.lucene.analysis.custom.CustomAnalyzer").builder()
    standard = builder.withTokenizer("standard", java_class("java.util.HashMap")()).build()
    return (
        lambda text: list(utilities.analyze(standard, text).toArray()),
        lambda text: list(utilities.analyze(english, text).toArray()),
    )


def rankings(documents: Sequence[str], names: Sequence[str] | None, queries: Sequence[str], k: int) -> dict[str, Any]:
    """Digests of the best ``k`` documents of each query, and of their scores as Lucene computes them."""
    from pyserini.pyclass import cast

    with tempfile.TemporaryDirectory() as folder:
        LuceneIndex.build(documents, f"{folder}/index", names=names)
        path = java_class("java.nio.file.Paths").get(f"{folder}/index")
        reader = java_class("org.apache.lucene.index.DirectoryReader").open(
            java_class("org.apache.lucene.store.FSDirectory").open(path)
        )
        searcher = java_class("org.apache.lucene.search.IndexSearcher")(
            cast("org.apache.lucene.index.IndexReader", reader)
        )
        searcher.setSimilarity(java_class("org.apache.lucene.search.similarities.BM25Similarity")(0.9, 0.4))
        english = java_class("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
        bag = java_class("io.anserini.search.query.BagOfWordsQueryGenerator")()
        field, kinds = (java_class(f"org.apache.lucene.search.SortField{name}") for name in ("", "$Type"))
        order = java_class("org.apache.lucene.search.Sort")(field.FIELD_SCORE, field("id", kinds.STRING_VAL))
        stored = reader.storedFields()
        numbers = [int(stored.document(place).get("id").partition(":")[2]) for place in range(reader.maxDoc())]
        found, scores = [], []
        for query in queries:
            hits = searcher.search(bag.buildQuery("contents", english, query), k, order, True).scoreDocs
            found.append(digest([numbers[hit.doc] for hit in hits]))
            scores.append(digest(np.array([hit.score for hit in hits], np.float32).view(np.uint32).tolist()))
        reader.close()
    return {"k": k, "rankings": found, "scores": scores}


def main() -> None:
    classes = scanner_classes()
    CLASSES.write_text("\n".join(class_lines(classes)) + "\n", encoding="ascii")
    system = java_class("java.lang.System")
    provenance = {
        "recorded_by": "python -m tests.live.lucene_record",
        "lucene": str(java_class("org.apache.lucene.util.Version").LATEST.toString()),
        "pyserini": version("pyserini"),
        "java": system.getProperty("java.version"),
    }
    tokens, terms = analyzers()
    words = (" ".join(root + ending for ending in ENDINGS) for root in ROOTS)
    with (FOLDER / "analysis.jsonl").open("w", encoding="ascii") as file:
        file.write(json.dumps(provenance) + "\n")
        for text in (*WRITTEN, *words, *drawn(classes, 300)):
            file.write(json.dumps({"text": text, "tokens": tokens(text), "terms": terms(text)}) + "\n")
    small_float = java_class("org.apache.lucene.util.SmallFloat")
    norms = [small_float.byte4ToInt(code - 256 if code > 127 else code) for code in range(256)]
    (FOLDER / "norms.json").write_text(json.dumps({**provenance, "lengths": norms}) + "\n")
    record: dict[str, Any] = dict(provenance)
    for name, read in CORPORA.items():
        documents, names, queries, k = read(data_path())
        record[name] = rankings(documents, names, queries, k)
        texts = [*documents, *queries]
        record[name]["terms"] = [
            digest([terms(text) for text in texts[first : first + 100]]) for first in range(0, len(texts), 100)
        ]
    (FOLDER / "rankings.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
