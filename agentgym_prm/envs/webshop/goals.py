"""What is asked for: the benchmark's human and synthetic goals, and its split.

As in the original, goals without attributes are left out, a synthetic goal is made for every combination of a product's
options, and the list is shuffled with seed 233 before it is split. One departure: the original draws price limits
before it sets its seed, so its goals differ from run to run; here a limit follows from the seed and the product.
"""

import hashlib
import itertools
import math
import random
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar, overload

from agentgym_prm.draws import uniform
from agentgym_prm.envs.webshop.catalog import Catalogue
from agentgym_prm.envs.webshop.product import Product
from agentgym_prm.errors import DataNotFoundError, UnknownNameError

NO_LIMIT: Final = 1_000_000.0
_SHUFFLE_SEED: Final = 233
_SPANS: Final = {"test": slice(0, 500), "valid": slice(500, 1500), "train": slice(1500, None)}
_MOST_GOALS: Final = 1 << 26
SPLITS: Final = ("train", "valid", "test")
_LIMITS: Final = tuple(10.0 * tens for tens in range(1, 100))
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Goal:
    """What an instruction asks for.

    Attributes:
        asin: The product that the goal was made from; buying another one may be worth as much.
        category: That product's, as the following three.
        query: See above.
        name: The title.
        product_category: See above.
        instruction: The sentence that is shown, with the price limit.
        attributes: What the product has to be like; at least one.
        price_upper: It must not cost more, in dollars; 1,000,000 if there is no limit.
        options: Values that have to be chosen (human goals), or name and value of each option (synthetic ones).
        weight: For drawing goals: human ones weigh 1, synthetic ones more if their attributes are rare.
        goal_id: ``human/ASIN/NUMBER`` or ``synthetic/ASIN/NUMBER``, the same on every machine.
    """

    asin: str
    category: str
    query: str
    name: str
    product_category: str
    instruction: str
    attributes: tuple[str, ...]
    price_upper: float
    options: tuple[str, ...] | Mapping[str, str]
    weight: float
    goal_id: str

    def __post_init__(self) -> None:
        if not self.attributes:
            raise ValueError(f"a goal needs at least one attribute, {self.goal_id!r} has none")


@lru_cache(maxsize=8)
def human_goals(catalogue: Catalogue, seed: int = 0) -> Sequence[Goal]:
    """Goals in people's words, in the order of the products.

    Args:
        catalogue: The products.
        seed: Decides the price limits, together with the goal's id.
    """
    return tuple(
        _goal(
            product, f"human/{product.asin}/{number}", human.text.strip("."), human.attributes, human.options, 1.0, seed
        )
        for product in map(catalogue.product, catalogue.with_human_instructions)
        for number, human in enumerate(product.human_instructions)
        if human.attributes
    )


@lru_cache(maxsize=8)
def synthetic_goals(catalogue: Catalogue, seed: int = 0) -> Sequence[Goal]:
    """Goals made of attributes: one for each combination of a product's options, in the order of the products.

    Some products have very many combinations, so goals are made when they are asked for.

    Args:
        catalogue: The products.
        seed: Decides the price limits, together with the product: all goals of a product have the same.
    """
    return _SyntheticGoals(catalogue, seed)


class _SyntheticGoals(Sequence[Goal]):
    def __init__(self, catalogue: Catalogue, seed: int) -> None:
        self._catalogue, self._seed = catalogue, seed
        self._products: list[int] = []
        self._starts = [0]
        self._occurrences: Counter[str] = Counter()
        for index in catalogue.with_instruction:
            product = catalogue.product(index)
            combinations = math.prod(len(values) for values in product.options.values())
            if product.instruction_attributes:
                self._products.append(index)
                self._starts.append(self._starts[-1] + combinations)
                for attribute in product.instruction_attributes:
                    self._occurrences[attribute] += combinations

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Goal: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Goal]: ...
    def __getitem__(self, index: int | slice) -> Goal | Sequence[Goal]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        which = bisect_right(self._starts, place) - 1
        return self._make(self._catalogue.product(self._products[which]), place - self._starts[which])

    def _make(self, product: Product, number: int) -> Goal:
        """The goal of a product's combination ``number``: the last option, by name, turns fastest."""
        options: dict[str, str] = {}
        rest = number
        for name in sorted(product.options, reverse=True):
            rest, choice = divmod(rest, len(product.options[name]))
            options[name] = product.options[name][choice]
        options = dict(reversed(options.items()))
        wanted = ", and ".join(f"{name}: {value}" for name, value in options.items())
        attributes = product.instruction_attributes
        weight = sum(1.0 / self._occurrences[attribute] for attribute in attributes) / len(attributes)
        text = f"{product.instruction}{' with ' + wanted if wanted else ''}"
        return _goal(product, f"synthetic/{product.asin}/{number}", text, attributes, options, weight, self._seed)


def _goal(
    product: Product,
    goal_id: str,
    text: str,
    attributes: tuple[str, ...],
    options: tuple[str, ...] | Mapping[str, str],
    weight: float,
    seed: int,
) -> Goal:
    # All synthetic goals of a product share a limit, human ones have one each.
    limit = _price_limit(product.price, seed, goal_id if goal_id.startswith("human") else product.asin)
    return Goal(
        asin=product.asin,
        category=product.category,
        query=product.query,
        name=product.title,
        product_category=product.product_category,
        instruction=text + (f", and price lower than {limit:.2f} dollars" if limit < NO_LIMIT else ""),
        attributes=attributes,
        price_upper=limit,
        options=options,
        weight=weight,
        goal_id=goal_id,
    )


def _price_limit(price: float, seed: int, identity: str) -> float:
    """The larger of two different ones of the next four multiples of ten below 1,000; none if there are not two."""
    limits = [limit for limit in _LIMITS if limit > price][:4]
    pairs = list(itertools.combinations(limits, 2))
    if not pairs:
        return NO_LIMIT
    identity_number = int.from_bytes(hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest())
    return pairs[int(uniform(seed, identity_number) * len(pairs))][1]


def official_split(goals: Sequence[_T], split: str) -> Sequence[_T]:
    """The goals of a split: shuffled, then the first 500 are ``test``, the next 1,000 ``valid``, the rest ``train``.

    Raises:
        UnknownNameError: No such split.
        DataNotFoundError: The split has no goals, because there are too few.
        ValueError: More than 67 million goals: their order would not fit into memory, nor does the original's list.
    """
    if split not in SPLITS:
        raise UnknownNameError.of("split", split, SPLITS)
    if len(goals) > _MOST_GOALS:
        raise ValueError(
            f"{len(goals):,} goals are too many to be shuffled (at most {_MOST_GOALS:,}): take human goals, or "
            "fewer products"
        )
    order = _shuffled(len(goals))[_SPANS[split]]
    if not order:
        raise DataNotFoundError(
            f"the split {split!r} is empty: there are {len(goals):,} goals, of which the first 500 are 'test', the "
            "next 1,000 'valid' and the rest 'train'; goals='synthetic' are many more than goals='human'"
        )
    return _Chosen(goals, order)


@lru_cache(maxsize=8)
def _shuffled(count: int) -> "array[int]":
    order = array("I", range(count))
    random.Random(_SHUFFLE_SEED).shuffle(order)
    return order


class _Chosen(Sequence[_T]):
    """Some elements of a sequence, in another order."""

    def __init__(self, all_of_them: Sequence[_T], order: "array[int]") -> None:
        self._all, self._order = all_of_them, order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_T]: ...
    def __getitem__(self, index: int | slice) -> _T | Sequence[_T]:
        if isinstance(index, slice):
            return _Chosen(self._all, self._order[index])
        return self._all[self._order[index]]
