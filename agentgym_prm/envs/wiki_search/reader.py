"""A heuristic that searches and answers from texts alone, for any question in English.

It looks for the part of the question that describes something by a name (``the author of Silent Door``), searches for
the name, puts the best-matching piece of what it finds in the place of that part, and goes on with the question that
results (``Where was Mara Velin born?``) until there is nothing to be replaced. Of two names that are compared it looks
up both. It keeps nothing but what it was told, and draws nothing.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Self

from agentgym_prm.envs.wiki_search.moves import Answer, Malformed, Search
from agentgym_prm.envs.wiki_search.spans import (
    ANY,
    NAME,
    NOUN,
    NUMBER,
    OCCUPATION,
    PERSON,
    TIME,
    Sentence,
    Span,
    best_span,
    content_words,
    names_in,
    related,
    sentences,
)
from agentgym_prm.envs.wiki_search.word_lists import ENGLISH
from agentgym_prm.search.porter import stem

MAX_SEARCHES: Final = 4
UNKNOWN: Final = "unknown"
"""Its answer if nothing that was found could be one."""

_AUXILIARIES: Final = frozenset(ENGLISH["auxiliaries"])
_LOWER: Final = frozenset(ENGLISH["lower"])
_COMPARATIVES: Final = _LOWER | frozenset(ENGLISH["comparatives"])
_TYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(ENGLISH["kinds"], NOUN),
    **dict.fromkeys(ENGLISH["numbers"], NUMBER),
    **dict.fromkeys(("occupation", "profession", "living"), OCCUPATION),
    **dict.fromkeys(ENGLISH["places and things"], NAME),
    **dict.fromkeys(ENGLISH["persons"], PERSON),
    **dict.fromkeys(("year", "date", "century", "decade"), TIME),
}
_ASKED: Final = re.compile(r"\b(?:who|whom|whose|where|when|how|what|which)\b")
_WANTED: Final = {"who": PERSON, "whom": PERSON, "whose": PERSON, "where": NAME, "when": TIME, "how": NUMBER}
_NEAR: Final = 6
"""So many words after ``what`` or ``which`` tell the type of the answer."""
_LONGEST: Final = 2000
"""So many characters of a question are read."""
_HOPS: Final = 4
_ENOUGH: Final = 0.5
"""So much of the words asked for has to stand in the sentence of an answer before it is given without a doubt."""
_SAID_BY_TYPE: Final = frozenset(ENGLISH["said by type"])
_INSIDE_NAMES: Final = ("of", "for", "by", "at", "where", "that", "which", "who", "and")
_PREPOSITIONS: Final = ("of", "at", "by")
_GEOGRAPHIC: Final = frozenset(ENGLISH["geographic"])
_OF_BEFORE: Final = re.compile(r"\bthe (?:[\w-]+ ){1,4}(?:of|at|by) $")
_IS_IN: Final = re.compile(r" (?:is|was|were|are|came|comes) (?:[a-z]+ )?(?:from|in|of|on|at)\b")
_APPOSITION: Final = re.compile(r"\bthe [\w-]+ $")
_POSSESSIVE: Final = re.compile(
    r"((?:the )?(?:[A-Z][\w-]*)(?: (?:of |the |of the )?[A-Z][\w-]*)*)['’]s? ((?:[a-z-]+ ){0,2}?)([a-z]+)\b"
)
_LINK: Final = (
    r"of|where|that|who|which|whom|from which|in which|to whom|after whom|in whose honour|for which|on which|at|by"
)
_DESCRIPTION: Final = re.compile(
    rf"\bthe (?P<head>(?:(?!the\b)[a-zé][\w-]*(?:'s)? ){{1,5}}?)(?:(?P<link>{_LINK}) |(?=[A-Z]))(?P<rest>.*)", re.DOTALL
)
_VERB: Final = re.compile(
    r"(?: (?:is|was|are|were|has been|did|does))?(?: [a-z]+(?:ed|n|t|s|e|d)\b)?(?: (?:from|by|on|in|for|to|at))?"
)


class _Part(NamedTuple):
    """What is to be found next: a description in the question, or all that it asks."""

    start: int
    end: int
    wanted: str
    """Type of what is to be found."""
    names: tuple[str, ...]
    """That it is described by."""
    words: tuple[str, ...]
    """Content words that it is described by."""
    is_whole: bool


class _Comparison(NamedTuple):
    """Of two names, which one, or whether they have something in common."""

    names: tuple[str, str]
    is_choice: bool
    lower: bool
    """The one with the lower value is meant."""
    wanted: str
    """Type of what is compared; empty: whether what is said is true of both."""
    words: tuple[str, ...]


class Reader:
    """Told the question and what every move brought; ``choose`` says what it would do next.

    Results may be any text; they are read best as passages with an empty line between them and the title on the first
    line of each.

    Args:
        question: In English.
        max_searches: After so many it answers.

    Raises:
        ValueError: ``max_searches`` is negative.
    """

    def __init__(self, question: str, *, max_searches: int = MAX_SEARCHES) -> None:
        if max_searches < 0:
            raise ValueError(f"max_searches must be at least 0, got {max_searches}")
        self._question = _POSSESSIVE.sub(_with_of, " ".join(question.split())[:_LONGEST])
        self._max_searches = max_searches
        self._searched: list[str] = []
        self._found: list[Sentence] = []

    @classmethod
    def begin(cls, question: str, *, max_searches: int = MAX_SEARCHES) -> Self:
        """A reader that has seen the question alone."""
        return cls(question, max_searches=max_searches)

    def observe(self, move: Search | Answer | Malformed, result: str) -> None:
        """Take note of what a move brought, whoever chose it."""
        if isinstance(move, Search):
            self._searched.append(_key(move.query))
            self._found += sentences(result)

    def choose(self) -> Search | Answer:
        """The next move; a function of what was observed."""
        if compared := _compared(self._question):
            return self._compare(compared)
        question = self._question
        for _ in range(_HOPS):
            part = _innermost(question)
            if self._is_new(query := _query(part, question)):
                return Search(query)
            span = best_span(self._found, part.wanted, part.names, part.words, question)
            if part.is_whole or not span.text:
                return self._answer(span, question)
            question = question[: part.start] + span.text + question[part.end :]
        return self._answer(Span("", 0.0, 0.0), question)

    def _answer(self, span: Span, question: str) -> Search | Answer:
        """The span, if its sentence tells enough of what is asked; else what other searches bring."""
        if span.text and span.told >= _ENOUGH:
            return Answer(span.text)
        if self._is_new(question):
            return Search(question)
        part = _whole(question)
        bridge = best_span(self._found, NAME, part.names, part.words, self._question).text
        if bridge and self._is_new(bridge):
            return Search(bridge)
        for wanted in (part.wanted, ANY):
            if found := best_span(self._found, wanted, part.names, part.words, question).text:
                return Answer(found)
        return Answer(UNKNOWN)

    def _is_new(self, query: str) -> bool:
        return len(self._searched) < self._max_searches and _key(query) not in self._searched

    def _compare(self, compared: _Comparison) -> Search | Answer:
        for name in compared.names:
            if self._is_new(name):
                return Search(name)
        wanted, words = compared.wanted or ANY, compared.words
        asked = " and ".join(compared.names)
        one, other = (best_span(self._found, wanted, (name,), words, asked).text for name in compared.names)
        if compared.is_choice:
            values = [_value(text) for text in (one, other)]
            takes_second = values[0] != values[1] and (values[0] < values[1]) != compared.lower
            return Answer(compared.names[takes_second])
        if compared.wanted:
            return Answer("yes" if _key(one) == _key(other) else "no")
        return Answer("yes" if all(self._is_said(name, words) for name in compared.names) else "no")

    def _is_said(self, name: str, words: Sequence[str]) -> bool:
        """Whether what was found about a name holds all these words, or their like."""
        own = [each.text for each in self._found if _key(name) in _key(each.title)]
        stems = {stem(word) for text in own for word in content_words(text)}
        return all(not related(word).isdisjoint(stems) for word in words)


def _key(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _value(text: str) -> float:
    """The number that a span starts with, or the year in it; infinite without one."""
    numbers = re.findall(r"\d{4}|\d[\d,]*", text)
    return float(numbers[-1].replace(",", "")) if numbers else float("inf")


# --- what a question asks ---


def _with_of(match: re.Match[str]) -> str:
    """``Mara Velin's birthplace`` as ``the birthplace of Mara Velin``."""
    owner, adjectives, noun = match.groups()
    return f"the {adjectives}{noun} of {owner}" if _type_of(noun) != ANY else match.group()


def _query(part: _Part, question: str) -> str:
    """The one name that a part rests on, with what the question says that it is; of several names, or none, all."""
    if len(part.names) != 1:
        return question
    described = _before(part.names[0], question)
    return f"{part.names[0]} {described[1]}" if described else part.names[0]


def _before(name: str, question: str) -> re.Match[str] | None:
    """What the question says that a name is: ``the novel`` before it."""
    match = re.search(rf"\bthe ([a-z][\w-]*) {re.escape(name)}", question)
    return None if match is None or match[1] in _INSIDE_NAMES else match


def _innermost(question: str) -> _Part:
    """The last description in a question that rests on a name; all of the question if there is none."""
    starts = [match.start() for match in re.finditer(r"\bthe\b", question)]
    for start in reversed(starts):
        match = _DESCRIPTION.match(question, start)
        if match and (part := _described(question, match)):
            return part
    return _whole(question)


def _described(question: str, match: re.Match[str]) -> _Part | None:
    head = match["head"].split()[-1]
    wanted = _type_of(head)
    names = names_in(match["rest"])
    if wanted not in (PERSON, NAME) or not names:
        return None
    before, _, after = match["rest"].partition(names[0])
    end = match.start("rest") + len(before) + len(names[0])
    if match["link"] is None and not _IS_IN.match(after):
        return None  # "the painter Mara Velin"
    has_verb = any(_type_of(word) == ANY for word in content_words(_APPOSITION.sub("", before)))
    if match["link"] not in _PREPOSITIONS and not has_verb:
        verb = _VERB.match(after)
        end += verb.end() if verb else 0
    outside = question[: match.start()] + question[end:]
    asks = any(
        _type_of(word) not in (PERSON, NAME) or (word in _GEOGRAPHIC and head in _GEOGRAPHIC and word != head)
        for word in content_words(outside)
    )
    asks = asks or bool(_OF_BEFORE.search(question[: match.start()]))
    if not asks and not (question.lower().startswith("where") and match["link"] not in _PREPOSITIONS):
        return None  # all of the question is this description
    words = tuple(word for word in content_words(question[match.start() : end]) if word not in content_words(names[0]))
    return _Part(match.start(), end, wanted, (names[0],), words, is_whole=False)


def _whole(question: str) -> _Part:
    names = tuple(names_in(question))
    of_names = {word for name in names for word in content_words(name)}
    of_names |= _SAID_BY_TYPE | {match[1] for name in names if (match := _before(name, question))}
    words = [word for word in content_words(question) if word not in of_names]
    asked = _ASKED.search(question.lower())
    wanted = ANY
    if asked:
        first, rest = asked.group(), question[asked.end() :].lower()
        wanted = _WANTED.get(first, ANY)
        if first in ("what", "which"):
            run = re.findall(r"\w+", rest)[:_NEAR]
            wanted = next((found for word in run if (found := _type_of(word)) != ANY), ANY)
    return _Part(0, len(question), wanted, names, tuple(words), is_whole=True)


def _type_of(noun: str) -> str:
    noun = noun if noun in _TYPES else noun.removesuffix("s")
    return _TYPES.get(noun, ANY)


def _compared(question: str) -> _Comparison | None:
    lower = question.lower()
    is_choice = " or " in lower
    asks_whether = lower.split(" ", 1)[0] in _AUXILIARIES
    if not (is_choice or asks_whether):
        return None
    names = _two_names(question, " or " if is_choice else " and ")
    if names is None:
        return None
    of_names = {word for name in names for word in content_words(name)}
    words = tuple(word for word in content_words(question) if word not in of_names | _COMPARATIVES)
    is_lower = not _LOWER.isdisjoint(re.findall(r"\w+", lower))
    if is_choice:
        counted = {
            "inhabitants",
            "population",
            "area",
            "longer",
            "shorter",
            "larger",
            "smaller",
            "more",
            "fewer",
            "higher",
        }
        wanted = NUMBER if counted & set(re.findall(r"\w+", lower)) else TIME
        return _Comparison(names, True, is_lower, wanted, words)
    same = re.search(r"\bsame (\w+)", lower)
    return _Comparison(names, False, is_lower, _type_of(same.group(1)) if same else "", words)


def _two_names(question: str, between: str) -> tuple[str, str] | None:
    """The two names that are compared; ``None`` if there are not two."""
    place = question.rfind(between) if between == " or " else -1
    if place >= 0:
        before, after = names_in(question[:place]), names_in(question[place + len(between) :])
        return (before[-1], after[0]) if before and after else None
    names = names_in(question)
    if len(names) == 1 and between in names[0]:
        names = names[0].split(between, 1)
    return (names[0], names[1]) if len(names) > 1 else None
