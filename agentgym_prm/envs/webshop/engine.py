"""WebShop as a plain state machine: pages, clickables and rewards of the original, at microseconds a step.

The state is one immutable ``View``, so a copy costs a few references. The original's rules are kept, odd ones included:

* ``search[…]`` works on every page, ``click[…]`` only for what is on the page, and never for the search button.
* The action is read greedily: of ``search[a[b]]`` the verb is ``search[a``, which is none; what follows the last ``]``
  of the first line is ignored. The verb must be written in lower case; what is in the brackets is lower-cased.
* What a click does is decided by its name first: an option called ``description`` opens the description.
* ``< Prev`` and ``Next >`` look for the kind of page in its address, where session, keywords and options stand too. So
  after a search for ``search_results``, ``< Prev`` on a product's page leads to the page of results before.
* Searching and going back to the results forget what was chosen, not what was looked at; ``Back to Search`` forgets
  both. Choosing a value that several options share sets the last of them.
* ``<c> CATEGORY`` and ``<q> QUERY`` in front of the keywords list all products of a category or query.

Departures, all where the original draws at random, fails, or goes on after the end:

* ``<r>`` lists 50 random products that follow from the goal, not new ones at each visit.
* ``<a> ATTRIBUTE`` lists the products with an attribute, as the original's web application does; its text environment
  raises an exception. ``<c>`` without a category finds nothing; there it raises, too.
* A product whose id is ``BUY NOW``, or that of a sub-page, cannot be opened; there an exception again.
* After the purchase every command is ignored; the original goes on shopping.

Not in here: the step cap, ``info`` (see ``env.py``), and what the pages look like (``pages.py``, ``markup.py``); nor
the original's options to put earlier observations in front of the present one, and to hand out image features.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, Self, TypeVar

from agentgym_prm.envs.webshop import pages
from agentgym_prm.envs.webshop.catalog import Catalogue
from agentgym_prm.envs.webshop.goals import Goal
from agentgym_prm.envs.webshop.markup import html
from agentgym_prm.envs.webshop.nouns import NounFunction
from agentgym_prm.envs.webshop.pages import PRODUCTS_A_PAGE, Page, Sheet, View
from agentgym_prm.envs.webshop.product import Product
from agentgym_prm.envs.webshop.reward import purchase_reward
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.search import SearchIndex

SEARCH_PATTERN: Final = "search[<keywords>]"
"""Stands in the admissible commands for every search."""
MAX_RESULTS: Final = 50
_RENDERERS: Final[Mapping[str, Callable[[View], str]]] = {
    "text_rich": pages.text_rich,
    "text": pages.text,
    "html": html,
    "url": pages.url,
}
OBSERVATION_MODES: Final = tuple(_RENDERERS)
_RANDOM, _ATTRIBUTE, _CATEGORY, _QUERY = "<r>", "<a>", "<c>", "<q>"
_PAGES_IN_ADDRESSES: Final = (Page.RESULTS, Page.ITEM, Page.SUB_PAGE, Page.DONE)
_SUB_PAGES: Final = {name.lower(): name for name in pages.SUB_PAGES}
_BUY, _BACK, _NEXT, _PREVIOUS, _SEARCH = (
    label.lower() for label in (pages.BUY, pages.BACK, pages.NEXT, pages.PREVIOUS, pages.SEARCH)
)


class Shop:
    """What all games of one catalogue share: products, search, nouns, and what was worked out about them before.

    Read-only but for its caches: a deep copy is the shop itself.

    Attributes:
        catalogue: The products.
        index: Finds them; they are numbered as in the catalogue.
        nouns: Finds the nouns of titles, which the reward compares.
    """

    def __init__(self, catalogue: Catalogue, index: SearchIndex, nouns: NounFunction) -> None:
        self.catalogue = catalogue
        self.index = index
        self.nouns = nouns
        self._results: dict[tuple[str, ...], Sequence[int]] = {}
        self._sheets: dict[int, Sheet] = {}
        self._groups: dict[str, Mapping[str, Sequence[int]]] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> "Shop":
        return self

    def results(self, keywords: tuple[str, ...]) -> Sequence[int]:
        """Indices of what a search finds, best first.

        Args:
            keywords: The words between blanks. If the first is ``<a>``, ``<c>`` or ``<q>``, all products are found that
                have this attribute, category or query; else at most 50.
        """
        found = self._results.get(keywords)
        if found is None:
            found = tuple(self._search(keywords))
            _remember(self._results, keywords, found)
        return found

    def random_results(self, seed: str) -> Sequence[int]:
        """Indices of 50 random products, or of all in random order if there are fewer."""
        count = len(self.catalogue)
        return random.Random(seed).sample(range(count), min(count, MAX_RESULTS))

    def sheet(self, index: int) -> Sheet:
        """What pages need of a product."""
        sheet = self._sheets.get(index)
        if sheet is None:
            sheet = Sheet(self.catalogue.product(index))
            _remember(self._sheets, index, sheet)
        return sheet

    def _search(self, keywords: tuple[str, ...]) -> Sequence[int]:
        prefix, rest = keywords[0], keywords[1:]
        if prefix == _CATEGORY:
            return self._group(prefix, lambda product: (product.category,)).get("".join(rest[:1]).strip(), ())
        if prefix == _QUERY:
            return self._group(prefix, lambda product: (product.query,)).get(" ".join(rest).strip(), ())
        if prefix == _ATTRIBUTE:
            return self._group(prefix, lambda product: product.attributes).get(" ".join(rest).strip(), ())
        (hits,) = self.index.search([" ".join(keywords)], MAX_RESULTS)
        return [hit.document for hit in hits]

    def _group(self, prefix: str, names: Callable[[Product], Sequence[str]]) -> Mapping[str, Sequence[int]]:
        """Which products have each name; read off all products once, when the first such search comes."""
        if prefix not in self._groups:
            group: defaultdict[str, list[int]] = defaultdict(list)
            for index in range(len(self.catalogue)):
                for name in dict.fromkeys(names(self.catalogue.product(index))):
                    group[name].append(index)
            self._groups[prefix] = dict(group)
        return self._groups[prefix]


class Engine:
    """One shopping session.

    Attributes:
        shop: Where it takes place; shared.
        observation_mode: What ``step`` returns, one of ``OBSERVATION_MODES``.
        goal: What is asked for.
        view: The page on show, and all state.
        valid: Whether the last command did something.
        done: Whether something was bought.
        outcome: The reward for it, in [0, 1]; 0 before.
        reward_parts: Its components (see ``reward.py``); empty before.
    """

    __slots__ = (
        "_observation",
        "_show_attributes",
        "done",
        "goal",
        "observation_mode",
        "outcome",
        "reward_parts",
        "shop",
        "valid",
        "view",
    )

    def __init__(self, shop: Shop, *, observation_mode: str = "text_rich", show_attributes: bool = False) -> None:
        """``show_attributes`` adds a button to a product's page that tells its attributes, a help for debugging."""
        if observation_mode not in OBSERVATION_MODES:
            raise UnknownNameError.of("observation mode", observation_mode, OBSERVATION_MODES)
        self.shop = shop
        self.observation_mode = observation_mode
        self._show_attributes = show_attributes
        self._observation: str | None = None

    def reset(self, goal: Goal, session: str) -> str:
        """Start shopping for ``goal``; ``session`` stands in the addresses of the pages."""
        self.goal = goal
        self.valid, self.done, self.outcome = True, False, 0.0
        self.reward_parts: Mapping[str, float] = {}
        self._show(View(session, goal.instruction, self._show_attributes))
        return self.observe()

    def step(self, command: str) -> str:
        """Execute ``command`` and return the observation; what cannot be executed changes nothing."""
        verb, argument = parsed(command)
        self.valid = False
        if self.done or not argument:
            pass
        elif verb == "search":
            self._show_results(tuple(argument.split(" ")), 1)
        elif verb == "click" and argument != _SEARCH and argument in pages.clickables(self.view):
            self._click(argument)
        return self.observe()

    def clone(self) -> Self:
        """An independent copy that goes on from the present state."""
        copy = type(self).__new__(type(self))
        copy.shop, copy.observation_mode, copy._show_attributes = (
            self.shop,
            self.observation_mode,
            self._show_attributes,
        )
        copy.goal, copy.view, copy._observation = self.goal, self.view, self._observation
        copy.valid, copy.done = self.valid, self.done
        copy.outcome, copy.reward_parts = self.outcome, self.reward_parts
        return copy

    # --- what holds now ---

    def observe(self, mode: str | None = None) -> str:
        """The page on show, in ``mode`` or in the engine's own mode."""
        if mode is not None and mode != self.observation_mode:
            if mode not in OBSERVATION_MODES:
                raise UnknownNameError.of("observation mode", mode, OBSERVATION_MODES)
            return _RENDERERS[mode](self.view)
        if self._observation is None:
            self._observation = _RENDERERS[self.observation_mode](self.view)
        return self._observation

    @property
    def won(self) -> bool:
        """Whether what was bought is worth the full reward."""
        return self.outcome == 1.0

    @property
    def has_search_bar(self) -> bool:
        """Whether the page has a field to type keywords in; searching works without one, too."""
        return self.view.page is Page.SEARCH

    def clickables(self) -> tuple[str, ...]:
        """What can be named in ``click[…]``, in the page's order, with the search button, which does nothing."""
        return pages.clickables(self.view)

    def admissible_commands(self) -> tuple[str, ...]:
        """What would be executed now, sorted; ``SEARCH_PATTERN`` stands for searches where there is a search bar."""
        if self.has_search_bar:
            return (SEARCH_PATTERN,)
        return _click_commands(pages.clickables(self.view))

    # --- transitions ---

    def _show(self, view: View) -> None:
        self.view = view
        self.valid = True
        self._observation = None

    def _show_results(self, keywords: tuple[str, ...], number: int) -> None:
        random_ones = keywords[0] == _RANDOM
        found = self.shop.random_results(self.goal.goal_id) if random_ones else self.shop.results(keywords)
        # The original slices like this, too: page 0 is empty.
        shown = found[(number - 1) * PRODUCTS_A_PAGE : number * PRODUCTS_A_PAGE]
        view = View(
            self.view.session,
            self.view.instruction,
            self._show_attributes,
            Page.RESULTS,
            keywords,
            number,
            len(found),
            tuple([self.shop.sheet(index) for index in shown]),
            visited=self.view.visited,
        )
        self._show(view)

    def _click(self, name: str) -> None:
        view = self.view
        if name == _BACK:
            self._show(View(view.session, view.instruction, self._show_attributes))
        elif name in (_NEXT, _PREVIOUS) and (number := self._page_reached(name)) is not None:
            self._show_results(view.keywords, number)
        elif view.page is Page.RESULTS:
            self._open_product(name)
        elif name == _BUY:
            self._buy()
        elif name in _SUB_PAGES:
            self._show(replace(view, page=Page.SUB_PAGE, sub_page=_SUB_PAGES[name]))
        elif view.page is Page.SUB_PAGE:  # the one button that is left: back to the product
            self._show(replace(view, page=Page.ITEM, sub_page=""))
        else:
            assert view.sheet is not None
            options = {**view.options, view.sheet.option_of[name]: name}
            self._show(replace(view, options=options))

    def _page_reached(self, name: str) -> int | None:
        """The number of the page of results that ``Next >`` or ``< Prev`` leads to; ``None`` if it leads elsewhere."""
        address = pages.url(self.view)
        place = next((page for page in _PAGES_IN_ADDRESSES if page in address), None)
        if place is Page.RESULTS:
            return self.view.number + (1 if name == _NEXT else -1)
        return self.view.number if place is Page.ITEM and name == _PREVIOUS else None

    def _open_product(self, link: str) -> None:
        if link == _BUY or link in _SUB_PAGES:
            return  # a product with such an id; the original fails
        # Of two links that read alike the last counts.
        sheet = next(sheet for sheet in reversed(self.view.shown) if sheet.link == link)
        visited = self.view.visited | {sheet.product.asin}
        self._show(replace(self.view, page=Page.ITEM, results=0, shown=(), sheet=sheet, visited=visited))

    def _buy(self) -> None:
        product = self.view.product
        reward = purchase_reward(product, self.goal, product.price, self.view.options, self.shop.nouns)
        self.done, self.outcome, self.reward_parts = True, reward.total, reward.parts
        self._show(replace(self.view, page=Page.DONE, reward=reward.total))


def parsed(command: str) -> tuple[str, str]:
    r"""Verb and argument of an action ``verb[argument]``, the argument in lower case; it is empty if there is none.

    The same as matching ``(.+)\[(.+)\]`` at the start, in linear time: what an agent writes may be long.

    >>> parsed("search[Red Shoes] please"), parsed("search[a[b]]"), parsed("click[]")
    (('search', 'red shoes'), ('search[a', 'b]'), ('click[]', ''))
    """
    line = command.partition("\n")[0]
    close = line.rfind("]")
    open_ = line.rfind("[", 1, max(close - 1, 0))
    if open_ < 0:
        return command, ""
    return line[:open_], line[open_ + 1 : close].lower()


@lru_cache(maxsize=2**12)
def _click_commands(names: tuple[str, ...]) -> tuple[str, ...]:
    """The commands that click ``names``, sorted; none can click a name that holds, say, a line break."""
    commands = [f"click[{name}]" for name in names if name and name != _SEARCH]
    return tuple(sorted([command for command in commands if parsed(command) == ("click", command[6:-1])]))


_CACHE_LIMIT: Final = 4096
_K = TypeVar("_K")
_V = TypeVar("_V")


def _remember(cache: dict[_K, _V], key: _K, value: _V) -> None:
    """Keep ``value``; a cache that has grown too large starts anew, which costs less than tracking use."""
    if len(cache) >= _CACHE_LIMIT:
        cache.clear()
    cache[key] = value
