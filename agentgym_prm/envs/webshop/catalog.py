"""The products of a shop, in a fixed order, read-only and shared by all environments of a process.

``catalogue_of`` keeps products in memory. ``open_catalogue`` reads the benchmark's files once, writes what is left of
them after cleaning to a cache on disk, and from then on maps that into memory and decodes a product when it is asked
for: opening takes milliseconds and little memory, also with a million products, and processes share the pages.

A cache belongs to the content of the files (and to the form in which it is written), so copies of the files at other
places share it. Hashing gigabytes takes a while: the hash is kept under path, size and time of change of each file.
A cache is written in a folder of its own and renamed when it is whole. What is cut off or altered is noticed, by sizes
and check sums, and written anew. To drop it, delete the folder: ``$AGENTGYM_PRM_CACHE``, or ``agentgym_prm`` in
``$XDG_CACHE_HOME`` or ``~/.cache``.
"""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from typing import Final

import numpy as np

from agentgym_prm.envs.webshop.cache import product_cache
from agentgym_prm.envs.webshop.official import ShopFiles, find_files
from agentgym_prm.envs.webshop.product import HumanInstruction, Product, product_of, product_record
from agentgym_prm.errors import UnknownNameError

__all__ = ["Catalogue", "HumanInstruction", "Product", "catalogue_of", "open_catalogue"]

_DECODED: Final = 4096
"""Products kept decoded, some 8 kB each."""
_logger = logging.getLogger(__name__)


class Catalogue(ABC):
    """Products in a fixed order.

    Read-only and shared: a deep copy is the catalogue itself, and unpickling an opened one opens its files again, once
    a process.

    Attributes:
        name: For reports and messages.
        skipped: How many products (or human instructions) of the files were left out, by reason.
    """

    name: str
    skipped: Mapping[str, int]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def product(self, index: int) -> Product:
        """One product; ``IndexError`` outside ``0 … len - 1``."""

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
        """Indices of the products that people were shown."""

    @property
    @abstractmethod
    def with_instruction(self) -> Sequence[int]:
        """Indices of the products with a sentence for synthetic goals."""

    def price(self, index: int) -> float:
        """What a product costs, in dollars; see ``Product.price``."""
        return self.product(index).price

    def documents(self) -> Iterator[str]:
        """The text of each product that search indexes."""
        return (self.product(index).document for index in range(len(self)))

    def __deepcopy__(self, memo: dict[int, object]) -> "Catalogue":
        return self

    def _unknown(self, asin: str, asins: Iterable[str]) -> UnknownNameError:
        near = get_close_matches(str(asin), asins, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return UnknownNameError(f"no product {asin!r} among the {len(self)} of {self.name}{hint}")


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
        if index < 0:
            raise IndexError(f"the index of a product must be in 0 … {len(self) - 1}, got {index}")
        return self._products[index]

    def index(self, asin: str) -> int:
        if asin not in self._indices:
            raise self._unknown(asin, self._indices)
        return self._indices[asin]

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(b"".join(product_record(product) + b"\n" for product in self._products)).hexdigest()

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


class _OnDisk(Catalogue):
    """A catalogue whose products lie in a cache folder."""

    def __init__(self, files: ShopFiles, num_products: int | None) -> None:
        self._files, self._num_products = files, num_products
        self.name = files.products.name + (f" (first {num_products:,})" if num_products is not None else "")
        self._cache = product_cache(files, num_products)
        self.skipped = self._cache.skipped
        self._decoded = lru_cache(maxsize=_DECODED)(self._decode)

    def __len__(self) -> int:
        return len(self._cache.checksums_N)

    def product(self, index: int) -> Product:
        if not 0 <= index < len(self):
            raise IndexError(f"the index of a product must be in 0 … {len(self) - 1}, got {index}")
        return self._decoded(index)

    def _decode(self, index: int) -> Product:
        record = self._cache.record(index)
        if record is None:
            _logger.warning("the cache of %s in %s is damaged: writing it anew", self.name, self._cache.folder)
            self._cache = product_cache(self._files, self._num_products, rewrite=True)
            record = self._cache.record(index)
        assert record is not None
        return product_of(record)

    def index(self, asin: str) -> int:
        order_N = self._cache.order_N
        place = int(np.searchsorted(self._cache.asins_N, asin, sorter=order_N))
        if place < len(self) and self._cache.asins_N[order_N[place]] == asin:
            return int(order_N[place])
        raise self._unknown(asin, self._cache.asins_N[order_N[max(place - 1, 0) : place + 1]].tolist())

    @property
    def fingerprint(self) -> str:
        return self._cache.fingerprint

    @property
    def with_human_instructions(self) -> Sequence[int]:
        return self._cache.human_N.tolist()  # type: ignore[no-any-return]

    @property
    def with_instruction(self) -> Sequence[int]:
        return self._cache.synthetic_N.tolist()  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Callable[..., Catalogue], tuple[Path, int | None]]:
        return _reopen, (self._files.products, self._num_products)


def open_catalogue(folder_or_file: str | PathLike[str], *, num_products: int | None = None) -> Catalogue:
    """The benchmark's products; the same object for the same files, so all environments share what is read.

    Args:
        folder_or_file: A product file (``items_shuffle*.json``, or ``.json.gz``) with the other two beside it, or the
            folder that holds all three.
        num_products: Take the first so many of the file, as the original does; ``None`` for all.

    Raises:
        DataNotFoundError: A file is not there.
        GameFormatError: A file is damaged, no product is left, or a folder has several product files.
        ValueError: ``num_products`` is not positive.
    """
    if num_products is not None and num_products < 1:
        raise ValueError(f"num_products must be positive, got {num_products}")
    files = find_files(Path(folder_or_file).expanduser().absolute(), num_products)
    stats = [path.stat() for path in files.paths]
    return _open(files, num_products, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))


def _reopen(products: Path, num_products: int | None) -> Catalogue:
    return open_catalogue(products, num_products=num_products)


@lru_cache(maxsize=16)
def _open(files: ShopFiles, num_products: int | None, state: tuple[tuple[int, int], ...]) -> Catalogue:
    """The catalogue of these files as they are, by sizes and times of change."""
    return _OnDisk(files, num_products)
