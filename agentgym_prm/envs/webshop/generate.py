"""Builtin shops: products and goals drawn by rule, the same on every machine, each goal satisfied by its own product.

``product(number, difficulty)`` and the goals are pure functions of their numbers, so a shop may have any size. Products
of one kind are nearly alike: they differ in attributes, options, price and brand, so shoppers have to compare them.

``full`` goods look like the benchmark's: long titles, attributes that only the features page tells, prices with cents
and ranges, up to two options, opaque ids. ``small`` goods have titles of three plain words (``soft wool scarf``) and
ids of a word and a number (``FOX3``). They come in twins that differ in price alone: goals of the cheap one cannot
afford the other.

What distinguishes the splits, which share one shop:

====== ============================ ============================================= ==========================
split  whose goals                  pairs of attributes that goals of a kind want sentences
====== ============================ ============================================= ==========================
train  of seven products in ten     all but ``held_out(kind)``                    the same as for valid
valid  of one in ten                all but ``held_out(kind)``
test   of two in ten                one of ``held_out(kind)``                     ``full``: others as well
====== ============================ ============================================= ==========================

A product whose goals are in one split has no goals in another; small twins are in the same. Pairs of attributes of a
kind are held out one in five. In the small shop they are held out altogether: only test products have them.

Every number comes from ``random.Random(text).random()``, which Python keeps stable across versions and platforms; a
change of the tables or of the order of the draws changes the shop and must bump ``VERSION``.
"""

import random
import re
import zlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from itertools import combinations
from itertools import product as cartesian
from typing import Final, TypeVar, overload

from agentgym_prm.envs.webshop.catalog import Catalogue, catalogue_of
from agentgym_prm.envs.webshop.goals import NO_LIMIT, SPLITS, Goal, synthetic_goals
from agentgym_prm.envs.webshop.goods import BRANDS, FULL_KINDS, SERIES, SMALL_IDS, SMALL_KINDS, Kind
from agentgym_prm.envs.webshop.product import Product
from agentgym_prm.errors import UnknownNameError

T = TypeVar("T")
Pair = frozenset[str]

VERSION: Final = "webshop-builtin-1"
DIFFICULTIES: Final = ("small", "full")
NUM_PRODUCTS: Final = {"small": 240, "full": 1000}
"""Products of a shop unless another number is asked for."""
GOALS_PER_PRODUCT: Final = 8
_HELD_OUT_EVERY = 5
_NO_FITTING_TENS = 960
"""From this price in dollars on, goals have no limit: as in the benchmark, limits end at 990 dollars."""

_SENTENCES = (
    "i am looking for {article}{name} with {attributes}{options}",
    "i need {article}{name}{options}, with {attributes}",
    "find me {attributes} {name}{options}",
    "please show me {article}{name} that offers {attributes}{options}",
    "i want to buy {attributes} {name} for {use}{options}",
    "my {name} went missing, so get me new {name}: {attributes}{options}",
    "could you order {article}{name}{options} for me, it has to be {attributes}",
    "looking for {name} for {use}, must have {attributes}{options}",
)
_TEST_SENTENCES = (
    "a friend asked me for {article}{name}{options}, and {attributes} would be perfect",
    "what i am after is {attributes}: {name}{options}",
    "time to replace my {name}. this time i would like {attributes}{options}",
)
_SMALL_SENTENCES = (
    "find a {attributes} {name}{options}{price}",
    "i want a {attributes} {name}{options}{price}",
    "buy a {attributes} {name}{options}{price}",
)
_CHOICES = {
    "color": " in {}",
    "size": ", size {}",
    "scent": ", {} scent",
    "flavor": ", {} flavor",
    "style": ", the {} style",
    "connector": " with {} connector",
    "configuration": ", {}",
}
_BULLETS = (
    "{attribute}: what buyers of our {name} ask for first, so we made sure of it",
    "{attribute} - checked piece by piece before it leaves our workshop",
    "{attribute}, and you will notice it from the first day on",
    "Thanks to {attribute} these {other} go well with {use}",
)


def product(number: int, difficulty: str) -> Product:
    """Product ``number`` of the shop.

    Args:
        number: From 0 on.
        difficulty: One of ``DIFFICULTIES``.

    Raises:
        UnknownNameError: No such difficulty.
        ValueError: ``number`` is negative.
    """
    if number < 0:
        raise ValueError(f"a product's number must be at least 0, got {number}")
    return _small_product(number) if _checked(difficulty) == "small" else _full_product(number)


def split_of(number: int, difficulty: str) -> str:
    """The split that goals of a product belong to."""
    if difficulty == "small":
        number = _small_family(number)
    return ("valid", "test", "test", *["train"] * 7)[zlib.crc32(f"{VERSION}/{difficulty}/{number}".encode()) % 10]


def builtin_catalogue(difficulty: str = "full", num_products: int | None = None) -> Catalogue:
    """The products of a shop: the first ``num_products``, by default ``NUM_PRODUCTS[difficulty]``.

    Raises:
        UnknownNameError: No such difficulty.
        ValueError: ``num_products`` is less than 1.
    """
    count = _count(difficulty, num_products)
    return catalogue_of((product(number, difficulty) for number in range(count)), f"builtin-{difficulty}-{count}")


class BuiltinGoals(Sequence[Goal]):
    """The goals of a split, made when they are asked for. Goals that follow each other ask for different products.

    Args:
        split: ``train``, ``valid`` or ``test``.
        difficulty: One of ``DIFFICULTIES``.
        num_products: Size of the shop; by default ``NUM_PRODUCTS[difficulty]``.

    Raises:
        UnknownNameError: No such split or difficulty.
        ValueError: ``num_products`` is less than 1, or so small that the split has no products.
    """

    def __init__(self, split: str, difficulty: str = "full", num_products: int | None = None) -> None:
        self._split, self._difficulty = split, difficulty
        self._numbers = _numbers(split, difficulty, _count(difficulty, num_products))

    def __len__(self) -> int:
        return len(self._numbers) * GOALS_PER_PRODUCT

    @overload
    def __getitem__(self, index: int) -> Goal: ...

    @overload
    def __getitem__(self, index: slice) -> list[Goal]: ...

    def __getitem__(self, index: int | slice) -> Goal | list[Goal]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"goal index must be in [0, {len(self)}), got {index}")
        repeat, position = divmod(index % len(self), len(self._numbers))
        return _goal(self._split, self._numbers[position], repeat, self._difficulty)

    def place(self, goal_id: str) -> int:
        """The index of the goal with this id; ``UnknownNameError`` if there is none."""
        match = re.fullmatch(rf"builtin-{self._difficulty}/{self._split}/(\d+)/(\d+)", goal_id, re.ASCII)
        number, repeat = map(int, match.groups()) if match else (-1, 0)
        position = bisect_left(self._numbers, number)
        if self._numbers[position : position + 1] != (number,) or repeat >= GOALS_PER_PRODUCT:
            raise UnknownNameError(f"no task {goal_id!r} among the {len(self)} of split {self._split!r}")
        return repeat * len(self._numbers) + position


def builtin_synthetic_goals(split: str, difficulty: str = "full", num_products: int | None = None) -> Sequence[Goal]:
    """Goals made of attributes and options, as the benchmark makes them, of the same products as ``BuiltinGoals``.

    Arguments and errors are those of ``BuiltinGoals``.
    """
    numbers = _numbers(split, difficulty, _count(difficulty, num_products))
    wanted = catalogue_of((product(number, difficulty) for number in numbers), f"builtin-{difficulty}-{split}")
    return synthetic_goals(wanted)


# --- drawing ---


def _checked(difficulty: str) -> str:
    if difficulty not in DIFFICULTIES:
        raise UnknownNameError.of("difficulty", difficulty, DIFFICULTIES)
    return difficulty


def _count(difficulty: str, num_products: int | None) -> int:
    count = NUM_PRODUCTS[_checked(difficulty)] if num_products is None else num_products
    if count < 1:
        raise ValueError(f"num_products must be at least 1, got {num_products}")
    return count


@lru_cache(maxsize=16)
def _numbers(split: str, difficulty: str, count: int) -> tuple[int, ...]:
    if split not in SPLITS:
        raise UnknownNameError.of("split", split, SPLITS)
    numbers = tuple(number for number in range(count) if split_of(number, difficulty) == split)
    if not numbers:
        raise ValueError(f"a shop of {count} products has none in split {split!r}: ask for more")
    return numbers


def _pick(rng: random.Random, items: Sequence[T]) -> T:
    return items[int(rng.random() * len(items))]


def _between(rng: random.Random, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    return low + int(rng.random() * (high - low + 1))


def _some(rng: random.Random, items: Sequence[T], count: int) -> list[T]:
    """``count`` different items in random order."""
    remaining = list(items)
    return [remaining.pop(int(rng.random() * len(remaining))) for _ in range(count)]


@cache
def held_out(kind: Kind) -> frozenset[Pair]:
    """The pairs of attributes of a kind that only test goals want."""
    pairs = _small_pairs(kind) if kind in SMALL_KINDS else list(combinations(kind.attributes, 2))
    first = zlib.crc32(kind.name.encode()) % _HELD_OUT_EVERY
    return frozenset(frozenset(pair) for pair in pairs[first::_HELD_OUT_EVERY])


# --- the full shop ---


def _full_product(number: int) -> Product:
    rng = random.Random(f"{VERSION}/full/product {number}")
    kind = FULL_KINDS[number % len(FULL_KINDS)]
    brand, series = _pick(rng, BRANDS), f"{_pick(rng, SERIES)} {_between(rng, 10, 999)}"
    attributes = _full_attributes(rng, kind, split_of(number, "full"))
    shown, told = attributes[:2], attributes[2:]
    use = _use(kind, number)
    title = (
        f"{brand} {kind.name.title()}, {shown[0].title()} {kind.other.title()} with {shown[1].title()} "
        f"for {use.title()}, {series}"
    )
    bullets = [
        _pick(rng, _BULLETS).format(attribute=attribute.capitalize(), name=kind.name, other=kind.other, use=use)
        for attribute in (*told, *shown)
    ]
    description = (
        f"The {series} by {brand}: {kind.name} made for {use}. "
        f"{brand} has made {kind.other} since {_between(rng, 1950, 2015)}."
    )
    pricing = _full_price(rng, kind)
    wanted = _wanted(rng, kind, attributes, _between(rng, 1, 3), split_of(number, "full"))
    return Product(
        asin=_full_asin(number),
        title=title,
        description=description,
        bullet_points=tuple(bullets),
        category=kind.category,
        query=kind.name,
        product_category=" › ".join(kind.path),
        pricing=pricing,
        price_tag=" to ".join(f"${price}" for price in pricing),
        options=_full_options(rng, kind),
        option_images={},
        attributes=tuple(attributes),
        image="",
        instruction=f"Search for {', '.join(wanted)} {kind.name}",
        instruction_attributes=tuple(wanted),
    )


def _use(kind: Kind, number: int) -> str:
    return kind.uses[number // len(FULL_KINDS) % len(kind.uses)]


def _full_asin(number: int) -> str:
    """Ten characters that tell nothing: multiplication by an odd number is one to one modulo a power of two."""
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    code = number * 0x5851F42D % 2**40
    return "B0" + "".join(digits[code >> 5 * place & 31] for place in range(8))


def _full_attributes(rng: random.Random, kind: Kind, split: str) -> list[str]:
    """Four to six; test products have a pair that is held out."""
    first = list(_pick(rng, sorted(map(sorted, held_out(kind))))) if split == "test" else []
    others = [attribute for attribute in kind.attributes if attribute not in first]
    drawn = first + _some(rng, others, _between(rng, 4, 6) - len(first))
    return _some(rng, drawn, len(drawn))


def _full_price(rng: random.Random, kind: Kind) -> tuple[float, ...]:
    low, high = kind.price
    # Squared, so that most goods of a kind are rather cheap.
    price = round(low + (high - low) * rng.random() ** 2) + _pick(rng, (0.0, 0.49, 0.95, 0.99))
    if rng.random() < 0.15:
        return round(price, 2), round(price * (1.2 + 0.6 * rng.random()), 2)
    return (round(price, 2),)


def _full_options(rng: random.Random, kind: Kind) -> Mapping[str, tuple[str, ...]]:
    options: dict[str, tuple[str, ...]] = {}
    for name, values in kind.options.items():
        if rng.random() < 0.8:
            chosen = _some(rng, range(len(values)), min(len(values), _between(rng, 2, 6)))
            options[name] = tuple(values[position] for position in sorted(chosen))
    return options


# --- the small shop ---


def _small_pairs(kind: Kind) -> list[tuple[str, str]]:
    """How it is, and what it is made of."""
    return list(cartesian(kind.attributes[:3], kind.attributes[3:]))


def _small_family(number: int) -> int:
    """The number of the older twin; a kind's members are ``len(SMALL_KINDS)`` apart."""
    member, kind = divmod(number, len(SMALL_KINDS))
    return (member - member % 2) * len(SMALL_KINDS) + kind


def _small_product(number: int) -> Product:
    kind = SMALL_KINDS[number % len(SMALL_KINDS)]
    family = _small_family(number)
    # Twins draw alike, and only then apart.
    rng = random.Random(f"{VERSION}/small/family {family}")
    pairs = [
        pair
        for pair in _small_pairs(kind)
        if (frozenset(pair) in held_out(kind)) == (split_of(number, "small") == "test")
    ]
    attributes = _pick(rng, pairs)
    options = {
        name: tuple(values[i] for i in sorted(_some(rng, range(len(values)), 3)))
        for name, values in kind.options.items()
    }
    cheap = 5 * _between(rng, kind.price[0] // 5, kind.price[1] // 5)
    dear = cheap + 10 * _between(rng, 3, 5)
    price = float(dear if (family != number) ^ (rng.random() < 0.5) else cheap)
    title = f"{attributes[0]} {attributes[1]} {kind.name}"
    return Product(
        asin=f"{SMALL_IDS[number % len(SMALL_IDS)]}{number // len(SMALL_IDS)}",
        title=title,
        description="",
        bullet_points=(f"this {kind.name} is {attributes[0]} and {attributes[1]}",),
        category=kind.category,
        query=kind.name,
        product_category=" › ".join(kind.path),
        pricing=(price,),
        price_tag=f"${price}",
        options=options,
        option_images={},
        attributes=attributes,
        image="",
        instruction=f"Search for {title}",
        instruction_attributes=attributes,
    )


# --- goals ---


def _goal(split: str, number: int, repeat: int, difficulty: str) -> Goal:
    own = product(number, difficulty)
    rng = random.Random(f"{VERSION}/{difficulty}/goal {number}/{repeat}")
    kinds = SMALL_KINDS if difficulty == "small" else FULL_KINDS
    kind = kinds[number % len(kinds)]
    fewest = 2 if split == "test" else 1
    attributes = _wanted(rng, kind, own.attributes, _between(rng, fewest, 2 if difficulty == "small" else 3), split)
    options = _wanted_options(rng, own.options, difficulty)
    limit = _limit(rng, own.price, difficulty)
    if difficulty == "small":
        attributes.sort(key=own.attributes.index)  # "soft wool", never "wool soft"
        sentence = _pick(rng, _SMALL_SENTENCES)
        joined, price = " ".join(attributes), f" under {limit:.0f} dollars"
    else:
        sentence = _pick(rng, _SENTENCES + _TEST_SENTENCES if split == "test" else _SENTENCES)
        joined = " and ".join(attributes) if len(attributes) < 3 else "{}, {} and {}".format(*attributes)
        price = f", and price lower than {limit:.2f} dollars" if limit < NO_LIMIT else ""
        sentence += "{price}"
    instruction = sentence.format(
        article=kind.article,
        name=kind.name,
        attributes=joined,
        options="".join(_CHOICES[name].format(value) for name, value in options.items()),
        use=_use(kind, number),
        price=price,
    )
    return Goal(
        asin=own.asin,
        category=own.category,
        query=own.query,
        name=own.title,
        product_category=own.product_category,
        instruction=instruction,
        attributes=tuple(attributes),
        price_upper=limit,
        options=tuple(options.values()),
        weight=1.0,
        goal_id=f"builtin-{difficulty}/{split}/{number}/{repeat}",
    )


def _wanted(rng: random.Random, kind: Kind, attributes: Sequence[str], count: int, split: str) -> list[str]:
    """Up to ``count`` of a product's attributes: with a held-out pair in test, without one elsewhere."""
    pairs = held_out(kind)
    if split == "test":
        wanted = list(_pick(rng, [pair for pair in combinations(attributes, 2) if frozenset(pair) in pairs]))
        others = [attribute for attribute in attributes if attribute not in wanted]
        return wanted + _some(rng, others, max(0, count - 2))
    wanted = []
    for attribute in _some(rng, attributes, len(attributes)):
        if len(wanted) < count and not any(frozenset((attribute, other)) in pairs for other in wanted):
            wanted.append(attribute)
    return wanted


def _wanted_options(rng: random.Random, options: Mapping[str, tuple[str, ...]], difficulty: str) -> dict[str, str]:
    share = {"color": 1.0, "size": 0.5} if difficulty == "small" else {}
    return {name: _pick(rng, values) for name, values in options.items() if rng.random() < share.get(name, 0.7)}


def _limit(rng: random.Random, price: float, difficulty: str) -> float:
    """In the full shop one of the next multiples of ten as in the benchmark; in the small one 5 to 20 dollars above."""
    if difficulty == "small":
        return price + 5 * _between(rng, 1, 4)
    if price >= _NO_FITTING_TENS:
        return NO_LIMIT
    return 10.0 * (int(price // 10) + _between(rng, 2, 4))
