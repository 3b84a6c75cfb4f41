import copy
import pickle
import sys
from types import ModuleType, SimpleNamespace

import pytest

from agentgym_prm.envs.webshop import nouns
from agentgym_prm.envs.webshop.nouns import RuleNouns, SpacyNouns, noun_function
from agentgym_prm.errors import MissingDependencyError, UnknownNameError


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Acme Soft Cotton Shirt", ["acme", "soft", "cotton", "shirt"]),
        ("Table for the Living Room, with Lamp & Chair", ["table", "living", "room", "lamp", "chair"]),
        ("Men's and WOMEN’S Shirts", ["men", "women", "shirts"]),
        ("Gluten-Free Bar (Pack of 12)", ["gluten", "free", "bar", "pack"]),
        ("12oz 5x7 3PCS 2 4K GS2900 100%", ["oz", "pcs", "gs2900"]),
        ("Shirt shirt SHIRT", ["shirt", "shirt", "shirt"]),
        ("Café für Mäuse 日本 кофе", ["café", "für", "mäuse", "日本", "кофе"]),
        ("snake_case <b>Bold</b>\x00\n\t", ["snake", "case", "b", "bold", "b"]),
        ("with for 2 of the", []),
        ("", []),
    ],
)
def test_the_rule_takes_all_but_function_words_and_numbers(title, expected):
    assert RuleNouns()(title) == expected


def test_auto_is_the_rule_where_no_model_is_installed(monkeypatch):
    monkeypatch.setattr(nouns, "find_spec", lambda name: None)
    assert noun_function().name == "rule"
    assert noun_function("rule").name == "rule"
    with pytest.raises(MissingDependencyError, match="spacy download en_core_web_sm"):
        noun_function("spacy")
    # spaCy alone is not enough.
    monkeypatch.setattr(nouns, "find_spec", lambda name: name == "spacy" or None)
    assert noun_function().name == "rule"


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'spacy'"):
        noun_function("spacey")


@pytest.fixture
def fake_spacy(monkeypatch):
    """A spaCy whose model tags by the first letter; returns the titles it was asked about."""
    asked = []
    tags = {"n": "NOUN", "p": "PROPN", "a": "ADJ", "v": "VERB"}

    def load(model, exclude):
        assert "tagger" not in exclude

        def tag(title):
            asked.append(title)
            return [SimpleNamespace(text=word, pos_=tags[word[0].lower()]) for word in title.split()]

        return tag

    module = ModuleType("spacy")
    module.load = load
    monkeypatch.setitem(sys.modules, "spacy", module)
    monkeypatch.setattr(nouns, "find_spec", lambda name: name in ("spacy", "en_core_web_lg") or None)
    monkeypatch.setattr(nouns, "version", lambda name: "3.8.0")
    nouns._spacy_nouns.cache_clear()
    yield asked
    nouns._spacy_nouns.cache_clear()


def test_spacy_is_taken_where_a_model_is_installed_and_named_with_its_version(fake_spacy):
    for name in ("auto", "spacy"):
        function = noun_function(name)
        assert function.name == "spacy/en_core_web_lg-3.8.0"
    assert noun_function("rule").name == "rule"
    assert function("Nice Pan a Vast Nut") == ["nice", "pan", "nut"]


def test_spacy_tags_each_title_once_and_hands_out_lists_of_ones_own(fake_spacy):
    function = noun_function("spacy")
    function("Pan").append("spoilt")
    assert function("Pan") == ["pan"]
    assert fake_spacy == ["Pan"]


def test_copies_of_a_spacy_function_share_its_model(fake_spacy):
    function = noun_function("spacy")
    assert isinstance(function, SpacyNouns)
    assert copy.deepcopy(function) is function
    assert pickle.loads(pickle.dumps(function)) is function
