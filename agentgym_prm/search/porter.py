"""Porter's stemmer as Lucene's ``PorterStemFilter`` has it.

The algorithm is that of M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, with the two departures
of the author's own programs, which Snowball's "porter" (so PyStemmer) does not make: ``-bli`` becomes ``-ble`` (the
paper: ``-abli`` to ``-able``), and ``-logi`` becomes ``-log``. Words of one or two letters stay as they are.
"""

from collections.abc import Container
from typing import Final

_STEP_2: Final = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "bli": "ble", "alli": "al",
    "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble", "logi": "log",
}  # fmt: skip
_STEP_3: Final = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_STEP_4: Final = frozenset((
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "sion", "tion", "ou", "ism", "ate",
    "iti", "ous", "ive", "ize",
))  # fmt: skip


def stem(word: str) -> str:
    """The stem of a lower-case ``word``.

    A character beyond U+FFFF counts as two letters, as in Lucene, whose strings are UTF-16.

    >>> [stem(word) for word in ("relational", "hopping", "skies", "possibly", "is")]
    ['relat', 'hop', 'ski', 'possibl', 'is']
    """
    if not word.isascii() and max(word) > "\uffff":
        halves = word.encode("utf-16-le", "surrogatepass")
        letters = "".join(chr(halves[i] | halves[i + 1] << 8) for i in range(0, len(halves), 2))
        return _stem(letters).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _stem(word)


def _stem(word: str) -> str:
    if len(word) <= 2:
        return word
    word = _without_plural_and_participle(word)
    if word.endswith("y") and "v" in _form(word[:-1]):
        word = word[:-1] + "i"
    word = _replaced(word, _STEP_2)
    word = _replaced(word, _STEP_3)
    word = _without_ending(word)
    return _without_e_and_double_l(word)


def _form(word: str) -> str:
    """Each letter as ``c`` (consonant) or ``v`` (vowel); ``y`` is a vowel after a consonant."""
    form = ""
    for letter in word:
        form += "v" if letter in "aeiou" or (letter == "y" and form.endswith("c")) else "c"
    return form


def _measure(word: str) -> int:
    """How many times consonants follow vowels."""
    return _form(word).count("vc")


def _ends_in_double_consonant(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _form(word).endswith("c")


def _ends_in_short_syllable(word: str) -> bool:
    return word[-1:] not in ("w", "x", "y") and _form(word).endswith("cvc")


def _without_plural_and_participle(word: str) -> str:
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        if word.endswith(ending):
            start = word.removesuffix(ending)
            return _mended(start) if "v" in _form(start) else word
    return word


def _mended(start: str) -> str:
    """What a participle's ending was put on: ``hop`` of ``hopp``, ``conflate`` of ``conflat``."""
    if start.endswith(("at", "bl", "iz")):
        return start + "e"
    if _ends_in_double_consonant(start):
        return start if start.endswith(("l", "s", "z")) else start[:-1]
    return start + "e" if _measure(start) == 1 and _ends_in_short_syllable(start) else start


def _split(word: str, endings: Container[str]) -> tuple[str, str]:
    """``word`` in two, the second being its longest ending among ``endings``, or empty."""
    for size in range(7, 1, -1):  # of "ational" and "ou"
        if word[-size:] in endings:
            return word[:-size], word[-size:]
    return word, ""


def _replaced(word: str, table: dict[str, str]) -> str:
    start, ending = _split(word, table)
    return start + table[ending] if ending and _measure(start) > 0 else word


def _without_ending(word: str) -> str:
    start, ending = _split(word, _STEP_4)
    if ending in ("sion", "tion"):  # only -ion goes
        start += ending[0]
    return start if ending and _measure(start) > 1 else word


def _without_e_and_double_l(word: str) -> str:
    measure = _measure(word)  # that of the word with its e, which adds none
    if word.endswith("e") and (measure > 1 or (measure == 1 and not _ends_in_short_syllable(word[:-1]))):
        word = word[:-1]
    if word.endswith("ll") and measure > 1:
        word = word[:-1]
    return word
