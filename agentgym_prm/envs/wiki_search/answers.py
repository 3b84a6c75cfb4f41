"""Whether an answer is right: exact match and F1 as the data sets' official evaluations define them.

They differ in how a text is normalised and in one rule. ``triviaqa`` puts a space in the place of every punctuation
mark, typographic quotes among them; ``squad`` takes ASCII punctuation out without a trace ("U.S." is "us", not "u s");
``hotpotqa`` normalises as ``squad``, but of the answers yes, no and noanswer no part counts for F1. With several
accepted forms the best one counts. TriviaQA's is the default, being made for sets of aliases.
"""

import re
import string
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Final

from agentgym_prm.errors import UnknownNameError

METRICS: Final = ("triviaqa", "squad", "hotpotqa")
"""Whose official evaluation is followed."""
_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_SPACED: Final = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))
_DELETED: Final = str.maketrans(dict.fromkeys(string.punctuation))
_ALL_OR_NOTHING: Final = {"yes", "no", "noanswer"}


def normalised(text: str, metric: str = "triviaqa") -> str:
    """Lower case, punctuation and articles taken out, white space fixed.

    Raises:
        UnknownNameError: ``metric`` is not in ``METRICS``.

    >>> normalised("The  Beatles: 'Help!'")
    'beatles help'
    >>> normalised("the U.S.A."), normalised("the U.S.A.", "squad")
    ('u s', 'usa')
    """
    if metric not in METRICS:
        raise UnknownNameError.of("metric", metric, METRICS)
    punctuation = _SPACED if metric == "triviaqa" else _DELETED
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(punctuation)).split())


def exact_match(answer: str, forms: Iterable[str], metric: str = "triviaqa") -> float:
    """1.0 if the answer equals one of the accepted forms after normalisation, else 0.0."""
    given = normalised(answer, metric)
    return float(any(normalised(form, metric) == given for form in forms))


def f1(answer: str, forms: Iterable[str], metric: str = "triviaqa") -> float:
    """Harmonic mean of precision and recall of the answer's words, against the accepted form where it is highest.

    0.0 where no word is shared; so for two texts without any words, as in the official evaluations.

    >>> f1("the painter Anna Ek", ["Anna Ek"])
    0.8
    """
    given = normalised(answer, metric)
    one = partial(_f1, given, all_or_nothing=_ALL_OR_NOTHING if metric == "hotpotqa" else frozenset())
    return max((one(normalised(form, metric)) for form in forms), default=0.0)


def occurs(forms: Iterable[str], text: str, metric: str = "triviaqa") -> bool:
    """Whether the words of any accepted form stand in a text, in a row."""
    words = f" {normalised(text, metric)} "
    # A form of articles or punctuation alone has no words, and would occur in an empty text.
    return any(f" {form} " in words for form in (normalised(form, metric) for form in forms) if form)


def _f1(given: str, right: str, all_or_nothing: Iterable[str]) -> float:
    if given != right and (given in all_or_nothing or right in all_or_nothing):
        return 0.0
    given_words, right_words = given.split(), right.split()
    shared = sum((Counter(given_words) & Counter(right_words)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(given_words), shared / len(right_words)
    return 2 * precision * recall / (precision + recall)
