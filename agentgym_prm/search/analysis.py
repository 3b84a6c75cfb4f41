"""English analysis of texts, term by term as Lucene's: what a search index counts.

Lucene's chain for English, as Anserini and Pyserini index with: ``StandardTokenizer`` (the word breaks of Unicode's
UAX #29 with emoji sequences, tokens of at most 255 UTF-16 units), ``EnglishPossessiveFilter``, ``LowerCaseFilter``,
``StopFilter`` with 33 words, ``PorterStemFilter``. Characters fall into the classes of Unicode 9 (emoji: 11), to which
Lucene's scanner is compiled; lower case is Python's, which knows a few newer letters less or more than a given Java.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from itertools import chain
from typing import Final, Generic, TypeVar

from agentgym_prm.search.porter import stem

STOP_WORDS: Final = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of",
    "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with",
})  # fmt: skip
"""Lucene's ``ENGLISH_STOP_WORDS_SET``."""
MAX_TOKEN_UNITS: Final = 255
"""How many UTF-16 units of a token Lucene's scanner sees at once; what follows becomes another token."""

_REMEMBERED: Final = 1 << 16
"""Words that are remembered."""
_LONGEST_REMEMBERED: Final = 64
"""Longer words are not."""

_ASCII_TOKENS: Final = re.compile(
    r"(?:(?<!_)_++)?+"
    r"(?:(?:[0-9]++(?:[,;'.][0-9]++)*+|[A-Za-z]++(?:[:'.][A-Za-z]++)*+)++_*+)++"
)

# The same over strings of class letters (see `_Classes`), one for each character of the text.
_X = "[xyzcvfMTE]*+"  # what modifies the character before it
_WORD_BODY = (
    rf"(?:(?:K{_X})++"  # katakana
    rf"|(?:h{_X}(?:s{_X}|q{_X}h{_X})"  # Hebrew letters with ' or "
    rf"|(?:d{_X})++(?:[nms]{_X}(?:d{_X})++)*+"  # numbers with , ; . '
    rf"|(?:(?:[ai]{_X})++|h{_X})(?:[lms]{_X}[ahi]{_X})*+)++)"  # letters with : . '
)
_WORD: Final = rf"(?:u{_X})*+{_WORD_BODY}(?:(?:u{_X})++{_WORD_BODY})*+(?:u{_X})*+"
_Y = "[xyzcMTE]*+"  # modifiers without the choice of presentation
_EMOJI: Final = (
    rf"(?:z*+[ei]{_Y}f?+|M{_Y})"
    rf"(?:(?<=f)T++E|(?:(?<=z)[ei]{_Y}f?+|(?<=f)z++[ei]{_Y}f?+|(?<=f)zM{_Y})*+)"
    rf"|k[xyzMTE]*+(?:fc|c{_Y}(?:fc)?+){_Y}"  # key caps
    rf"|R{_X}R{_X}"  # flags
)
_OTHERS: Final = rf"[ty][txyzcvfMTE]*+|[jr]{_X}"  # a run of Thai and its neighbours; one ideograph, one hiragana
# Connectors that connect nothing are passed over in one go, or in pieces where a modifier of theirs starts a token.
_ANY_TOKEN: Final = re.compile(
    rf"{_WORD}|{_EMOJI}|{_OTHERS}|(?P<nothing>u[uxcvfTE]*+(?![yzM])|z++)|(?P<pieces>(?:u{_X})++)"
)
_CORE: Final = re.compile("[KhdaieMtyjrRk]")  # every token holds one of these
_KINDS: Final = tuple(re.compile(kind) for kind in (_WORD, _EMOJI, _OTHERS))


class _Classes(dict[int, str]):
    """Class letter of each code point, for ``str.translate``; ``o`` is everything that is no part of any token.

    ``a`` letters, ``h`` Hebrew letters, ``i`` letters that are emoji, ``d`` digits, ``u`` connectors as ``_``,
    ``K`` katakana, ``j`` ideographs, ``r`` hiragana, ``t`` and ``y`` South-East Asian letters and marks; ``l``, ``m``,
    ``n``, ``s``, ``q`` what may stand inside a word or number; ``e`` emoji, ``M`` skin tones, ``k`` and ``c`` key caps,
    ``R`` flag letters, ``T`` and ``E`` tags, ``f`` and ``v`` presentation selectors, ``z`` joiner, ``x`` other marks.
    """

    def __init__(self) -> None:
        text = resources.files("agentgym_prm.search").joinpath("word_classes.txt").read_text(encoding="ascii")
        for line in text.splitlines():
            if not line.startswith("#"):
                letter, *ranges = line.split()
                for span in ranges:
                    first, _, last = span.partition("-")
                    self.update(dict.fromkeys(range(int(first, 16), int(last or first, 16) + 1), letter))

    def __missing__(self, code_point: int) -> str:
        return "o"


@lru_cache(maxsize=1)
def _classes() -> _Classes:
    return _Classes()


def tokenize(text: str) -> list[str]:
    """The words of ``text``, as Lucene's ``StandardTokenizer`` breaks it.

    >>> tokenize("O'Neil's No. 1,000.5 well-known snake_case 東京 👍🏽!")
    ["O'Neil's", 'No', '1,000.5', 'well', 'known', 'snake_case', '東', '京', '👍🏽']
    """
    if text.isascii():
        tokens: list[str] = _ASCII_TOKENS.findall(text)
        if len(text) <= MAX_TOKEN_UNITS or max(map(len, tokens), default=0) <= MAX_TOKEN_UNITS:
            return tokens
    return _scanned(text)


def _scanned(text: str) -> list[str]:
    """``tokenize`` for any text: of other scripts, with overlong tokens."""
    classes = text.translate(_classes())
    tokens = []
    position = 0
    while match := _ANY_TOKEN.search(classes, position):
        start, position = match.span()
        if match["nothing"]:
            continue
        if match["pieces"] or classes[start] == "i" or position - start > MAX_TOKEN_UNITS // 2:
            ends, position = _cut(text, classes, start, position)
            tokens += [text[first:last] for first, last in ends]
        else:
            tokens.append(text[start:position])
    return tokens


def _cut(text: str, classes: str, start: int, end: int) -> tuple[list[tuple[int, int]], int]:
    """The tokens that start in ``[start, end)``, each the longest of all kinds within the units that Lucene sees.

    Returns:
        Where each starts and ends, and where to go on.
    """
    spans = []
    while start < end:
        limit = _limit(text, start)
        longest = max((match.end() for kind in _KINDS if (match := kind.match(classes, start, limit))), default=start)
        if longest > start:
            spans.append((start, longest))
            start = longest
        else:  # what stands in every token is ahead, and tokens that hold it start within their units of it
            ahead = _CORE.search(classes, start + 1)
            start = max(start + 1, (ahead.start() if ahead else end) - MAX_TOKEN_UNITS)
    return spans, start


def _limit(text: str, start: int) -> int:
    """Where the ``MAX_TOKEN_UNITS`` UTF-16 units from ``start`` on end; a pair is not cut in two."""
    window = text[start : start + MAX_TOKEN_UNITS]
    if window.isascii() or max(window) <= "\uffff":
        return start + len(window)
    units = 0
    for index, character in enumerate(window):
        units += 1 + (character > "\uffff")
        if units > MAX_TOKEN_UNITS:
            return start + index
    return start + len(window)


def term(token: str) -> str:
    """What a token of ``tokenize`` is counted as; ``""`` for a stop word, which is not."""
    if token[-1] in "sS" and token[-2:-1] in ("'", "’", "＇"):
        token = token[:-2]
    token = token.lower() if token.isascii() else "".join(map(_lower, token))
    return "" if token in STOP_WORDS else stem(token)


def _lower(character: str) -> str:
    """One character for one, as Java has it: without the dot that Python leaves of ``İ``, and no final sigma."""
    return character.lower()[0]


_Value = TypeVar("_Value")


def words(text: str) -> list[str]:
    """``text`` in pieces that no token goes across, however many of them a piece holds.

    >>> words("Running shoes, size 7.5!")
    ['Running', 'shoes,', 'size', '7.5!']
    """
    # Not at all that Python takes for white space: U+202F is a connector.
    return text.split() if text.isascii() else text.split(" ")


class Remembered(dict[str, _Value], Generic[_Value]):
    """What a function makes of ``words``, worked out once for each; a bounded number is kept, and none that is long."""

    def __init__(self, function: Callable[[str], _Value]) -> None:
        self._function = function

    def __missing__(self, word: str) -> _Value:
        value = self._function(word)
        if len(word) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[word] = value
        return value


def terms(text: str) -> tuple[str, ...]:
    """The terms of ``text`` in order, with repeats."""
    return tuple(counted for token in tokenize(text) if (counted := term(token)))


_terms_of_word: Final = Remembered(terms)


def analyze(text: str) -> list[str]:
    """``terms`` of a text whose words may have been seen before.

    >>> analyze("The runner's shoes were running.")
    ['runner', 'shoe', 'were', 'run']
    """
    return [*chain.from_iterable(map(_terms_of_word.__getitem__, words(text)))]
