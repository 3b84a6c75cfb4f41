"""One product of the shop, as everything else reads it: pages, search, goals and rewards.

A ``Product`` is what is left of the benchmark's raw record after cleaning (``official.py``); catalogues that are
generated build it directly.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields

from agentgym_prm.draws import uniform


@dataclass(frozen=True, slots=True)
class HumanInstruction:
    """What a person wrote who was shown a product: the words, and which attributes and options they ask for."""

    text: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """A product; texts are kept as listed, with whatever markup and scripts they hold.

    Attributes:
        asin: The product's id, at most ten characters; upper case in the benchmark's files.
        title: Its name.
        description: One text, often empty.
        bullet_points: The features, at least one in the benchmark's files.
        category: One of the benchmark's five: beauty, electronics, fashion, garden, grocery.
        query: The words it was found with when the data were gathered; lower-case, stripped.
        product_category: Path in the shop's tree, ``"A › B › C"``.
        pricing: One price in dollars, or the ends of a range.
        price_tag: The price as shown: ``"$12.0"`` or ``"$12.0 to $15.5"``.
        options: What can be chosen: name to values, lower-case, in the file's order.
        option_images: Image of an option's value, where it has one.
        attributes: What was read out of its texts; ``("DUMMY_ATTR",)`` where the attribute file has no entry.
        image: Address of the first picture.
        instruction: Sentence of the synthetic goals, without options and price; ``None`` if there are none.
        instruction_attributes: The attributes that ``instruction`` asks for.
        human_instructions: What people asked for who were shown this product.
    """

    asin: str
    title: str
    description: str
    bullet_points: tuple[str, ...]
    category: str
    query: str
    product_category: str
    pricing: tuple[float, ...]
    price_tag: str
    options: Mapping[str, tuple[str, ...]]
    option_images: Mapping[str, str | None]
    attributes: tuple[str, ...]
    image: str
    instruction: str | None = None
    instruction_attributes: tuple[str, ...] = ()
    human_instructions: tuple[HumanInstruction, ...] = ()

    @property
    def price(self) -> float:
        """What it costs, in dollars. A price within a range follows from the asin.

        The original draws it before it sets a seed, so there the same product costs something else in each process.
        """
        low, high = self.pricing[0], self.pricing[-1]
        return low if low == high else low + (high - low) * uniform(zlib.crc32(self.asin.encode()))

    @property
    def document(self) -> str:
        """The text that search indexes: title, description, first bullet point and options, lower-case."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options.items())
        first = self.bullet_points[0] if self.bullet_points else ""
        return " ".join([self.title, self.description, first, options]).lower()


def product_record(product: Product) -> bytes:
    """A product as one JSON array, for the cache on disk; ``product_of`` reads it back."""
    values = [getattr(product, name) for name in _PLAIN]
    people = [[human.text, human.attributes, human.options] for human in product.human_instructions]
    # A JSON file may hold half of a surrogate pair.
    return _encode([*values, people]).encode("utf-8", "surrogatepass")


def product_of(record: bytes) -> Product:
    """The product that ``product_record`` wrote."""
    *values, people = json.loads(record.decode("utf-8", "surrogatepass"))
    given = dict(zip(_PLAIN, values, strict=True))
    for name in _TUPLES:
        given[name] = tuple(given[name])
    given["options"] = {name: tuple(choices) for name, choices in given["options"].items()}
    humans = tuple(HumanInstruction(text, tuple(attributes), tuple(options)) for text, attributes, options in people)
    return Product(**given, human_instructions=humans)


_PLAIN = tuple(field.name for field in fields(Product) if field.name != "human_instructions")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_TUPLES = ("bullet_points", "pricing", "attributes", "instruction_attributes")
