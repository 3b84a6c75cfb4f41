import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym_prm.search import analysis
from agentgym_prm.search.analysis import STOP_WORDS, Remembered, analyze, terms, tokenize
from agentgym_prm.search.porter import stem

# Line 1: provenance; then texts with what Lucene made of them (tests/live/lucene_record.py).
PROVENANCE, *RECORDED = map(json.loads, (Path(__file__).parent / "analysis.jsonl").read_text().splitlines())


def test_tokens_are_those_that_lucene_recorded():
    assert PROVENANCE["lucene"] == "9.9.1"
    assert len(RECORDED) > 300
    wrong = [record["text"] for record in RECORDED if tokenize(record["text"]) != record["tokens"]]
    assert wrong == []


def test_terms_are_those_that_lucene_recorded():
    wrong = [record["text"] for record in RECORDED if analyze(record["text"]) != record["terms"]]
    assert wrong == []


def test_recorded_texts_hold_every_class_of_characters_and_overlong_words():
    classes = set("".join(record["text"].translate(analysis._classes()) for record in RECORDED))
    assert classes == set("oqksnmdlauexhtyzcijKrvfRMTE")
    assert any(len(token) == 255 for record in RECORDED for token in record["tokens"])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("red shoes, size 7.5", ["red", "shoes", "size", "7.5"]),
        ("1,000.5 1,a a.b a,b", ["1,000.5", "1", "a", "a.b", "a", "b"]),  # a comma joins digits only
        ("don't 'quoted' it's", ["don't", "quoted", "it's"]),  # an apostrophe joins letters only
        ("1;2 a;b", ["1;2", "a", "b"]),  # and so a semicolon
        ("12:30 a:b", ["12", "30", "a:b"]),  # a colon joins letters only
        ("_a__b_ __ x_1", ["_a__b_", "x_1"]),  # connectors join all, and are no word
        ("easy-to-wear 3/4", ["easy", "to", "wear", "3", "4"]),
        ("東京タワー ひら", ["東", "京", "タワー", "ひ", "ら"]),
        ("👩‍👧 🇩🇪🇫🇷 #️⃣ # ☺", ["👩‍👧", "🇩🇪", "🇫🇷", "#️⃣", "☺"]),
        ("x" * 256, ["x" * 255, "x"]),
        ("😀" + "é" * 256, ["😀", "é" * 255, "é"]),
        ("𝐀" * 128, ["𝐀" * 127, "𝐀"]),  # two UTF-16 units each
    ],
)
def test_words_break_by_the_rules_of_unicode(text, tokens):
    assert tokenize(text) == tokens


def test_terms_lose_possessives_case_and_endings_and_stop_words_are_none():
    assert analyze("The DOG's dogs’ Dog’S shoes aren't THE Cats'") == ["dog", "dog", "dog", "shoe", "aren't", "cat"]
    assert len(STOP_WORDS) == 33
    assert analyze(" ".join(sorted(STOP_WORDS))) == []


def test_case_is_lowered_character_by_character():
    # Python lowers the last sigma of a word to ς and leaves a dot behind of İ.
    assert analyze("ΣΑΣ İSTANBUL") == ["σασ", "istanbul"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        # Examples of the paper, by step
        ("caresses", "caress"), ("ponies", "poni"), ("ties", "ti"), ("cats", "cat"), ("feed", "feed"),
        ("agreed", "agre"), ("plastered", "plaster"), ("bled", "bled"), ("motoring", "motor"), ("sing", "sing"),
        ("conflated", "conflat"), ("sized", "size"), ("hopping", "hop"), ("falling", "fall"), ("hissing", "hiss"),
        ("filing", "file"), ("happy", "happi"), ("sky", "sky"), ("relational", "relat"), ("rational", "ration"),
        ("triplicate", "triplic"), ("hopeful", "hope"), ("revival", "reviv"), ("adoption", "adopt"),
        ("rate", "rate"), ("cease", "ceas"), ("controll", "control"), ("roll", "roll"),
        # Its author's departures, and short words
        ("possibly", "possibl"), ("analogy", "analog"), ("as", "as"), ("𝐀s", "𝐀"),
    ],
)  # fmt: skip
def test_stems_are_porters(word, expected):
    assert stem(word) == expected


ASCII = st.text("aZ09_'.,:; #", max_size=40)


@given(ASCII)
def test_the_short_way_for_ascii_gives_what_the_long_way_gives(text):
    assert tokenize(text) == analysis._scanned(text)


@given(st.one_of(st.text(max_size=60), st.text("aB9 \t\n\x1c\x85\u00a0\u202f\u2028\u3000é_'’.\u0301", max_size=40)))
def test_words_taken_one_by_one_give_the_terms_of_the_text(text):
    assert analyze(text) == [*terms(text)]


@given(st.text(max_size=60))
def test_tokens_are_pieces_of_the_text_in_order(text):
    place = 0
    for token in tokenize(text):
        place = text.index(token, place) + len(token)


def test_a_bounded_number_of_short_words_is_remembered(monkeypatch):
    monkeypatch.setattr(analysis, "_REMEMBERED", 3)
    asked = []
    lengths = Remembered(lambda word: asked.append(word) or len(word))
    assert [lengths[word] for word in ("a", "bb", "a", "x" * 65, "x" * 65, "c", "d", "a")] == [1, 2, 1, 65, 65, 1, 1, 1]
    assert asked == [
        "a",
        "bb",
        "x" * 65,
        "x" * 65,
        "c",
        "d",
        "a",
    ]  # no long word; a 4th has all forgotten


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("_" * 1_000_000, 0),
        ("é" + "_" * 1_000_000 + "a", 2),  # the first letter and 254 connectors; 254 connectors and the last
        ("é" + "\u200d" * 1_000_000, 1),
        ("é " + "_\u0300" * 500_000, 1),
        ("1," * 500_000, 3907),  # 128 digits and the 127 commas between them are 255 units: 500,000 / 128
        ("\x00" * 1_000_000, 0),
    ],
)  # fmt: skip
def test_texts_of_a_million_characters_take_a_moment(text, count):
    # Going through them again from each character would take minutes.
    assert len(tokenize(text)) == count
