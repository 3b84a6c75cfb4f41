"""What texts offer to search for and to answer with: their names, years, numbers and some of their nouns.

For agents that choose among commands, where a question has no finite list of them.
"""

import re
from functools import lru_cache
from typing import Final

_QUOTED: Final = re.compile(r'"([^"\n]{1,80})"|“([^”\n]{1,80})”')
_NOUN: Final = re.compile(r"\b[Aa]n? ([^\W\d_]+)|([^\W\d_]+)(?=[.,;:)])")
_WORD: Final = re.compile(r"\w+(?:['’.,-]\w+)*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_JOINING: Final = _words("of the de la le van von der den di da du al")
_NO_NAMES: Final = _words(
    """a after all also although an and another are as at before both but by can did do does during each even every few
    first following for from had has have he her here his how however i if in is it its last later many more most much
    my name no nor not of on one only or other our over question she since so some such than that the their then there
    these they this those though three through to two under until was we were what when where whether which while who
    whom whose why with would you your"""
)
"""Words that begin sentences and no names."""
_YES_OR_NO: Final = _words("is are was were do does did has have had can could will would")


@lru_cache(4096)
def names_in(text: str) -> tuple[str, ...]:
    """Names, numbers and what stands in quotation marks, in order and each once.

    A name is a run of capitalised words with single spaces between them, or the likes of "of" and "van" among them.

    >>> names_in('In 1905 Anna van Ek founded the Museum of Oslo with "red doors".')
    ('red doors', '1905', 'Anna van Ek', 'Museum of Oslo')
    """
    found = dict.fromkeys(straight or curly for straight, curly in _QUOTED.findall(text))
    run: list[re.Match[str]] = []
    for match in _WORD.finditer(text):
        word = match[0]
        if (
            run
            and _adjacent(text, run[-1], match)
            and not run[0][0][0].isdigit()
            and (word in _JOINING or word[0].isupper() or word[0].isdigit())
        ):
            run.append(match)
            continue
        found |= _named(text, run)
        run = [match] if word[0].isdigit() or (word[0].isupper() and word.lower() not in _NO_NAMES) else []
    return tuple(found | _named(text, run))


@lru_cache(4096)
def nouns_in(text: str) -> tuple[str, ...]:
    """Words in lower case that stand where nouns do, in order and each once: after "a", or at the end of a clause.

    >>> nouns_in("Anna was a painter from Oslo, which is known for its cheese.")
    ('painter', 'cheese')
    """
    words = (after or last for after, last in _NOUN.findall(text))
    return tuple(dict.fromkeys(word for word in words if word.islower() and word not in _NO_NAMES))


def asks_yes_or_no(question: str) -> bool:
    """Whether a question begins like one that is answered by yes or no."""
    return question.partition(" ")[0].lower() in _YES_OR_NO


def _adjacent(text: str, word: re.Match[str], following: re.Match[str]) -> bool:
    """Whether a single space is between two words; after an initial, also its full stop."""
    between = text[word.end() : following.start()]
    return between == " " or (between == ". " and len(word[0]) == 1)


def _named(text: str, run: list[re.Match[str]]) -> dict[str, None]:
    while run and run[-1][0] in _JOINING:
        run.pop()
    return {text[run[0].start() : run[-1].end()]: None} if run else {}
