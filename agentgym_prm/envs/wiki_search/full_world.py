"""The full world: a lexicon of some countries, with homonyms, former names and things named after people.

Splits have countries of their own, with their regions, towns, people and works.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from agentgym_prm.envs.wiki_search.facts import SPLITS, Draws, Entity, Fact
from agentgym_prm.envs.wiki_search.names import Names, surname, without_accents
from agentgym_prm.envs.wiki_search.word_lists import WORDS

SEED: Final = 16


class Sizes(NamedTuple):
    """How many of each a split has."""

    countries: int
    regions: int
    rivers: int
    towns: int
    persons: int
    works: int
    organisations: int
    landmarks: int
    awards: int


_EVALUATED: Final = Sizes(3, 9, 10, 62, 235, 150, 48, 32, 6)
SIZES: Final = {"train": Sizes(11, 42, 40, 290, 1080, 680, 220, 145, 28), "valid": _EVALUATED, "test": _EVALUATED}

_ADJECTIVES: Final = WORDS["adjectives"]
_NOUNS: Final = WORDS["nouns"]
_WORKS: Final = {
    "novelist": "novel",
    "poet": "poem",
    "dramatist": "play",
    "composer": "opera",
    "painter": "painting",
    "film-maker": "film",
    "philosopher": "treatise",
}
_OCCUPATIONS: Final = (
    *_WORKS, "novelist", "composer", "painter", "architect", "architect", "botanist", "physicist", "chemist",
    "astronomer", "explorer", "historian", "engineer", "physician", "mathematician", "politician",
)  # fmt: skip
_ADAPTED: Final = ("opera", "film", "play")
_INDUSTRIES: Final = (
    "shipbuilding", "glassmaking", "porcelain", "clockmaking", "brewing", "paper", "linen", "salt", "cutlery", "lace",
    "amber", "organ building", "cheese", "printing", "leather goods", "steel", "herring fishing", "optical instruments",
)  # fmt: skip
_EMBLEMS: Final = (
    "heron", "lynx", "black ram", "two-headed swan", "beaver", "sturgeon", "oak leaf", "red fox", "falcon", "owl",
    "golden wheel", "silver key", "white stag", "bear", "thistle", "three bees",
)  # fmt: skip
_COINS: Final = (
    "talen", "krevel", "dinaro", "marken", "florit", "guldan", "ducal", "orel", "pensk", "soldo", "rixen", "velt",
)  # fmt: skip
_ORGANISATIONS: Final = (
    ("university", ("University of {town}",), "{town} University"),
    ("museum", ("{town} Museum of Art", "{surname} Museum"), ""),
    ("publisher", ("{surname} Press", "{town} Publishing House"), ""),
    ("orchestra", ("{town} Philharmonic", "{town} Chamber Orchestra"), ""),
    ("academy", ("{town} Academy of Sciences", "{town} Naval Academy"), ""),
    ("institute", ("{surname} Institute", "{town} Observatory"), ""),
    ("company", ("{surname} Engine Works", "{town} Steamship Company"), ""),
    ("theatre", ("{town} Opera House", "{surname} Theatre"), ""),
)
_SCHOOLS: Final = ("university", "academy")
_LANDMARKS: Final = {
    "bridge": "Bridge",
    "tower": "Tower",
    "lighthouse": "Lighthouse",
    "library": "Library",
    "railway station": "Station",
}
_PRIZES: Final = ("Prize", "Medal", "Award")
_HOMONYMS: Final = 25
"""One person in so many has the name of an earlier one of another occupation."""
_FIRST_FILM_MAKERS: Final = 1880
_PRESENT: Final = 2005


def full_facts() -> tuple[list[Entity], list[Fact]]:
    """Entities of the full world and facts about them; a fact leads to an entity of the same split."""
    names = Names()
    parts = [_Part(Draws(SEED, number), split, names) for number, split in enumerate(SPLITS)]
    return _titled([made for part in parts for made in part.made], [fact for part in parts for fact in part.facts])


class _Made(NamedTuple):
    """An entity before it is known what others are called; facts name it by its number."""

    number: int
    entity: Entity
    aliases: tuple[str, ...]


class _Untitled(NamedTuple):
    subject: int
    relation: str
    value: int | str


class _Part:
    """What belongs to one split."""

    def __init__(self, draws: Draws, split: str, names: Names) -> None:
        self.made: list[_Made] = []
        self.facts: list[_Untitled] = []
        self._draws, self._split, self._names = draws, split, names
        self._first = SPLITS.index(split) * 10**6
        self._doubled: set[str] = set()  # names that two persons have
        self._adapted: set[tuple[str, str]] = set()  # titles that a work of this description took from its source
        sizes = SIZES[split]
        self._countries_and_towns(sizes)
        self._persons(sizes.persons)
        self._organisations(sizes.organisations)
        self._lives()
        self._works(sizes.works)
        self._landmarks(sizes.landmarks)
        self._awards(sizes.awards)

    def _make(self, name: str, kind: str, description: str, *aliases: str, female: bool = False) -> _Made:
        plain = without_accents(name)
        if plain != name:
            aliases = (plain, *aliases)
        entity = Entity(name, (name,), kind, description, self._split, female)
        made = _Made(self._first + len(self.made), entity, aliases)
        self.made.append(made)
        return made

    def _tell(self, subject: _Made, **values: str | int | _Made) -> None:
        for relation, value in values.items():
            told = value.number if isinstance(value, _Made) else str(value)
            self.facts.append(_Untitled(subject.number, relation, told))

    # places

    def _countries_and_towns(self, sizes: Sizes) -> None:
        draws, names = self._draws, self._names
        countries = [self._make(names.country(draws), "country", "country") for _ in range(sizes.countries)]
        regions = [self._make(names.region(draws), "region", "region") for _ in range(sizes.regions)]
        rivers = [self._make(names.river(draws), "river", "river") for _ in range(sizes.rivers)]
        self._towns = [self._town(number, regions, rivers) for number in range(sizes.towns)]
        for number, region in enumerate(regions):
            # Town and region number n belong together; see `_town`.
            country = countries[number % len(countries)]
            area, emblem = f"{draws.between(12, 190) * 100:,}", draws.pick(_EMBLEMS)
            self._tell(region, country=country, seat=self._towns[number], area=area, emblem=emblem)
        for number, country in enumerate(countries):
            capital = self._towns[number]  # in region number n, so in this country
            independence, currency = draws.between(1790, 1960), draws.pick(_COINS)
            self._tell(country, capital=capital, independence=independence, currency=currency)
        for river in rivers:
            source, mouth, length = draws.pick(regions), draws.pick(self._towns), draws.between(60, 980)
            self._tell(river, source=source, mouth=mouth, length=length)

    def _town(self, number: int, regions: list[_Made], rivers: list[_Made]) -> _Made:
        draws = self._draws
        former = self._names.town(draws) if draws.chance(0.25) else ""
        town = self._make(self._names.town(draws), "town", "town", *([former] if former else []))
        self._tell(
            town,
            region=regions[number % len(regions)],
            town_river=draws.pick(rivers),
            chartered=draws.between(1080, 1690),
            population=f"{draws.between(21, 980) * 100 + draws.between(1, 99):,}",
            industry=draws.pick(_INDUSTRIES),
        )
        if former:
            self._tell(town, former_name=former)
        return town

    # people

    def _persons(self, count: int) -> None:
        draws = self._draws
        self._people: list[_Made] = []
        self._born: dict[int, int] = {}
        self._died: dict[int, int] = {}
        for _ in range(count):
            female = draws.chance(0.5)
            born = draws.between(1760, 1975)
            occupation = draws.pick(_OCCUPATIONS)
            if occupation == "film-maker" and born < _FIRST_FILM_MAKERS:
                occupation = "dramatist"
            name = self._names.person(draws, female=female)
            if draws.chance(1 / _HOMONYMS) and self._people:
                other = draws.pick(self._people).entity
                if other.description != occupation and other.name not in self._doubled:
                    name, female = other.name, other.female
                    self._doubled.add(name)
            self._people.append(self._person(name, occupation, born, female=female))
        self._people.sort(key=lambda person: self._born[person.number])
        self._birth_years = [self._born[person.number] for person in self._people]

    def _person(self, name: str, occupation: str, born: int, *, female: bool) -> _Made:
        draws = self._draws
        given, _, family = name.partition(" ")
        aliases = [f"{given[0]}. {family}", family]
        pen_name = ""
        if occupation in ("novelist", "poet", "dramatist") and draws.chance(0.25):
            pen_name = self._names.person(draws, female=not female)
        person = self._make(name, "person", occupation, *aliases, *([pen_name] if pen_name else []), female=female)
        died = born + draws.between(38, 91)
        self._born[person.number], self._died[person.number] = born, died
        self._tell(person, occupation=occupation, birthplace=draws.pick(self._towns), birth_year=born)
        if died <= _PRESENT:
            self._tell(person, death_year=died, deathplace=draws.pick(self._towns))
        if pen_name:
            self._tell(person, pen_name=pen_name)
        return person

    def _someone(self, earliest: int, latest: int, *but: _Made) -> _Made | None:
        """A person born in these years; ``None`` if there is nobody."""
        low, high = bisect_left(self._birth_years, earliest), bisect_right(self._birth_years, latest)
        found = self._draws.pick(self._people[low:high]) if low < high else None
        return None if found in but else found

    def _lives(self) -> None:
        """Who taught and married whom, and where they studied."""
        married: set[int] = set()
        for person in self._people:
            born = self._born[person.number]
            teacher = self._someone(born - 45, born - 14)
            if teacher and self._died[teacher.number] > born + 18 and self._draws.chance(0.6):
                self._tell(person, teacher=teacher)
            schools = [school for school, year in self._schools if year <= born + 17]
            if schools and self._draws.chance(0.6):
                self._tell(person, school=self._draws.pick(schools))
            spouse = self._someone(born - 8, born + 8, person)
            fit = spouse is not None and spouse.entity.female != person.entity.female
            if spouse and fit and married.isdisjoint((person.number, spouse.number)) and self._draws.chance(0.5):
                married |= {person.number, spouse.number}
                self._tell(person, spouse=spouse)
                self._tell(spouse, spouse=person)

    # what people make

    def _organisations(self, count: int) -> None:
        draws = self._draws
        self._schools: list[tuple[_Made, int]] = []
        self._museums: list[_Made] = []
        self._others: list[tuple[_Made, int]] = []
        for number in range(count):
            description, patterns, alias = _ORGANISATIONS[number % len(_ORGANISATIONS)]
            town = draws.pick(self._towns)
            name = draws.pick(patterns).format(town=town.entity.name, surname=surname(draws))
            if not self._names.claim(name):
                continue
            aliases = (alias.format(town=town.entity.name),) if alias else ()
            made = self._make(name, "organisation", description, *aliases)
            founder = self._someone(1760, 1900)
            assert founder is not None
            year = self._active(founder)
            head = self._someone(1920, 1965, founder)
            self._tell(made, home=town, founder=founder, established=year)
            if head:
                self._tell(made, head=head)
            if description in _SCHOOLS:
                self._schools.append((made, year))
            if description == "museum":
                self._museums.append(made)
            self._others.append((made, year))

    def _active(self, person: _Made) -> int:
        """A year in which a person was grown up and alive, and not yet old."""
        born = self._born[person.number]
        return self._draws.between(born + 23, min(self._died[person.number] - 1, born + 66, _PRESENT))

    def _works(self, count: int) -> None:
        draws = self._draws
        authors = [person for person in self._people if person.entity.description in _WORKS]
        known: set[int] = set()
        novels: list[tuple[_Made, int]] = []
        for _ in range(count):
            author = draws.pick(authors)
            year, description = self._active(author), _WORKS[author.entity.description]
            earlier = [novel for novel, when in novels if when < year]
            source = draws.pick(earlier) if description in _ADAPTED and earlier and draws.chance(0.4) else None
            title = self._work_title()
            if source and draws.chance(0.5) and (source.entity.name, description) not in self._adapted:
                title = source.entity.name
                self._adapted.add((title, description))
            work = self._make(title, "work", description)
            self._tell(work, author=author, year=year)
            if source:
                self._tell(work, source_work=source)
            if description != "treatise":
                self._tell(work, setting=draws.pick(self._towns))
            if description == "novel":
                novels.append((work, year))
            if description == "painting":
                self._tell(work, museum=draws.pick(self._museums))
            dedicatee = self._someone(self._born[author.number] - 30, self._born[author.number] + 15, author)
            if dedicatee and draws.chance(0.3):
                self._tell(work, dedicatee=dedicatee)
            if author.number not in known:
                known.add(author.number)
                self._tell(author, masterpiece=work)

    def _work_title(self) -> str:
        draws = self._draws
        while True:
            adjective, noun, other = draws.pick(_ADJECTIVES), draws.pick(_NOUNS), draws.pick(_NOUNS)
            town = draws.pick(self._towns).entity.name
            title = draws.pick(_TITLES).format(adjective=adjective, noun=noun, other=other, town=town)
            # No two titles of the same words, such as "The Bell and the Key" and "Key without Bell".
            words = " ".join(sorted(word for word in title.split() if word[0].isupper() and word not in ("The", "One")))
            if noun != other and self._names.claim(words):
                return title

    def _landmarks(self, count: int) -> None:
        draws = self._draws
        architects = [person for person in self._people if person.entity.description == "architect"]
        for _ in range(count):
            architect, description, town = (
                draws.pick(architects),
                draws.pick(tuple(_LANDMARKS)),
                draws.pick(self._towns),
            )
            year = self._active(architect)
            honoured = self._someone(1760, year - 30, architect)
            family = honoured.entity.name.split()[-1] if honoured else ""
            after = honoured and draws.chance(0.5)
            name = f"{family if after else town.entity.name} {_LANDMARKS[description]}"
            if self._names.claim(name):
                landmark = self._make(name, "landmark", description)
                self._tell(landmark, site=town, architect=architect, completed=year)
                if honoured and after:
                    self._tell(landmark, namesake=honoured)

    def _awards(self, count: int) -> None:
        draws = self._draws
        for _ in range(count):
            giver, established = draws.pick(self._others)
            honoured = self._someone(1760, 1900)
            assert honoured is not None
            year = max(established, self._died[honoured.number]) + draws.between(2, 25)
            winner = self._someone(year - 60, year - 28, honoured)
            name = f"{honoured.entity.name.split()[-1]} {draws.pick(_PRIZES)}"
            if winner and year <= _PRESENT and self._names.claim(name):
                award = self._make(name, "award", "prize")
                self._tell(award, honours=honoured, giver=giver, first_year=year, first_winner=winner)


_TITLES: Final = (
    "The {adjective} {noun}", "The {adjective} {noun}", "The {adjective} {noun}", "{adjective} {noun}",
    "The {noun} and the {other}", "The {noun} of {town}", "One {noun} for the {other}", "{noun} without {other}",
)  # fmt: skip


def _titled(made: Sequence[_Made], facts: Sequence[_Untitled]) -> tuple[list[Entity], list[Fact]]:
    """Qualify names that several have, and drop aliases that are not one entity's alone."""
    owners = Counter(name for each in made for name in {each.entity.name, *each.aliases})
    titles, entities = {}, []
    for number, entity, aliases in made:
        title = entity.name if owners[entity.name] == 1 else f"{entity.name} ({entity.description})"
        names = (entity.name, *(alias for alias in aliases if owners[alias] == 1))
        titles[number] = title
        entities.append(replace(entity, title=title, names=names))
    told = [
        Fact(titles[subject], relation, value if isinstance(value, str) else titles[value])
        for subject, relation, value in facts
    ]
    return entities, told
