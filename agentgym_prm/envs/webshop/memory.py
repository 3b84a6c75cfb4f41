"""What the texts of a shopping episode have told so far, in a form short enough to be shown at every turn.

It reads observations (modes ``text_rich`` and ``text``), admissible commands and the commands given, and draws no
conclusions about what is worth buying.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Final, Self

BUY, BACK, NEXT, PREVIOUS = "buy now", "back to search", "next >", "< prev"
SUB_PAGES: Final = ("description", "features", "reviews", "attributes")
_BUTTONS: Final = frozenset({BUY, BACK, NEXT, PREVIOUS, *SUB_PAGES})
_COMMAND: Final = re.compile(r"(search|click)\[(.+)\]", re.DOTALL)
_PRICE: Final = re.compile(r"\$(\d[\d.]*)(?: to \$(\d[\d.]*))?$")
_PAGE: Final = re.compile(r"Page (\d+) \(Total results: (\d+)\)")
_MARKS: Final = re.compile(r"^\[(?:clicked )?button\] (.*) \[(?:clicked )?button_\]$", re.DOTALL)
_LIMIT: Final = re.compile(
    r"[,. ]*(?:and )?(?:the )?(?:price )?(?:under|below|lower than|less than|cheaper than|at most|up to)"
    r" \$?(\d+(?:\.\d+)?)(?: dollars)?"
)
_WORD: Final = re.compile(r"\d+\.\d+[a-z0-9]*|[a-z0-9]+")
_NAME: Final = r"(?:(?!with |and )[a-z]+ ){0,3}[a-z]+"
_NAMED: Final = re.compile(rf"(?: with|,? and) ({_NAME}): ([^:]+?)(?=,? and {_NAME}: |$)")
STOP_WORDS: Final = frozenset(
    """a about after also am an and any are as at be been but buy by can could dollars do find for friend from get give
    good has have help hello hi i if ideally in is it its let like looking look me must my need needs new of offers on
    one or order other perfect please preferably price prefer s search shop shopping should show so some something t
    that the them there these they this those time to too today try us use used very want wants was we what which will
    with would you your interested missing went replace made make asked care ones possible""".split()  # noqa: SIM905  a list of a hundred strings is harder to read
)


def words(text: str) -> tuple[str, ...]:
    """The runs of letters and digits in a text, lower-case, in order, with repeats; decimal points are kept.

    >>> words("Black1901, 10.5-inch")
    ('black1901', '10.5', 'inch')
    """
    return tuple(_WORD.findall(text.lower()))


def stem(word: str) -> str:
    """A word without the endings of plurals.

    >>> stem("brushes"), stem("glass"), stem("berries")
    ('brush', 'glass', 'berry')
    """
    if len(word) < 4 or not word.endswith("s") or word.endswith("ss"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("shes", "ches", "sses", "xes")) else word[:-1]


@dataclass(frozen=True)
class Wish:
    """What an instruction says, as far as single words tell.

    Attributes:
        text: The instruction in lower case, without the price limit.
        limit: Highest price in dollars; ``None`` if it names none.
        named: Options that it states as ``name: value``, as synthetic goals do.
    """

    text: str
    limit: float | None
    named: tuple[tuple[str, str], ...] = ()

    @classmethod
    @lru_cache(4096)
    def of(cls, instruction: str) -> "Wish":
        """Read an instruction.

        >>> Wish.of("find a red mug, and price lower than 20.00 dollars")
        Wish(text='find a red mug', limit=20.0, named=())
        """
        text, limit = instruction.lower(), None
        if found := list(_LIMIT.finditer(text)):
            last = found[-1]
            text, limit = (text[: last.start()] + text[last.end() :]).strip(), float(last[1])
        return cls(text, limit, tuple(_NAMED.findall(text)))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words that say what is wanted, in order, without repeats."""
        return tuple(dict.fromkeys(word for word in words(self.text) if word not in STOP_WORDS))

    @cached_property
    def stems(self) -> frozenset[str]:
        """The words without the endings of plurals."""
        return frozenset(map(stem, self.words))

    @cached_property
    def free_words(self) -> tuple[str, ...]:
        """Those of the words that stand before the named options."""
        start = self.text.find(f" with {self.named[0][0]}: ") if self.named else -1
        told = words(self.text[:start] if start >= 0 else self.text)
        return tuple(dict.fromkeys(word for word in told if word not in STOP_WORDS))

    @cached_property
    def searches(self) -> tuple[str, ...]:
        """Keywords worth searching for: all those words, then the first and the second half of them."""
        half = (len(self.words) + 1) // 2
        parts = (self.words, self.words[:half], self.words[half:])
        return tuple(dict.fromkeys(" ".join(part) for part in parts if part)) or ("anything",)


def suggested_searches(instruction: str) -> tuple[str, ...]:
    """Keywords worth searching for, out of the instruction's own words: all that matter, then their halves.

    >>> suggested_searches("find a soft wool scarf in red under 20 dollars")
    ('soft wool scarf red', 'soft wool', 'scarf red')
    """
    return Wish.of(instruction).searches


@dataclass(frozen=True, slots=True)
class Offer:
    """A product as far as it has been seen: on a page of results, and from the inside once it was opened.

    Attributes:
        asin: Its id, lower-case as it is clicked.
        title: Its name.
        price: Lowest and highest price in dollars; ``None`` if none was shown.
        search: Number of the search that found it last, from 1.
        page: Page of those results.
        rank: Place on that page, from 0.
        opened: Whether its own page was seen; only then ``options`` are known.
        options: Name to values, as they are clicked.
        details: Sub-pages that were read: name to text.
    """

    asin: str
    title: str
    price: tuple[float, float] | None
    search: int = 0
    page: int = 0
    rank: int = 0
    opened: bool = False
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All that was read of it."""
        options = (f"{name}: {value}" for name, values in self.options.items() for value in values)
        return "\n".join((self.title, *options, *self.details.values()))

    def over(self, limit: float | None) -> bool:
        """Whether it may cost more than ``limit`` dollars: on average, where a range is given."""
        return limit is not None and self.price is not None and sum(self.price) / 2 > limit


class ShopMemory:
    """Reads an episode turn by turn.

    Attributes:
        wish: The instruction.
        page: ``"search"``, ``"results"``, ``"item"``, the name of a sub-page, or ``"done"``.
        searches: Keywords of the searches so far.
        number: Page of the results shown last, from 1.
        total: How many results that search has.
        results: Ids of the products on that page.
        offers: All products seen so far, by id.
        asin: The product whose page, or sub-page, is on show; ``""`` elsewhere.
        chosen: Options chosen for it, name to value.
        last: The last commands, at most three.
        turns: How many commands were given.
        suggestions: Keywords that the environment lists as searches, if it does.
    """

    def __init__(self, task: str) -> None:
        self.wish = Wish.of(task)
        self.page = "search"
        self.searches: tuple[str, ...] = ()
        self.number, self.total = 1, 0
        self.results: tuple[str, ...] = ()
        self.offers: dict[str, Offer] = {}
        self.asin = ""
        self.chosen: dict[str, str] = {}
        self.last: tuple[str, ...] = ()
        self.turns = 0
        self.suggestions: tuple[str, ...] = ()

    @classmethod
    def begin(cls, task: str, observation: str, admissible: Sequence[str]) -> Self:
        """After the opening."""
        memory = cls(task)
        memory._see(observation, admissible)
        return memory

    def observe(self, command: str, observation: str, admissible: Sequence[str]) -> None:
        """Take in a turn."""
        self.last = (*self.last, command)[-3:]
        self.turns += 1
        if (match := _COMMAND.fullmatch(command)) and admissible:
            self._follow(match[1], match[2].lower(), _arguments(tuple(admissible)))
        self._see(observation, admissible)

    def copy(self) -> Self:
        """An independent one that has read as much."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.offers, twin.chosen = self.offers.copy(), self.chosen.copy()
        return twin

    @property
    def offer(self) -> Offer | None:
        """The product on show."""
        return self.offers.get(self.asin)

    @property
    def listed(self) -> list[Offer]:
        """The products on the page of results shown last."""
        return [self.offers[asin] for asin in self.results]

    def promising(self, count: int) -> list[Offer]:
        """Of the products on the page of results the ``count`` whose titles share most words with the instruction.

        They come in the page's order; of equally good ones the first are taken.
        """
        ranked = sorted(self.listed, key=lambda offer: -len(self.shared(offer.title).split()))
        return sorted(ranked[:count], key=lambda offer: offer.rank)

    def shared(self, text: str) -> str:
        """The words of a text that the instruction has too, in the text's order, without repeats."""
        wanted = self.wish.stems
        return " ".join(dict.fromkeys(word for word in words(text) if stem(word) in wanted))

    def _follow(self, verb: str, argument: str, now: Mapping[str, str]) -> None:
        """What a command did to what is not shown: keywords, the product opened, the options chosen."""
        if verb == "search" and BACK in now:
            self.searches = (*self.searches, argument)
        elif argument in self.results and self.page == "results" and BUY in now:
            self.asin, self.chosen = argument, {}
        elif self.page == "item" and self.offer and BUY in now:
            for name, values in self.offer.options.items():
                if argument in values:
                    self.chosen[name] = argument

    def _see(self, observation: str, admissible: Sequence[str]) -> None:
        clicks = _arguments(tuple(admissible))
        texts = list(_texts(observation))
        self.suggestions = suggestions(tuple(admissible))
        if any(command.startswith("search[") for command in admissible):
            self.page, self.asin, self.chosen = "search", "", {}
        elif NEXT in clicks and BUY not in clicks:
            self.page, self.asin, self.chosen = "results", "", {}
            self._read_results(texts, clicks)
        elif BUY in clicks:
            self.page = "item"
            self._read_item(texts, clicks)
        elif PREVIOUS in clicks:
            self._read_sub_page(texts)
        elif BACK not in clicks:
            self.page = "done"

    def _read_results(self, texts: Sequence[str], clicks: Mapping[str, str]) -> None:
        for text in texts:
            if match := _PAGE.fullmatch(text):
                self.number, self.total = int(match[1]), int(match[2])
        found: dict[str, list[str]] = {}
        for text in texts:
            if text.lower() in clicks and text.lower() not in _BUTTONS and text.lower() not in found:
                found[text.lower()] = []
            elif found:
                found[next(reversed(found))].append(text)
        for rank, (asin, about) in enumerate(found.items()):
            price = _price(about[-1]) if about else None
            title = " ".join(about[:-1] if price else about)
            old = self.offers.get(asin) or Offer(asin, title, price)
            self.offers[asin] = replace(old, search=len(self.searches), page=self.number, rank=rank)
        self.results = tuple(found)

    def _read_item(self, texts: Sequence[str], clicks: Mapping[str, str]) -> None:
        end = next((place for place, text in enumerate(texts) if text.startswith("Price: ")), len(texts))
        start = next((place for place, text in enumerate(texts) if text.lower() == PREVIOUS), 0)
        options: dict[str, list[str]] = {}
        names: list[str] = []
        for text in texts[start + 1 : end]:
            if (value := clicks.get(" ".join(text.lower().split()))) is None:
                names.append(text)
            elif names:
                options.setdefault(names[-1], []).append(value)
                names = names[-1:]
        title = " ".join(name for name in names if name not in options)
        price = _price(texts[end]) if end < len(texts) else None
        old = self.offers.get(self.asin) or Offer(self.asin, title, price)
        values = {name: tuple(each) for name, each in options.items()}
        self.offers[self.asin] = replace(old, opened=True, options=values, price=price or old.price)

    def _read_sub_page(self, texts: Sequence[str]) -> None:
        self.page = _clicked(self.last[-1]) if self.last else ""
        start = next((place for place, text in enumerate(texts) if text.lower() == PREVIOUS), 0)
        if offer := self.offer:
            details = {**offer.details, self.page: "\n".join(texts[start + 1 :])}
            self.offers[self.asin] = replace(offer, details=details)


def _texts(observation: str) -> Iterator[str]:
    """The visible texts of a page in order, without the marks of buttons."""
    parts: Iterable[str] = observation.split(" [SEP] " if " [SEP] " in observation else "\n")
    for part in parts:
        text = part.strip()
        if match := _MARKS.match(text):
            text = match[1].strip()
        if text:
            yield text


def _price(text: str) -> tuple[float, float] | None:
    if match := _PRICE.search(text):
        return float(match[1]), float(match[2] or match[1])
    return None


def _clicked(command: str) -> str:
    match = _COMMAND.fullmatch(command)
    return match[2].lower() if match else ""


@lru_cache(4096)
def _arguments(admissible: tuple[str, ...]) -> dict[str, str]:
    """What can be clicked: with single spaces, to as it is."""
    clicks = (match[2] for command in admissible if (match := _COMMAND.fullmatch(command)) and match[1] == "click")
    return {" ".join(argument.lower().split()): argument for argument in clicks}


@lru_cache(4096)
def suggestions(admissible: tuple[str, ...]) -> tuple[str, ...]:
    """Keywords of the searches among admissible commands; the pattern that stands for any search is none."""
    searches = (match[2] for command in admissible if (match := _COMMAND.fullmatch(command)) and match[1] == "search")
    return tuple(keywords for keywords in searches if not keywords.startswith("<"))
