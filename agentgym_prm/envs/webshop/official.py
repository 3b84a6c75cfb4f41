"""The benchmark's three files: where they are, reading them piece by piece, and the cleaning of its engine.

==================  ==========================  =============================================================
file                found as                    holds
==================  ==========================  =============================================================
products            ``items_shuffle*.json``     an array of products as they were listed
attributes          ``items_ins_v2*.json``      asin to attributes and the synthetic goals' instruction
human goals         ``items_human_ins*.json``   asin to what people asked for; may be absent
==================  ==========================  =============================================================

Each may be gzip-compressed (``.gz``). The cleaning is the original's, to the letter: asins ``"nan"`` or of more than
ten characters and all but the first product of an asin are left out, option names and values are lower-cased, ``/``
becomes ``" | "``, a price that is missing is 100 dollars. Where the original would stop with an exception, at a
product that lacks a field or whose price has no dollar sign, the product is left out and counted, with the reason.
"""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, TextIO

from agentgym_prm.envs.webshop.product import HumanInstruction, Product
from agentgym_prm.errors import DataNotFoundError, GameFormatError

_PRODUCTS, _ATTRIBUTES, _HUMAN = "items_shuffle", "items_ins_v2", "items_human_ins"
_SUFFIXES: Final = (".json", ".json.gz")
_CHUNK: Final = 1 << 20
_LARGEST: Final = 1 << 26
"""Characters of the largest element that is waited for: a damaged file is noticed before it fills the memory."""
_DEFAULT_PRICE: Final = 100.0
_NO_ATTRIBUTES: Final = ("DUMMY_ATTR",)
_LONGEST_ASIN: Final = 10
_BLANK: Final = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class ShopFiles:
    """The files of one catalogue."""

    products: Path
    attributes: Path
    human: Path | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Those that are there."""
        return tuple(path for path in (self.products, self.attributes, self.human) if path)


def find_files(folder_or_file: Path, num_products: int | None) -> ShopFiles:
    """The files in a folder (or in the folder ``data`` in it), or those beside a product file.

    Of several product files in a folder, ``items_shuffle_N.json`` is the one for ``num_products=N``, and otherwise
    ``items_shuffle.json`` is taken, from which any number can be. Attributes and human goals come from the files
    with the same ending as the product file, or from those without.

    Raises:
        DataNotFoundError: No such folder or file, or a file is missing.
        GameFormatError: Several product files, and nothing says which.
    """
    if folder_or_file.is_dir():
        products = _product_file(folder_or_file, num_products)
    elif folder_or_file.is_file():
        products = folder_or_file
    else:
        raise DataNotFoundError(f"no file or folder {folder_or_file}")
    ending = _stem(products).removeprefix(_PRODUCTS)
    attributes = _beside(products, _ATTRIBUTES, ending)
    if attributes is None:
        raise DataNotFoundError(f"no {_ATTRIBUTES}{ending}.json or {_ATTRIBUTES}.json (or .gz) beside {products}")
    return ShopFiles(products, attributes, _beside(products, _HUMAN, ending))


def _product_file(folder: Path, num_products: int | None) -> Path:
    candidates: dict[str, Path] = {}
    for place in (folder, folder / "data"):
        for suffix in _SUFFIXES:
            for path in sorted(place.glob(f"{_PRODUCTS}*{suffix}")):
                candidates.setdefault(_stem(path), path)
        if candidates:
            break
    else:
        raise DataNotFoundError(f"no {_PRODUCTS}*.json or .json.gz in {folder}: WebShop's setup.sh downloads them")
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if num_products is not None:
        for stem in (f"{_PRODUCTS}_{num_products}", _PRODUCTS):
            if stem in candidates:
                return candidates[stem]
    names = ", ".join(path.name for path in candidates.values())
    raise GameFormatError(f"{folder} holds several product files ({names}): name one of them, or state num_products")


def _beside(products: Path, name: str, ending: str) -> Path | None:
    paths = [products.with_name(f"{name}{end}{suffix}") for end in (ending, "") for suffix in _SUFFIXES]
    return next((path for path in paths if path.is_file()), None)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".json")


class ProductReader:
    """Iterates over the cleaned products of the files, once; ``skipped`` fills on the way.

    Products are read piece by piece; of the other two files the text of each entry is held.

    Args:
        files: The files.
        num_products: How many elements of the product file to read, ``None`` for all; counted, as in the original,
            before any is left out.
    """

    def __init__(self, files: ShopFiles, num_products: int | None) -> None:
        self._files, self._num_products = files, num_products
        self.skipped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Product]:
        attributes = dict(stream_object(self._files.attributes))
        human = dict(stream_object(self._files.human)) if self._files.human else {}
        seen: set[str] = set()
        for number, raw in enumerate(stream_array(self._files.products)):
            if number == self._num_products:
                break
            try:
                asin = _new_asin(raw, seen)
                about, people = json.loads(attributes.get(asin, "{}")), json.loads(human.get(asin, "[]"))
                yield _clean(raw, about, tuple(self._human_instructions(people)))
            except _UnusableError as reason:
                self.skipped[str(reason)] += 1

    def _human_instructions(self, people: Any) -> Iterator[HumanInstruction]:
        for human in people if isinstance(people, list) else [people]:
            try:
                yield HumanInstruction(
                    _text(human, "instruction"),
                    _texts(human.get("instruction_attributes"), "instruction_attributes"),
                    _texts(human.get("instruction_options"), "instruction_options"),
                )
            except _UnusableError as reason:
                self.skipped[f"human instruction: {reason}"] += 1


class _UnusableError(Exception):
    """Why a product is left out."""


def _new_asin(raw: Any, seen: set[str]) -> str:
    asin = _text(raw, "asin")
    if asin == "nan" or len(asin) > _LONGEST_ASIN:
        raise _UnusableError(f"asin is 'nan' or longer than {_LONGEST_ASIN} characters")
    if asin in seen:
        raise _UnusableError("asin occurred before")
    seen.add(asin)
    return asin


def _clean(raw: Mapping[str, Any], about: Any, people: tuple[HumanInstruction, ...]) -> Product:
    """The product of a raw record, its entry in the attribute file and what people asked for."""
    if not isinstance(about, dict):
        raise _UnusableError("its entry in the attribute file is not an object")
    bullet_points = raw.get("small_description")
    texts = _texts([bullet_points] if isinstance(bullet_points, str) else bullet_points, "small_description")
    if not texts:
        raise _UnusableError("small_description is empty")
    pricing, price_tag = _pricing(raw.get("pricing"))
    options, option_images = _options(raw.get("customization_options"))
    return Product(
        asin=raw["asin"],
        title=_text(raw, "name"),
        description=_text(raw, "full_description"),
        bullet_points=texts,
        category=_text(raw, "category"),
        query=_text(raw, "query").lower().strip(),
        product_category=_text(raw, "product_category"),
        pricing=pricing,
        price_tag=price_tag,
        options=options,
        option_images=option_images,
        attributes=_texts(about["attributes"], "attributes") if "attributes" in about else _NO_ATTRIBUTES,
        image=_first_image(raw.get("images")),
        instruction=None if about.get("instruction") is None else _text(about, "instruction"),
        instruction_attributes=_texts(about.get("instruction_attributes") or [], "instruction_attributes"),
        human_instructions=people,
    )


def _text(record: Any, key: str) -> str:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, str):
        raise _UnusableError(f"{key} is not a text")
    return value


def _texts(values: Any, key: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _UnusableError(f"{key} is not a list of texts")
    return tuple(values)


def _first_image(images: Any) -> str:
    # A text has a first element, too: the original then takes its first letter for an address.
    if not isinstance(images, list | str) or not images or not isinstance(images[0], str):
        raise _UnusableError("images is not a list of addresses")
    return images[0]


def _pricing(listed: Any) -> tuple[tuple[float, ...], str]:
    """Prices and price tag of ``"$5.00"`` or ``"$5.00 - $9.50"``; the original reads two prices at most.

    >>> _pricing("$1,299.00"), _pricing("$5 - $9"), _pricing("")
    (((1299.0,), '$1299.0'), ((5.0, 9.0), '$5.0 to $9.0'), ((100.0,), '$100.0'))
    """
    if not listed:
        return (_DEFAULT_PRICE,), f"${_DEFAULT_PRICE}"
    if not isinstance(listed, str):
        raise _UnusableError("pricing is not a text")
    try:
        prices = tuple(float(Decimal(re.sub(r"[^\d.]", "", part))) for part in listed.split("$")[1:])
    except InvalidOperation:
        raise _UnusableError("pricing has a dollar sign without a number") from None
    if not prices:
        raise _UnusableError("pricing has no dollar sign")
    return prices[:2], " to ".join(f"${price}" for price in prices[:2])


def _options(listed: Any) -> tuple[dict[str, tuple[str, ...]], dict[str, str | None]]:
    """Values of each option, and the image of each value that has one."""
    if listed and not isinstance(listed, dict):
        raise _UnusableError("customization_options is not an object")
    options: dict[str, tuple[str, ...]] = {}
    images: dict[str, str | None] = {}
    for name, contents in (listed or {}).items():
        if contents is None:
            continue
        if not isinstance(contents, list):
            raise _UnusableError("an option is not a list of values")
        values = [_text(content, "value").strip().replace("/", " | ").lower() for content in contents]
        options[name.lower()] = tuple(values)
        images.update((value, content.get("image")) for value, content in zip(values, contents, strict=True))
    return options, images


def stream_array(path: Path) -> Iterator[Any]:
    """The elements of a JSON array, one at a time.

    Raises:
        GameFormatError: The file is damaged or holds something else; elements before the damage come first.
    """
    with _scanner(path) as scanner:
        scanner.expect("[", "a JSON array")
        if scanner.peek() != "]":
            yield scanner.value()
            while scanner.peek() == ",":
                scanner.expect(",")
                yield scanner.value()
        scanner.expect("]")
        scanner.end()


def stream_object(path: Path) -> Iterator[tuple[str, str]]:
    """Key and JSON text of the value, for each entry of a JSON object.

    Raises:
        GameFormatError: As ``stream_array``.
    """
    with _scanner(path) as scanner:
        scanner.expect("{", "a JSON object")
        if scanner.peek() != "}":
            yield scanner.entry()
            while scanner.peek() == ",":
                scanner.expect(",")
                yield scanner.entry()
        scanner.expect("}")
        scanner.end()


@contextmanager
def _scanner(path: Path) -> Iterator["_Scanner"]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        yield _Scanner(file, path)


class _Scanner:
    """Reads JSON values off a file, holding a chunk of it at a time."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path = file, path
        self._text, self._position, self._at_end = "", 0, False
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next sign that is not blank; empty at the end of the file."""
        while True:
            match = _BLANK.match(self._text, self._position)
            assert match is not None
            self._position = match.end()
            if self._position < len(self._text) or self._at_end:
                return self._text[self._position : self._position + 1]
            self._read()

    def expect(self, sign: str, meaning: str = "") -> None:
        """Step over ``sign``, which must be next."""
        found = self.peek()
        if found != sign:
            raise self._damaged(f"{meaning or repr(sign)} was expected, got {found!r}")
        self._position += 1

    def end(self) -> None:
        """Nothing may follow."""
        if self.peek():
            raise self._damaged("something follows the end of the JSON value")

    def entry(self) -> tuple[str, str]:
        """Key and text of the value of an object's entry."""
        key = self.value()
        if not isinstance(key, str):
            raise self._damaged("a key was expected")
        self.expect(":")
        self.value()
        return key, self._last

    def value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._position)
            except (json.JSONDecodeError, RecursionError) as error:
                if self._at_end or len(self._text) - self._position > _LARGEST:
                    raise self._damaged(str(error)) from error
            else:
                # A number near the end of the text may go on: of "-2.5e+3" that is sure after "-2.5e+" and one more.
                if end + 2 < len(self._text) or self._at_end:
                    self._last = self._text[self._position : end]
                    self._position = end
                    return value
            self._read()

    def _read(self) -> None:
        try:
            chunk = self._file.read(_CHUNK)
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise self._damaged(str(error)) from error
        self._at_end = not chunk
        self._text = self._text[self._position :] + chunk
        self._position = 0

    def _damaged(self, what: str) -> GameFormatError:
        return GameFormatError(f"{self._path} is damaged, cut off or of another kind ({what})")
