"""Made-up catalogues for tests: a small one to write pages out by hand, and hostile ones drawn at random."""

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from agentgym_prm.envs.webshop.catalog import Catalogue, Product, catalogue_of
from agentgym_prm.envs.webshop.engine import Shop
from agentgym_prm.envs.webshop.goals import Goal
from agentgym_prm.envs.webshop.nouns import RuleNouns
from agentgym_prm.search import Hit

# fmt: off
HOSTILE_TEXTS = [
    "<script>alert('x')</script>", "</h4></div>", '"', "'", '5"', "&", "&amp;", "&#34;", "&lt;b&gt;", "<!--", "-->",
    "--!>", "]]>", "</script>", "<pre> ", "<br>", "{{ 7*7 }}", "{% raw %}", "{{#products}}", "{{&asin}}", "${asin}",
    "\x00", "\x0b", "\x0c", "\x1b[31m", "\x1f", "\x7f", "\x85", "\u2028", "\u200b", "\ufeff", "\xa0", "\u3000",
    "漢字", "עברית", "Ünïcödé", "ß", "İ", "ΑΣ", "😀", "e\u0301", " ", "  ", "\n", "\t", "\r\n", " \n ", "\\", "`",
    "%41", "+", "/", "$1", "[SEP]", "[button]", "[clicked button]", "click[x]", "search[y]", "]", "[", "None", "0",
]
BLANKS = " \n\t\f\r\x0b\x1f\xa0\u2028"
WORDS = [
    "red", "blue", "leather", "shoes", "running", "women", "men", "large", "small", "cotton", "desk", "lamp", "wood",
]
BUTTON_NAMES = [
    "Buy Now", "Description", "Features", "Reviews", "Attributes", "Search", "Back to Search", "Next >", "< Prev",
]
# fmt: on
ODD_IDS = ["NEXT >", "< PREV", "SEARCH", 'A&B"<C>', "Ä'Ö", "SIZE"]


class WordIndex:
    """Finds products by the number of words shared with the query: enough for tests, and the same everywhere."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._holders: defaultdict[str, set[int]] = defaultdict(set)
        for number, document in enumerate(catalogue.documents()):
            for word in _words(document):
                self._holders[word].add(number)

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        return [self._found(query, k) for query in queries]

    def _found(self, query: str, k: int) -> list[Hit]:
        counts: defaultdict[int, int] = defaultdict(int)
        for word in _words(query):
            for number in self._holders.get(word, ()):
                counts[number] += 1
        best = sorted(counts, key=lambda number: (-counts[number], number))[:k]
        return [Hit(number, counts[number]) for number in best]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def shop_of(catalogue: Catalogue) -> Shop:
    return Shop(catalogue, WordIndex(catalogue), RuleNouns())


def made_goal(product: Product, rng: random.Random, number: int = 0) -> Goal:
    """A goal for ``product``, human or synthetic in form, some of it out of reach."""
    attributes = rng.sample([*product.attributes, *product.title.lower().split()[:3], "made of cheese"], 2)
    chosen = {name: rng.choice(values) for name, values in product.options.items() if values and rng.random() < 0.8}
    limit = rng.choice([1_000_000.0, 10.0 * rng.randint(1, 20)])
    return Goal(
        asin=product.asin,
        category=product.category,
        query=product.query,
        name=product.title,
        product_category=product.product_category,
        instruction=rng.choice([f"i want {product.title}, and price lower than {limit:.2f} dollars", product.title]),
        attributes=tuple(attributes),
        price_upper=limit,
        options=chosen if rng.random() < 0.5 else tuple(chosen.values()),
        weight=1.0,
        goal_id=f"made/{product.asin}/{number}",
    )


def small_catalogue() -> Catalogue:
    """A shoe with options, a lamp with markup in its texts, and eleven pairs of socks that fill more than a page."""
    shoe = Product(
        asin="B000000001",
        title="Trail Shoe",
        description="A light shoe.",
        bullet_points=("rubber sole", "wide fit"),
        category="fashion",
        query="shoes",
        product_category="Clothing › Shoes",
        pricing=(40.0, 48.0),
        price_tag="$40.0 to $48.0",
        options={"color": ("red", "dark blue"), "size": ("7", "8")},
        option_images={"red": "https://example.org/red.jpg", "dark blue": None, "7": None, "8": None},
        attributes=("rubber sole", "light weight"),
        image="https://example.org/shoe.jpg",
    )
    lamp = Product(
        asin="B000000002",
        title='Lamp <b>"Sun" & Moon</b>',
        description="<script>alert('x')</script>",
        bullet_points=("", " \n"),
        category="garden",
        query="lamps",
        product_category="Home",
        pricing=(12.5,),
        price_tag="$12.5",
        options={},
        option_images={},
        attributes=("DUMMY_ATTR",),
        image="https://example.org/lamp.jpg",
    )
    socks = [
        replace(lamp, asin=f"B00000001{number:X}", title=f"Socks {number}", query="socks", category="fashion")
        for number in range(11)
    ]
    return catalogue_of([shoe, lamp, *socks], "small")


def shoe_goal() -> Goal:
    """The shoe of the small catalogue, in red, for less than 50 dollars."""
    return Goal(
        asin="B000000001",
        category="fashion",
        query="shoes",
        name="Trail Shoe",
        product_category="Clothing › Shoes",
        instruction="i need a red shoe with a rubber sole, and price lower than 50.00 dollars",
        attributes=("rubber sole",),
        price_upper=50.0,
        options=("red",),
        weight=1.0,
        goal_id="made/B000000001/0",
    )


def hostile_catalogue(seed: int, size: int = 70) -> Catalogue:
    """Products whose texts are markup, quotation marks, control characters, many scripts, blanks, or nothing."""
    rng = random.Random(f"hostile {seed}")
    ids = [*ODD_IDS, *(f"B{seed:02}{number:07}" for number in range(size - len(ODD_IDS)))]
    return catalogue_of([_hostile_product(asin, rng) for asin in ids], f"hostile {seed}")


def _hostile_product(asin: str, rng: random.Random) -> Product:
    low, high = sorted(round(rng.uniform(1, 150), 2) for _ in range(2))
    pricing = (low,) if rng.random() < 0.7 else (low, high)
    options = {
        rng.choice(["size", "color", "style", _text(rng), rng.choice(BUTTON_NAMES)]).lower(): _values(rng)
        for _ in range(rng.choice([0, 1, 1, 2, 3, 6]))
    }
    values = [value for choices in options.values() for value in choices]
    return Product(
        asin=asin,
        title=_text(rng),
        description=_text(rng),
        bullet_points=tuple(_text(rng) for _ in range(rng.randint(0, 5))),
        category=rng.choice(["fashion", "garden", _text(rng)]),
        query=rng.choice(["red shoes", "desk lamp", _text(rng).lower().strip()]),
        product_category=" › ".join(_text(rng) for _ in range(rng.randint(1, 4))),
        pricing=pricing,
        price_tag=f"${low}" if len(pricing) == 1 else f"${low} to ${high}",
        options=options,
        option_images={value: rng.choice([None, "https://example.org/a.jpg", _text(rng)]) for value in values},
        attributes=tuple(_text(rng) for _ in range(rng.randint(1, 4))),
        image=rng.choice(["https://example.org/b.jpg", _text(rng)]),
    )


def _text(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return "".join(rng.choices(BLANKS, k=rng.randint(1, 3)))
    pieces = rng.choices([*HOSTILE_TEXTS, *WORDS * 2], k=rng.choice([0, 1, 1, 2, 3, 5, 8]))
    return rng.choice(["", " "]).join(pieces)


def _values(rng: random.Random) -> tuple[str, ...]:
    """Option values as the benchmark's loader leaves them: lower-case, trimmed before the slashes were widened."""
    raw = [
        rng.choice([_text(rng), rng.choice(WORDS), rng.choice(BUTTON_NAMES), "size", "color", '5"', "a/b", "7"])
        for _ in range(rng.choice([0, 1, 2, 4, 9]))
    ]
    return tuple(value.strip().replace("/", " | ").lower() for value in raw)
