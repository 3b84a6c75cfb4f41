"""Names: words that they are made of, and those of the full world, where surnames and places are made of syllables."""

from collections.abc import Callable, Sequence
from typing import Final

from agentgym_prm.envs.wiki_search.facts import Draws
from agentgym_prm.envs.wiki_search.word_lists import WORDS

WOMEN: Final = WORDS["women"]
MEN: Final = WORDS["men"]
_SURNAME_STARTS: Final = WORDS["surnames"]
_SURNAME_ENDS: Final = (
    "", "a", "berg", "é", "en", "ek", "is", "ius", "man", "ol", "ová", "sen", "ski", "stein", "ström", "et",
)  # fmt: skip
_PLACE_STARTS: Final = WORDS["places"]
_PLACE_MIDDLES: Final = ("", "de", "en", "i", "mar", "o", "ra", "s", "un", "vi")
_TOWN_ENDS: Final = (
    "bach", "borg", "bridge", "burg", "by", "dorf", "ford", "gard", "hafen", "ham", "holm", "mere", "mouth", "nica",
    "port", "sund", "thal", "ton", "vik", "wick", "öre", "ås",
)  # fmt: skip
_REGION_ENDS: Final = ("aria", "enland", "esia", "ina", "ovia", "shire", "una", "mark")
_COUNTRY_ENDS: Final = ("ania", "avia", "istan", "landia", "onia", "oria")
_RIVER_ENDS: Final = ("a", "ach", "au", "e", "en", "in", "ona", "ava", "isk", "und")
_PLAIN: Final = str.maketrans("áåéö", "aaeo")


class Names:
    """Gives names that were not given before, in one world."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def person(self, draws: Draws, *, female: bool) -> str:
        """A given name and a surname."""
        return self._new(lambda: f"{draws.pick(WOMEN if female else MEN)} {surname(draws)}")

    def town(self, draws: Draws) -> str:
        """The name of a town."""
        return self._new(lambda: _compound(draws, _PLACE_STARTS, _PLACE_MIDDLES, _TOWN_ENDS))

    def region(self, draws: Draws) -> str:
        """The name of a region."""
        return self._new(lambda: _compound(draws, _PLACE_STARTS, _PLACE_MIDDLES, _REGION_ENDS))

    def country(self, draws: Draws) -> str:
        """The name of a country."""
        return self._new(lambda: _compound(draws, _PLACE_STARTS, _PLACE_MIDDLES, _COUNTRY_ENDS))

    def river(self, draws: Draws) -> str:
        """The name of a river."""
        return self._new(lambda: _compound(draws, _PLACE_STARTS, _PLACE_MIDDLES, _RIVER_ENDS))

    def claim(self, name: str) -> bool:
        """Take this name; ``False`` if it is given already."""
        if name in self.taken:
            return False
        self.taken.add(name)
        return True

    def _new(self, make: Callable[[], str]) -> str:
        name = make()
        while not self.claim(name):
            name = make()
        return name


def surname(draws: Draws) -> str:
    """A surname, which many may have."""
    return _compound(draws, _SURNAME_STARTS, _SURNAME_ENDS)


def without_accents(name: str) -> str:
    """The name as keyboards without accents have it."""
    return name.translate(_PLAIN)


def _compound(draws: Draws, *parts: Sequence[str]) -> str:
    return "".join(draws.pick(part) for part in parts)
