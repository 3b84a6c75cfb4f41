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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar, overload

from agentgym_prm.draws import uniform
from agentgym_prm.envs.webshop.catalog import Catalogue
from agentgym_prm.envs.webshop.product import Product
from agentgym_prm.errors import UnknownNameError

SPLITS: Final = ("train", "valid", "test")
NO_LIMIT: Final = 1_000_000.0
_SHUFFLE_SEED: Final = 233
_TEST, _VALID = 500, 1500
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


def human_goals(catalogue: Catalogue, seed: int = 0) -> Sequence[Goal]:
    """Goals in people's words, in the order of the products.

    Args:
        catalogue: The products.
        seed: Decides the price limits.
    """
    raise NotImplementedError


def synthetic_goals(catalogue: Catalogue, seed: int = 0) -> Sequence[Goal]:
    """Goals made of attributes: one for every combination of a product's options, in the order of the products."""
    raise NotImplementedError


def official_split(goals: Sequence[_T], split: str) -> Sequence[_T]:
    """The goals of a split: shuffled, then the first 500 are ``test``, the next 1,000 ``valid``, the rest ``train``.

    Raises:
        UnknownNameError: No such split.
        ValueError: The split has no goals, because there are too few.
    """
    raise NotImplementedError
