"""The products of a shop, in a fixed order, read-only and shared by all environments of a process."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from os import PathLike

from agentgym_prm.envs.webshop.product import HumanInstruction, Product, product_record
from agentgym_prm.errors import UnknownNameError

__all__ = ["Catalogue", "HumanInstruction", "Product", "catalogue_of", "open_catalogue"]


class Catalogue(ABC):
    """Products in a fixed order.

    Read-only and shared: a deep copy is the catalogue itself.

    Attributes:
        name: For reports and messages.
        skipped: How many products of the files were left out, by reason.
    """

    name: str
    skipped: Mapping[str, int]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def product(self, index: int) -> Product:
        """One product."""

    @abstractmethod
    def index(self, asin: str) -> int:
        """The index of a product; ``UnknownNameError`` if there is none."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of all products, as 64 hexadecimal digits."""

    @property
    @abstractmethod
    def with_human_instructions(self) -> Sequence[int]:
        """Indices of the products that human goals ask for."""

    @property
    @abstractmethod
    def with_instruction(self) -> Sequence[int]:
        """Indices of the products that synthetic goals ask for."""

    def price(self, index: int) -> float:
        """What a product costs, in dollars; see ``Product.price``."""
        return self.product(index).price

    def documents(self) -> Iterator[str]:
        """The text of each product that search indexes."""
        return (self.product(index).document for index in range(len(self)))

    def __deepcopy__(self, memo: dict[int, object]) -> "Catalogue":
        return self


class _InMemory(Catalogue):
    def __init__(self, products: Iterable[Product], name: str) -> None:
        self.name = name
        self.skipped = {}
        self._products = tuple(products)
        self._indices = {product.asin: index for index, product in enumerate(self._products)}
        if not self._products:
            raise ValueError(f"a catalogue needs at least one product, {name!r} has none")
        if len(self._indices) < len(self._products):
            raise ValueError(f"the products of {name!r} must have different asins")

    def __len__(self) -> int:
        return len(self._products)

    def product(self, index: int) -> Product:
        return self._products[index]

    def index(self, asin: str) -> int:
        try:
            return self._indices[asin]
        except KeyError:
            near = get_close_matches(asin, self._indices, n=1)
            raise _unknown_asin(self, asin, near) from None

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for product in self._products:
            digest.update(product_record(product))
        return digest.hexdigest()

    @cached_property
    def with_human_instructions(self) -> Sequence[int]:
        return [index for index, product in enumerate(self._products) if product.human_instructions]

    @cached_property
    def with_instruction(self) -> Sequence[int]:
        return [index for index, product in enumerate(self._products) if product.instruction is not None]

    def __reduce__(self) -> tuple[Callable[..., Catalogue], tuple[tuple[Product, ...], str]]:
        return catalogue_of, (self._products, self.name)


def catalogue_of(products: Iterable[Product], name: str) -> Catalogue:
    """A catalogue in memory.

    Raises:
        ValueError: No products, or two with the same asin.
    """
    return _InMemory(products, name)


def open_catalogue(folder_or_file: str | PathLike[str], *, num_products: int | None = None) -> Catalogue:
    """The benchmark's products."""
    raise NotImplementedError


def _unknown_asin(catalogue: Catalogue, asin: str, nearest: Sequence[str]) -> UnknownNameError:
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    return UnknownNameError(f"no product {asin!r} among the {len(catalogue)} of {catalogue.name}{hint}")
