"""Pieces of text that can be answers, and how well each fits a question: by type, by words around it, by place."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from agentgym_prm.envs.wiki_search.word_lists import ENGLISH
from agentgym_prm.search.analysis import STOP_WORDS
from agentgym_prm.search.porter import stem

NAME: Final = "name"
PERSON: Final = "person"
TIME: Final = "time"
NUMBER: Final = "number"
NOUN: Final = "noun"
OCCUPATION: Final = "occupation"
ANY: Final = "any"

_FUNCTION_WORDS: Final = STOP_WORDS | frozenset(ENGLISH["function words"])
_RELATED: Final = tuple(words for name, words in ENGLISH.items() if name.startswith("related"))
"""Words that tell of the same thing; a word stands with all lines that it is in."""

_SAME_NAME: Final = 1.0
"""What a name loses that has a word of the names of what is asked about: more likely it is another name for it."""
_NO_NAMES: Final = frozenset((*ENGLISH["months"], *ENGLISH["days"]))
_NO_NOUNS: Final = frozenset(ENGLISH["no nouns"])
_OPENING: Final = _FUNCTION_WORDS | frozenset(ENGLISH["opening"])
"""Words that start a sentence, and no name."""
_CAPITAL: Final = r"[A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĪŁŃŇŌŐŘŚŞŠŤŪŮŰŹŻŽ][\w'’.-]*"
_INSIDE: Final = r"(?:of|for|in|on|to|at|and) the|of|for|de|da|di|du|la|le|van|von|der|del|al|without|without a|&"
_BEFORE: Final = 60
"""So many characters before an occupation are looked at."""
_NAME: Final = re.compile(rf"(?:{_CAPITAL}|\d+(?:st|nd|rd|th)\b)(?:,? Jr\.| (?:(?:{_INSIDE}) )?{_CAPITAL}| \d+\b)*")
_MONTH: Final = f"(?:{'|'.join(ENGLISH['months'])})"
_TIME: Final = re.compile(
    rf"\d{{1,2}} {_MONTH},? \d{{4}}|{_MONTH} \d{{1,2}}, ?\d{{4}}|{_MONTH} \d{{4}}|\b[12]\d{{3}}\b"
)
_LIFE: Final = re.compile(rf" ?\((?:[^()]*?[;, ])?({_TIME.pattern}) ?[–-] ?({_TIME.pattern})\)")
_NUMBER: Final = re.compile(
    r"\b\d[\d,]*(?:\.\d+)?\b(?: (?:million|billion|thousand))?"
    r"|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|hundred)\b"
)
_WORD: Final = re.compile(r"[\w'’]+")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])(?<![A-Z]\.)(?<!Jr\.)(?<!Dr\.)(?<!St\.)(?<!Mr\.)\s+(?=[A-Z\"“(0-9])")


class Sentence(NamedTuple):
    """A sentence of a passage."""

    text: str
    title: str
    """First line of the passage."""
    place: int
    """How many sentences of the passage come before it."""


class Span(NamedTuple):
    """A piece of a sentence that may be an answer."""

    text: str
    score: float
    """How well it fits; at least 0."""
    told: float
    """Share of the words asked for that its sentence holds, or their like; 1 if there are none."""


def sentences(results: str) -> list[Sentence]:
    """The sentences of search results: passages are separated by empty lines, the first line of each is its title."""
    found = []
    for block in re.split(r"\n\s*\n", results.strip()):
        title, _, text = block.strip().partition("\n")
        title = title.strip(" \"'“”:")
        if not text:  # no title
            title, text = "", block
        parts = [part for part in _SENTENCE_END.split(" ".join(text.split())) if part]
        if life := _LIFE.search(text):
            parts = [_LIFE.sub("", part) for part in parts]
            parts += [f"{title} was born {life[1]}.", f"{title} died {life[2]}."]
        found += [Sentence(part, title, place) for place, part in enumerate(parts)]
    return found


def content_words(text: str) -> list[str]:
    """The words of a text that are no function words, lower-case, in order."""
    words = [word.strip("'’-").removesuffix("'s").removesuffix("’s") for word in _WORD.findall(text.lower())]
    return [word for word in words if word and word not in _FUNCTION_WORDS]


def names_in(text: str) -> list[str]:
    """Sequences of capitalised words, in order; a function word that only starts a sentence is none."""
    return [name for name, _, _ in _names(text)]


def _names(text: str) -> Iterator[tuple[str, int, int]]:
    for match in _NAME.finditer(text):
        start, name = match.start(), match.group()
        while name and ((first := name.split(" ")[0]).isdecimal() or (first.lower() in _OPENING and first != "The")):
            start, name = start + len(first) + 1, name[len(first) + 1 :]
        name = name.rstrip(".'’-") if not re.search(r"\b[A-Z]\.$", name) else name
        name = name.removesuffix("'s").removesuffix("’s")
        if name.removeprefix("The").strip() and name.split()[0] not in _NO_NAMES and not name[0].isdecimal():
            yield name, start, start + len(name)


@lru_cache(1 << 14)
def related(word: str) -> frozenset[str]:
    """Stems of a word and of others that tell of the same thing."""
    own = stem(word)
    lines = [line for line in _RELATED if own in map(stem, line)]
    return frozenset((own, *(stem(other) for line in lines for other in line)))


def best_span(found: Sequence[Sentence], wanted: str, about: Sequence[str], words: Sequence[str], asked: str) -> Span:
    """The piece of the sentences that fits best; empty, with a score of 0, if there is none of that type.

    Args:
        found: The sentences.
        wanted: The type of the answer.
        about: Names of what is asked about.
        words: Content words that tell what about it.
        asked: The question, whose words cannot be the answer.
    """
    best = Span("", 0.0, 0.0)
    known = _plain(asked)
    name_stems = {stem(word) for name in about for word in content_words(name)}
    for sentence in found:
        starts = [match.start() for match in _WORD.finditer(sentence.text)]
        here = {stem(word): place for place, word in enumerate(_WORD.findall(sentence.text.lower()))}
        matched = [word for word in words if not related(word).isdisjoint(here)]
        fit = _fit(sentence, here, name_stems, matched)
        for text, start in _candidates(sentence.text, wanted):
            if _plain(text) in known:
                continue
            place = bisect_left(starts, start)
            near = _nearness(place, place + len(_WORD.findall(text)) - 1, here, matched)
            score = fit + near + _type_bonus(sentence.text, text, start, wanted)
            if wanted in (NAME, PERSON) and not name_stems.isdisjoint(map(stem, content_words(text))):
                score -= _SAME_NAME
            if score > best.score:
                best = Span(text, score, len(matched) / len(words) if words else 1.0)
    return best


def _plain(text: str) -> str:
    words = _WORD.findall(text.lower())
    return f" {' '.join(words[words[:1] == ['the'] :])} "


def _fit(sentence: Sentence, here: dict[str, int], name_stems: set[str], matched: Sequence[str]) -> float:
    """How well a sentence fits: it, or its title, names what is asked about, and it tells what is asked."""
    title = {stem(word) for word in content_words(sentence.title)}
    fit = 0.0
    if name_stems:
        fit += 2 * len(name_stems & (title | here.keys())) / len(name_stems)
        fit += 2 * len(name_stems & title) / len(name_stems | title)
    exact = [word for word in matched if stem(word) in here]
    return fit + 1.5 * len(matched) + 0.3 * len(exact) - 0.02 * sentence.place


def _nearness(place: int, last: int, here: dict[str, int], words: Sequence[str]) -> float:
    """The nearer the words that were asked for are to these places, the better; those before them count more."""
    near = 0.0
    for word in words:
        gaps = [
            place - here[each] if here[each] < place else 3 * (here[each] - last)
            for each in related(word) & here.keys()
        ]
        near = max([near, *(1.0 / gap for gap in gaps if gap > 0)])
    return near


def _candidates(sentence: str, wanted: str) -> Iterator[tuple[str, int]]:
    if wanted in (NAME, PERSON, ANY):
        yield from ((name, start) for name, start, _ in _names(sentence))
    if wanted in (TIME, ANY):
        yield from ((match.group(), match.start()) for match in _TIME.finditer(sentence))
    if wanted == NUMBER:
        yield from ((match.group(), match.start()) for match in _NUMBER.finditer(sentence))
    if wanted in (NOUN, OCCUPATION, ANY):
        yield from _noun_phrases(sentence)


def _noun_phrases(sentence: str) -> Iterator[tuple[str, int]]:
    """Runs of lower-case words without function words."""
    start = 0
    run: list[str] = []
    for match in [*re.finditer(r"[\w'’-]+|[^\w\s]", sentence), None]:
        word = match.group() if match else "."
        if word.islower() and word not in _FUNCTION_WORDS | _NO_NOUNS and word[0].isalpha():
            start = match.start() if match and not run else start
            run.append(word)
        else:
            if 0 < len(run) <= 3:
                yield " ".join(run), start
            run = []


def _type_bonus(sentence: str, text: str, start: int, wanted: str) -> float:
    if wanted == PERSON:
        return 0.4 if len(text.split()) in (2, 3) else 0.0
    if wanted == ANY:
        return 0.5 if text[0].isupper() else 0.0
    if wanted == OCCUPATION:
        before = sentence[max(0, start - _BEFORE) : start]
        return 3.0 if re.search(r"(?:\b(?:is|was|were|are)|,) an? (?:[A-Z][\w-]+ )*$", before) else 0.0
    return 0.0
