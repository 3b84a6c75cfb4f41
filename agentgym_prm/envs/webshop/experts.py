"""Two shoppers: one that reads what an agent reads, and one that knows the goal.

``Shopper`` plays from texts alone (``memory.py``). It searches for the words of the instruction and goes to the product
that may yet prove best: what title, options and features page show of what is asked for, and a share of what they may
still show. When nothing is left to be read about that product, or steps run short, it picks the options that the
instruction names and buys.
What it would do is a function of its memory, so it plays on from any state, whoever led there.

``Oracle`` reads the engine: it goes to the goal's own product by the shortest way it knows, picks the options that earn
most and buys. It looks up what searches find, but types only keywords from the instruction or the product's title.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from agentgym_prm.envs.webshop.engine import Engine
from agentgym_prm.envs.webshop.memory import (
    BACK,
    BUY,
    NEXT,
    PREVIOUS,
    Offer,
    ShopMemory,
    Wish,
    stem,
    suggested_searches,
    suggestions,
    words,
)
from agentgym_prm.envs.webshop.pages import PRODUCTS_A_PAGE, Page
from agentgym_prm.envs.webshop.reward import purchase_reward

EXPERTS: Final = ("oracle", "shopper")
NO_ANSWER: Final = ""

STEPS: Final = 15
"""The registered cap."""
_IN_FEATURES: Final = 0.4
"""How likely a word that neither title nor options of an opened product have stands on its features page."""
_INSIDE: Final = 0.65
"""How likely a word that the title lacks shows once a product is opened."""
_OVER: Final = 0.3
"""What a price above the limit costs, as a share of what is asked for."""
_RANK: Final = 0.03
"""What one place further down in the results costs."""
_FEATURES: Final = "features"


class Shopper(ShopMemory):
    """Told everything that happens in an episode; ``choose`` says what it would do next.

    Attributes:
        steps: How many commands it thinks an episode has.
    """

    steps = STEPS

    def choose(self) -> str:
        """A command for the present page, ``""`` after the purchase."""
        if self.page == "done":
            return NO_ANSWER
        if self.page == "search":
            return f"search[{self._keywords()}]"
        if self.page == "results":
            return self._from_results()
        if self.page == "item" and self.offer:
            return self._from_item(self.offer)
        return f"click[{PREVIOUS}]"

    def _keywords(self) -> str:
        own = self.wish.searches
        candidates = [each for each in own if each in self.suggestions or not self.suggestions]
        candidates = candidates or sorted(self.suggestions, key=len, reverse=True)
        return next((each for each in candidates if each not in self.searches), candidates[0])

    def _from_results(self) -> str:
        target = self._target()
        if target is None:
            return f"click[{BACK}]"
        if target.asin in self.results:
            return f"click[{target.asin}]"
        return f"click[{NEXT if target.page > self.number else PREVIOUS}]"

    def _from_item(self, offer: Offer) -> str:
        left = self.steps - self.turns
        missing = [value for name, value in picked(self.wish, offer).items() if self.chosen.get(name) != value]
        if left > len(missing) + 3:
            target = self._target()
            if target is not None and target.asin != offer.asin:
                return f"click[{PREVIOUS}]"
            if self._hope(offer) > 0 and _FEATURES not in offer.details:
                return f"click[{_FEATURES}]"
        if missing and left > 1:
            return f"click[{missing[0]}]"
        return f"click[{BUY}]"

    def _target(self) -> Offer | None:
        """The product to open, to read, or to buy if nothing about it is left to be read; ``None`` without results."""
        now = [offer for offer in self.offers.values() if offer.search == len(self.searches)]
        known = [offer for offer in now if offer.opened]
        if known and self.turns + 6 > self.steps:
            return max(known, key=self._worth)
        return max(now, key=lambda offer: self._worth(offer) + self._hope(offer), default=None)

    def _worth(self, offer: Offer) -> float:
        """What a product is worth as far as it is known, with the options that would be picked; about 0 to 1."""
        return self._share(offer) - _OVER * offer.over(self.wish.limit) - _RANK * offer.rank

    def _hope(self, offer: Offer) -> float:
        """How much of what it seems to lack may yet turn up."""
        missing = 1 - self._share(offer)
        if not offer.opened:
            return _INSIDE * missing
        return 0 if _FEATURES in offer.details else _IN_FEATURES * missing

    def _share(self, offer: Offer) -> float:
        text = "\n".join((offer.title, *offer.options, *offer.details.values()))
        return share(self.wish, text, tuple(picked(self.wish, offer).values()))


def picked(wish: Wish, offer: Offer) -> dict[str, str]:
    """The values of a product's options that the instruction asks for, name to value."""
    chosen = {}
    for name, values in offer.options.items():
        best = max(values, key=lambda value: _fit(wish, name, value))
        if _fit(wish, name, best) > 0:
            chosen[name] = best
    return chosen


@lru_cache(2**16)
def _fit(wish: Wish, name: str, value: str) -> float:
    """How well a value is what the instruction says: above 1 if it stands there, else the share of its words."""
    own = words(value)
    if not own:
        return 0.0
    if named := dict(wish.named).get(name):
        return 3.0 if words(named) == own else _overlap(words(named), own)
    if f" {' '.join(own)} " in f" {' '.join(words(wish.text))} ":
        return 1.0 + len(own) / 100
    return _overlap(wish.words, own)


def _overlap(wanted: Sequence[str], own: Sequence[str]) -> float:
    """Share of ``own`` words that are wanted; a word with a wanted one in it counts half (1877blue)."""
    stems = {stem(word) for word in wanted}
    hits = sum(
        1.0 if stem(word) in stems else 0.5 * any(len(other) > 2 and other in word for other in stems) for word in own
    )
    return hits / len(own)


@lru_cache(2**16)
def share(wish: Wish, text: str, picked_values: tuple[str, ...] = ()) -> float:
    """Share of what the instruction says that occurs in a text or among the options picked; in [0, 1].

    Words count one each, whatever their endings; named options, which are compared with what was picked, two each.
    """
    there = {stem(word) for word in words(" ".join((text, *picked_values)))}
    found = float(sum(stem(word) in there for word in wish.free_words))
    for _, wanted in wish.named:
        found += 2 * max((_overlap(words(wanted), words(value)) for value in picked_values), default=0.0)
    return found / max(1, len(wish.free_words) + 2 * len(wish.named))


class Oracle:
    """Knows the goal and reads the engine; ``choose`` is a function of the engine's state."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def choose(self) -> str:
        """A command for the present page, ``""`` after the purchase."""
        engine, view = self._engine, self._engine.view
        if engine.done:
            return NO_ANSWER
        wanted = engine.shop.catalogue.index(engine.goal.asin)
        if view.page is Page.SEARCH:
            return f"search[{self._keywords(wanted)}]"
        if view.page is Page.RESULTS:
            link = engine.shop.sheet(wanted).link
            if any(sheet.product.asin == engine.goal.asin for sheet in view.shown):
                return f"click[{link}]"
            place = self._page(view.keywords, wanted)
            if place is None:
                return f"click[{BACK}]"
            return f"click[{NEXT if place > view.number else PREVIOUS}]"
        if view.page is Page.ITEM and view.product.asin == engine.goal.asin:
            options = best_options(engine)
            return next(
                (f"click[{value}]" for name, value in options.items() if view.options.get(name) != value),
                f"click[{BUY}]",
            )
        if view.page is Page.ITEM and self._page(view.keywords, wanted) is None:
            return f"click[{BACK}]"
        return f"click[{PREVIOUS}]"

    def _page(self, keywords: tuple[str, ...], wanted: int) -> int | None:
        """The page of results, from 1, that lists the goal's product."""
        found = self._engine.shop.results(keywords)
        return found.index(wanted) // PRODUCTS_A_PAGE + 1 if wanted in found else None

    def _keywords(self, wanted: int) -> str:
        """Of the searches listed the one that shows the product earliest; keywords of its title if none does."""
        engine = self._engine
        listed = suggestions(engine.admissible_commands())
        for candidates in (listed or suggested_searches(engine.goal.instruction), _title_searches(engine, wanted)):
            pages = {keywords: self._page(tuple(keywords.split(" ")), wanted) for keywords in candidates}
            found = {keywords: page for keywords, page in pages.items() if page}
            if found and (listed or min(found.values()) == 1):
                break
        return min(found, key=found.__getitem__, default=candidates[0])


def _title_searches(engine: Engine, wanted: int) -> tuple[str, ...]:
    title = words(engine.shop.catalogue.product(wanted).title)
    return tuple(dict.fromkeys(" ".join(title[:count]) for count in (6, 12, len(title)))) or ("anything",)


def best_options(engine: Engine) -> dict[str, str]:
    """The options of the goal's product that earn most, name to value: those asked for, where they can be chosen."""
    goal = engine.goal
    wanted = list(goal.options.values() if isinstance(goal.options, Mapping) else goal.options)
    index = engine.shop.catalogue.index(goal.asin)
    option_of = engine.shop.sheet(index).option_of
    chosen = {option_of[value]: value for value in wanted if value in option_of}
    price = engine.shop.catalogue.price(index)
    product = engine.shop.catalogue.product(index)

    def earned(options: Mapping[str, str]) -> float:
        return purchase_reward(product, goal, price, options, engine.shop.nouns).parts.get("r_option", 1.0)

    while (reached := earned(chosen)) < 1:
        # People name options in other words than the shop: take what the reward takes for the same.
        others = ({**chosen, name: value} for value, name in option_of.items() if name not in chosen)
        better = max(others, key=earned, default=chosen)
        if earned(better) <= reached:
            break
        chosen = better
    return chosen
