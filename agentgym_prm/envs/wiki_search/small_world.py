"""The small world: for a model that has few words and learns to copy names.

Every name has two words, dealt from lists in turn, so that each word stands in many names of each split and only the
pairs are new. Passages have two or three sentences.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from agentgym_prm.envs.wiki_search.facts import SPLITS, Deck, Draws, Entity, Fact
from agentgym_prm.envs.wiki_search.word_lists import WORDS
from agentgym_prm.envs.wiki_search.wording import Asked, Group, Wording

SEED: Final = 11

_WOMEN: Final = WORDS["small women"]
_MEN: Final = WORDS["small men"]
_SURNAMES: Final = WORDS["small surnames"]
_ADJECTIVES: Final = WORDS["small adjectives"]
_TOWN_NOUNS: Final = WORDS["small towns"]
_WORK_NOUNS: Final = WORDS["small works"]
_CLUB_NOUNS: Final = WORDS["small clubs"]
_WORKS: Final = {"novelist": "novel", "poet": "poem", "composer": "opera", "dramatist": "play"}
_OCCUPATIONS: Final = (*_WORKS, "botanist", "architect", "judge", "sailor")
_PRODUCTS: Final = WORDS["small products"]
_BIRTH_YEARS: Final = tuple(map(str, range(1800, 1880, 4)))
_STATION_YEARS: Final = tuple(map(str, range(1882, 1900, 2)))
_APPRENTICE: Final = 16
"""Years that a teacher is older at least."""


class Sizes(NamedTuple):
    """How many of each a split has."""

    persons: int
    works: int
    towns: int
    clubs: int


SIZES: Final = {"train": Sizes(140, 75, 55, 50), "valid": Sizes(40, 22, 16, 14), "test": Sizes(40, 22, 16, 14)}

SMALL_WORDING: Final = Wording(
    groups={
        "person": (
            Group(
                ("occupation", "birthplace", "birth_year"),
                (
                    "{name} was {a_kind} born in {birthplace} in {birth_year}.",
                    "{name}, {a_kind}, was born in {birthplace} in {birth_year}.",
                ),
            ),
            Group(("teacher",), ("{he} studied under {teacher}.", "{his} teacher was {teacher}.")),
            Group(("club",), ("{he} joined {club}.", "{he} was a member of {club}.")),
        ),
        "work": (
            Group(
                ("author", "year"),
                (
                    "{name} is {a_kind} {made} by {author} in {year}.",
                    "{name} is {a_kind} by {author}, {made} in {year}.",
                ),
            ),
            Group(("setting",), ("It is set in {setting}.", "Its scene is {setting}.")),
        ),
        "town": (
            Group(("product",), ("{name} is a town known for {product}.", "{name} is a town that makes {product}.")),
            Group(
                ("mayor",),
                ("The first mayor of {name} was {mayor}.", "The people of {name} had {mayor} as first mayor."),
            ),
            Group(("station_year",), ("Its station opened in {station_year}.",)),
        ),
        "club": (
            Group(("home",), ("{name} is a club in {home}.", "{name} is a club that meets in {home}.")),
            Group(
                ("founder", "club_year"),
                (
                    "It was founded by {founder} in {club_year}.",
                    "{founder} founded it in {club_year}.",
                ),
            ),
        ),
    },
    asked={
        "occupation": Asked(("What was the occupation of {x}?", "What was {x} by occupation?")),
        "birthplace": Asked(
            ("Where was {x} born?", "In which town was {x} born?"),
            ("the town where {x} was born", "the birthplace of {x}"),
        ),
        "birth_year": Asked(("When was {x} born?", "In which year was {x} born?")),
        "teacher": Asked(("Who was the teacher of {x}?", "Under whom did {x} study?"), ("the teacher of {x}",)),
        "club": Asked(("Which club did {x} join?", "Of which club was {x} a member?"), ("the club that {x} joined",)),
        "author": Asked(("Who was the {maker} of {x}?", "By whom was {x} {made}?"), ("the {maker} of {x}",)),
        "year": Asked(("When was {x} {made}?", "In which year was {x} {made}?")),
        "setting": Asked(("Where is {x} set?", "In which town is {x} set?"), ("the town where {x} is set",)),
        "product": Asked(("For what is {x} known?", "What does {x} make?")),
        "mayor": Asked(
            ("Who was the first mayor of {x}?", "Which person was the first mayor of {x}?"), ("the first mayor of {x}",)
        ),
        "station_year": Asked(("When did the station of {x} open?", "In which year did the station of {x} open?")),
        "home": Asked(("Where is {x}?", "In which town does {x} meet?"), ("the town where {x} meets",)),
        "founder": Asked(("Who founded {x}?", "By whom was {x} founded?"), ("the founder of {x}",)),
        "club_year": Asked(("When was {x} founded?", "In which year was {x} founded?")),
    },
    fillers={},
    filler_chance=0.0,
    alias_chance=0.0,
    described=0.0,
    named={},
)


def small_facts() -> tuple[list[Entity], list[Fact]]:
    """Entities of the small world and facts about them; a fact leads to an entity of the same split."""
    entities: list[Entity] = []
    facts: list[Fact] = []
    taken: set[str] = set()
    for number, split in enumerate(SPLITS):
        made = _Part(Draws(SEED, number), split, taken)
        entities += made.entities
        facts += made.facts
    return _with_initials(entities), facts


class _Part:
    """What belongs to one split."""

    def __init__(self, draws: Draws, split: str, taken: set[str]) -> None:
        self.facts: list[Fact] = []
        self._draws, self._split, self._taken = draws, split, taken
        self._born: dict[str, int] = {}
        sizes = SIZES[split]
        adjectives = Deck(draws, _ADJECTIVES)
        persons = self._persons(sizes.persons)
        towns = self._named(adjectives, _TOWN_NOUNS, "town", "town", sizes.towns)
        clubs = self._named(adjectives, _CLUB_NOUNS, "club", "club", sizes.clubs)
        self._tell_of_persons(persons, towns, clubs)
        works = self._works(adjectives, persons, towns, sizes.works)
        self._tell_of_towns(towns, persons)
        self._tell_of_clubs(clubs, persons, towns)
        self.entities = [*persons, *works, *towns, *clubs]

    def _persons(self, count: int) -> list[Entity]:
        draws = self._draws
        first, last = Deck(draws, _WOMEN + _MEN), Deck(draws, _SURNAMES)
        occupations, years = Deck(draws, _OCCUPATIONS), Deck(draws, _BIRTH_YEARS)
        persons = []
        for _ in range(count):
            name = self._new_name(first, last)
            female = name.split()[0] in _WOMEN
            persons.append(Entity(name, (name,), "person", occupations.deal(), self._split, female))
            self._born[name] = int(years.deal())
        return persons

    def _new_name(self, first: Deck, second: Deck) -> str:
        start, end = first.deal(), second.deal()
        passed = []
        while (name := f"{start} {end}") in self._taken:
            passed.append(end)
            end = second.deal()
        second.put_back(passed)
        self._taken.add(name)
        return name

    def _named(self, first: Deck, nouns: Sequence[str], kind: str, description: str, count: int) -> list[Entity]:
        second = Deck(self._draws, nouns)
        names = [self._new_name(first, second) for _ in range(count)]
        return [Entity(name, (name,), kind, description, self._split) for name in names]

    def _tell(self, subject: Entity, **values: str | Entity) -> None:
        for relation, value in values.items():
            self.facts.append(Fact(subject.title, relation, value.title if isinstance(value, Entity) else value))

    def _tell_of_persons(self, persons: list[Entity], towns: list[Entity], clubs: list[Entity]) -> None:
        for person in persons:
            born = self._born[person.title]
            self._tell(person, occupation=person.description, birthplace=self._draws.pick(towns), birth_year=str(born))
            older = [other for other in persons if _APPRENTICE <= born - self._born[other.title] <= 3 * _APPRENTICE]
            if older:
                self._tell(person, teacher=self._draws.pick(older))
            self._tell(person, club=self._draws.pick(clubs))

    def _works(self, first: Deck, persons: list[Entity], towns: list[Entity], count: int) -> list[Entity]:
        second = Deck(self._draws, _WORK_NOUNS)
        authors = [person for person in persons if person.description in _WORKS]
        works = []
        for _ in range(count):
            author = self._draws.pick(authors)
            name = self._new_name(first, second)
            work = Entity(name, (name,), "work", _WORKS[author.description], self._split)
            works.append(work)
            self._tell(work, author=author, year=self._grown_up(author), setting=self._draws.pick(towns))
        return works

    def _grown_up(self, person: Entity) -> str:
        """A year in which a person is between 24 and 40."""
        return str(self._born[person.title] + 4 * self._draws.between(6, 10))

    def _tell_of_towns(self, towns: list[Entity], persons: list[Entity]) -> None:
        products, years = Deck(self._draws, _PRODUCTS), Deck(self._draws, _STATION_YEARS)
        for town in towns:
            self._tell(town, product=products.deal(), mayor=self._draws.pick(persons), station_year=years.deal())

    def _tell_of_clubs(self, clubs: list[Entity], persons: list[Entity], towns: list[Entity]) -> None:
        for club in clubs:
            founder = self._draws.pick(persons)
            self._tell(club, home=self._draws.pick(towns), founder=founder, club_year=self._grown_up(founder))


def _with_initials(entities: Sequence[Entity]) -> list[Entity]:
    """Persons also go by an initial and the surname, where that is one person only."""
    short = {entity.title: f"{entity.name[0]}. {entity.name.split()[-1]}" for entity in entities}
    persons = Counter(short[entity.title] for entity in entities if entity.kind == "person")
    return [
        replace(entity, names=(entity.name, short[entity.title]))
        if entity.kind == "person" and persons[short[entity.title]] == 1
        else entity
        for entity in entities
    ]
