"""What a purchase is worth: the benchmark's reward, component by component.

``total = r_type * (matched attributes + matched options + [price <= limit]) / (attributes + options + 1)``, where the
counts are the goal's. All quirks of the original are kept:

* An attribute or option matches if ``token_set_ratio`` (of thefuzz, rounded to an integer) is above 85; an attribute
  also if it occurs, as it stands, in the lower-cased title, bullet points or description.
* A colour's name anywhere in an option stands for the whole option (the first of a fixed list of words, so ``"red"``
  for ``"shredded"``). It does so for what was bought and for the options of a human goal, which are values.
* The options of a synthetic goal are pairs of name and value. A pair becomes a colour only if one of its two texts *is*
  that colour; otherwise the text that is compared is Python's rendering of the pair, ``"('color', 'dark blue')"``.
  So the very option that is asked for does not match where a colour is part of a longer word: bought as ``blue``,
  ``1877blue`` has no word in common with its pair. Of the 6,910 goals of the 1,000 products, 458 cannot be met by
  the product they were made from with the options they name.
* ``r_type`` looks at the title score in two independent places: a score of exactly 0 gives 0 even if the
  query and the category agree.

The one thing that is not the original's is who finds the nouns of a title (``nouns.py``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rapidfuzz.fuzz import token_set_ratio
from rapidfuzz.utils import default_process

from agentgym_prm.envs.webshop.goals import Goal
from agentgym_prm.envs.webshop.nouns import NounFunction
from agentgym_prm.envs.webshop.product import Product

_MATCH: Final = 85.5
"""thefuzz rounds a score to an integer before it is compared with 85, so from here on it is above."""
_NO_NOUNS_SCORE: Final = 0.2
_COLOR_WORDS: Final = """
    alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo
    caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream
    crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather
    indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha
    multicolor mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal
    rust sand sapphire seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise
    violet walnut wheat white wine yellow
"""
_COLORS: Final = tuple(_COLOR_WORDS.split())
_LATIN_1: Final = dict.fromkeys(range(128, 256))


@dataclass(frozen=True, slots=True)
class Reward:
    """What a purchase is worth.

    Attributes:
        total: In [0, 1]; 1 for everything that was asked for.
        parts: The original's components. ``r_type`` 0, 0.1, 0.5 or 1; ``query_match``, ``category_match`` and
            ``r_price`` whether; ``title_score`` in [0, 1]; ``r_att`` and ``r_option`` shares of the goal's; ``w_att``,
            ``w_option``, ``w_price`` their weights, which sum to 1. ``r_option`` and ``w_option`` are absent if
            the goal has no options.
    """

    total: float
    parts: Mapping[str, float]


def purchase_reward(
    product: Product, goal: Goal, price: float, options: Mapping[str, str], nouns: NounFunction
) -> Reward:
    """Reward for buying ``product`` at ``price`` dollars with ``options`` chosen, when ``goal`` was asked for.

    Args:
        product: What was bought.
        goal: What was asked for.
        price: What it costs; ``product.price`` in play.
        options: The options chosen, name to value; names do not count.
        nouns: Finds the nouns of both titles.
    """
    type_parts = _type_parts(product, goal, nouns)
    attributes = _matching_attributes(product, goal.attributes)
    wanted: Iterable[str | tuple[str, str]] = (
        goal.options.items() if isinstance(goal.options, Mapping) else goal.options
    )
    matching_options = _matching_options(list(options.values()), wanted)
    price_fits = price <= goal.price_upper
    parts_wanted = len(goal.attributes) + len(goal.options) + 1
    parts = {
        **type_parts,
        "r_att": attributes / len(goal.attributes),
        "w_att": len(goal.attributes) / parts_wanted,
        "r_price": price_fits,
        "w_price": 1 / parts_wanted,
    }
    if goal.options:
        parts["r_option"] = matching_options / len(goal.options)
        parts["w_option"] = len(goal.options) / parts_wanted
    return Reward((attributes + matching_options + price_fits) / parts_wanted * type_parts["r_type"], parts)


def _type_parts(product: Product, goal: Goal, nouns: NounFunction) -> dict[str, float]:
    query_match = product.query == goal.query
    category_match = len(_levels(product.product_category) & _levels(goal.product_category)) >= 2
    wanted = nouns(goal.name)
    title_score = len({*nouns(product.title)} & {*wanted}) / len(wanted) if wanted else _NO_NOUNS_SCORE
    if title_score == 0:
        r_type = 0.0
    elif title_score < 0.1:
        r_type = 0.1
    else:
        r_type = 1.0 if query_match or category_match or title_score > 0.2 else 0.5
    return {
        "r_type": r_type,
        "query_match": query_match,
        "category_match": category_match,
        "title_score": title_score,
    }


def _levels(product_category: str) -> set[str]:
    return {level.strip() for level in product_category.split("›")}


def _matching_attributes(product: Product, wanted: Sequence[str]) -> int:
    own = [_processed(attribute) for attribute in product.attributes]
    texts = [product.title.lower(), " ".join(product.bullet_points).lower(), product.description.lower()]
    return sum(_matches_any(own, attribute) or any(attribute in text for text in texts) for attribute in wanted)


def _matching_options(chosen: Iterable[str], wanted: Iterable[str | tuple[str, str]]) -> int:
    own = [_processed(_color(option)) for option in chosen]
    return sum(_matches_any(own, _color(option)) for option in wanted)


def _color(option: str | tuple[str, str]) -> str:
    """The first colour word in an option, or the option; of a pair, a colour that is one of its two texts."""
    return next((color for color in _COLORS if color in option), None) or str(option)


def _matches_any(own: Iterable[str], wanted: str) -> bool:
    processed = _processed(wanted)
    return any(token_set_ratio(each, processed) >= _MATCH for each in own)


def _processed(text: str) -> str:
    """As thefuzz does: without the letters of Latin-1 (others stay), lower-case, the rest of the signs blanks."""
    return default_process(text.translate(_LATIN_1))
