"""Names of the full world: given names that anybody may have, and surnames and places that nobody has, from syllables."""

from collections.abc import Callable, Sequence
from typing import Final

from agentgym_prm.envs.wiki_search.facts import Draws

WOMEN: Final = tuple(
    "Adela Agnes Alba Alma Amelie Anneke Astrid Aurelia Beata Berit Brigid Camilla Carlotta Celia Cosima Dagny Delia "
    "Dora Edda Elin Elvira Emilia Erna Estelle Eva Fenja Flora Frieda Gerda Gisela Greta Hanne Hedda Helena Hilda Ida "
    "Ilse Inga Irena Isolde Jana Johanna Judita Karin Katja Klara Larissa Leonie Lida Linnea Lotte Lucia Ludmila Mara "
    "Margit Marit Mathilde Milena Mina Nadja Nora Odile Olga Ottilie Paula Petra Ragna Renata Rosa Ruth Sabina Selma "
    "Senna Signe Silvia Sofia Solveig Tamara Tekla Tessa Thea Tilda Ulla Ursula Valeria Vera Wanda Wilma Xenia Yrsa "
    "Zelda Zoe".split()
)
MEN: Final = tuple(
    "Aaron Adrian Albin Aldo Alvar Anders Andor Anselm Anton Arne Arvid August Axel Balthasar Bastian Benno Bernt Bram "
    "Bruno Caspar Cedric Clemens Cosmo Dag Damian Detlef Edgar Egon Einar Elias Emil Erik Ernst Fabian Felix Ferenc "
    "Florian Frans Georg Gerwin Gregor Gunnar Hagen Harald Hektor Hendrik Henrik Hugo Ignaz Ingmar Ivo Jakob Jaro Joris "
    "Julian Justus Karel Kaspar Klemens Knut Konrad Lars Laurens Leander Leo Levin Lorenz Ludvig Magnus Marek Matthis "
    "Milan Nestor Niklas Nils Olaf Oskar Otto Pavel Piet Quentin Rafael Ragnar Rasmus Roland Rufus Ruben Sander "
    "Sebald Sigurd Silas Stellan Tancred Theodor Tibor Tilo Tobias Ulrik Valentin Vidar Viktor Wenzel Willem Xaver "
    "Yorick Zacharias".split()
)
_SURNAME_STARTS: Final = tuple(
    "Abren Aldern Ambros Arkel Barun Belvar Brannik Brevol Caldrin Corvel Dalmar Dorvan Drask Eldren Estov Fabrin Feddern "
    "Fjorn Galdor Garrow Gresk Halbek Haldor Hexam Istram Jandor Jorvel Kaldren Karsen Kelmar Lanvik Lomar Lundra Mardov "
    "Merrow Mostad Nadrik Norrin Nylanth Ombrel Orsen Ostrav Pellow Perrith Quarn Radvan Rindal Rostan Sandrel Sefton "
    "Skarn Solvan Tarsk Tavel Tormund Ulmer Ulvenn Vandrel Velin Verrin Wardov Wendrik Yarrol Zandor Zelmar".split()
)
_SURNAME_ENDS: Final = (
    "",
    "a",
    "berg",
    "é",
    "en",
    "ek",
    "is",
    "ius",
    "man",
    "ol",
    "ová",
    "sen",
    "ski",
    "stein",
    "ström",
    "et",
)
_PLACE_STARTS: Final = tuple(
    "Ald Arn Bar Bel Bran Cal Cor Dal Dor Eld Fal Fen Gal Gor Hal Har Ist Kar Kel Lan Lor Mal Mer Nar Nor Ol Or Pel Qual "
    "Ran Rov Sal Sel Tar Tor Ul Val Ver Wal Wen Yar Zel".split()
)
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
