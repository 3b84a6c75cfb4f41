"""Which words of a product's title are nouns: the reward compares the nouns of two titles.

The original asks spaCy's ``en_core_web_sm``. That model is on no package registry, so there are two functions:

* ``spacy``: the same model (or ``en_core_web_lg``), where spaCy and it are installed;
* ``rule``: every word that is neither a function word (preposition, conjunction, article, pronoun, auxiliary, number
  word) nor a number. Titles are strings of capitalised words, which taggers take for names, so little is left to know.
  What the rule gets wrong are adjectives. How often that changes a reward, ``benchmarks/webshop_nouns.py`` measures.

Which one judged is part of a result: ``name`` goes into ``info``.
"""

import re
from collections.abc import Callable
from functools import cache, cached_property, lru_cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Final, Protocol

from agentgym_prm.errors import MissingDependencyError, UnknownNameError

NOUN_FUNCTIONS: Final = ("auto", "spacy", "rule")
SPACY_MODELS: Final = ("en_core_web_sm", "en_core_web_lg")
_REMEMBERED: Final = 16_384
"""Titles whose nouns are kept; a tagger takes milliseconds for one."""

_FUNCTION_WORDS: Final = frozenset(
    """
    a all am an and any are as at be been both but by can de did do does each either every for from had has have he her
    his how i if in into is it its la me more most my neither no nor not of off on onto or our out over per plus she so
    some than that the their them these they this those to under until up upon us via vs w was we were what when where
    which who whose will with within without you your yours
    zero one two three four five six seven eight nine ten eleven twelve
    """.split()  # noqa: SIM905  a list of 100 strings is harder to read
)
_POSSESSIVE: Final = re.compile(r"['’]s\b", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\W_]+")
_UNIT: Final = re.compile(r"[0-9]+([^\W\d_]{2,})")


class NounFunction(Protocol):
    """Finds the nouns of a title."""

    @property
    def name(self) -> str:
        """What ``info`` and reports call it."""

    def __call__(self, title: str) -> list[str]:
        """The nouns and proper nouns of ``title``, lower-case, with repeats, in order."""


def noun_function(name: str = "auto") -> NounFunction:
    """A noun function by name; ``auto`` takes spaCy where it and a model are installed, else the rule.

    Raises:
        UnknownNameError: No such function.
        MissingDependencyError: ``spacy`` was asked for, and it or a model is not installed.
    """
    if name not in NOUN_FUNCTIONS:
        raise UnknownNameError.of("noun function", name, NOUN_FUNCTIONS)
    model = next((each for each in SPACY_MODELS if find_spec("spacy") and find_spec(each)), None)
    if name == "rule" or (name == "auto" and model is None):
        return RuleNouns()
    if model is None:
        raise MissingDependencyError(
            "spaCy or its English model is not installed: pip install spacy && python -m spacy download "
            f"{SPACY_MODELS[0]} (nouns='rule' needs neither)"
        )
    return _spacy_nouns(model)


class RuleNouns:
    """All words but function words and numbers.

    >>> RuleNouns()("Women's Long-Sleeve Dress with 2 Pockets, 12oz")
    ['women', 'long', 'sleeve', 'dress', 'pockets', 'oz']
    """

    name = "rule"

    def __call__(self, title: str) -> list[str]:
        words = (_without_number(word) for word in _WORD.findall(_POSSESSIVE.sub("", title)))
        return [word for word in map(str.lower, words) if word and word not in _FUNCTION_WORDS]


def _without_number(word: str) -> str:
    """The unit of ``12oz``; nothing of ``12`` or ``5x7``; other words as they are."""
    if not word[0].isdigit():
        return word
    match = _UNIT.fullmatch(word)
    return match[1] if match else ""


class SpacyNouns:
    """What a spaCy model tags as noun or proper noun.

    Args:
        model: Name of an installed model; it is loaded when the first title comes.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self.name = f"spacy/{model}-{version(model)}"
        self._nouns = lru_cache(maxsize=_REMEMBERED)(self._find)

    def __call__(self, title: str) -> list[str]:
        return list(self._nouns(title))

    def _find(self, title: str) -> tuple[str, ...]:
        return tuple(token.text.lower() for token in self._tagger(title) if token.pos_ in ("NOUN", "PROPN"))

    @cached_property
    def _tagger(self) -> Any:
        # Tags depend on neither of the excluded parts.
        return import_module("spacy").load(self._model, exclude=["ner", "lemmatizer"])

    def __reduce__(self) -> tuple[Callable[[str], "SpacyNouns"], tuple[str]]:
        return _spacy_nouns, (self._model,)


@cache
def _spacy_nouns(model: str) -> SpacyNouns:
    return SpacyNouns(model)
