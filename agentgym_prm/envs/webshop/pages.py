"""The shop's pages as text: what each shows, its address, and what on it can be clicked.

The original renders HTML and parses it again at every step. Here a page is a list of texts made straight from the
state, and the observation modes ``text`` and ``text_rich`` join them; ``html`` is in ``markup.py``. Quirks that are
kept, because they show in what an agent reads:

* A text of nothing but blanks counts as one blank, or vanishes if there is a line break in it; an empty one vanishes.
* An option is marked as clicked if it stands in the page's address between quotation marks. So a value with a
  quotation mark or a letter beyond ASCII, which JSON escapes there, never is, and one that equals a chosen option's
  *name*, or that was searched for in quotation marks, is.
* A link is marked as clicked if its product was looked at since the last visit to the search page.
* ``Next >`` is there even on the last page of results, and after it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Final, TypeAlias

from agentgym_prm.envs.webshop.product import Product

SEARCH: Final = "Search"
BACK: Final = "Back to Search"
NEXT: Final = "Next >"
PREVIOUS: Final = "< Prev"
BUY: Final = "Buy Now"
SUB_PAGES: Final = ("Description", "Features", "Reviews", "Attributes")
"""Buttons of a product's page that lead to another page about it; the last is there only if asked for."""
PRODUCTS_A_PAGE: Final = 10
BASE_URL: Final = "http://127.0.0.1:3000"
RATING: Final = "N.A."
"""The benchmark comes without reviews, so no product has a rating."""

_ASCII_BLANKS: Final = " \n\t\f\r"
_TEXT, _BUTTON, _OPTION, _LINK = range(4)
Node: TypeAlias = tuple[int, str]
"""A text of a page, and what it stands in: a button, an option, a link to a product, or nothing of the kind."""


class Page(StrEnum):
    """The kinds of pages; the values of all but the first are their names in addresses."""

    SEARCH = "search"
    RESULTS = "search_results"
    ITEM = "item_page"
    SUB_PAGE = "item_sub_page"
    DONE = "done"


class Sheet:
    """What pages need of a product, made once: its texts, what can be clicked, and which option a value belongs to."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.link = _as_parsed(product.asin).lower()

    @cached_property
    def result(self) -> list[Node]:
        """Its entry among search results."""
        return _nodes((_LINK, self.product.asin), (_TEXT, self.product.title), (_TEXT, self.product.price_tag))

    @cached_property
    def item(self) -> list[Node]:
        """Its own page, from the options down to the rating."""
        product = self.product
        nodes: list[Node] = []
        for name, values in product.options.items():
            nodes += [(_TEXT, name), *((_OPTION, value) for value in values)]
        nodes += [(_TEXT, product.title), (_TEXT, f"Price: {product.price_tag}"), (_TEXT, f"Rating: {RATING}")]
        return _nodes(*nodes)

    @cached_property
    def sub_pages(self) -> Mapping[str, list[Node]]:
        """What is shown behind each of the buttons of ``SUB_PAGES``."""
        product = self.product
        path = (product.category, product.query, product.product_category)
        return {
            "Description": _nodes((_TEXT, product.description)),
            "Features": _nodes(*((_TEXT, f" {point}") for point in product.bullet_points)),
            "Reviews": [],
            "Attributes": _nodes(*((_TEXT, f" {each}") for each in product.attributes), *((_TEXT, t) for t in path)),
        }

    @cached_property
    def option_of(self) -> Mapping[str, str]:
        """For each value that can be chosen the name of its option; of several with the same value, the last."""
        return {value: name for name, values in self.product.options.items() for value in values}


@dataclass(frozen=True, slots=True)
class View:
    """Everything that decides what is shown; never changed, only replaced.

    Attributes:
        session: Name of the session, a part of every address.
        instruction: What is asked for.
        show_attributes: Whether a product's page has a button for its attributes.
        page: Which kind of page.
        keywords: What was searched for, one entry for each blank-separated word; empty before the first search.
        number: Number of the page of results, from 1.
        results: How many products were found.
        shown: The products on the page of results, at most ten.
        sheet: The product that is looked at, or was bought.
        options: What was chosen, name to value, in the order of choosing.
        visited: Ids of the products looked at since the last visit to the search page.
        sub_page: Which of ``SUB_PAGES``.
        reward: What the purchase was worth.
    """

    session: str
    instruction: str
    show_attributes: bool = False
    page: Page = Page.SEARCH
    keywords: tuple[str, ...] = ()
    number: int = 0
    results: int = 0
    shown: Sequence[Sheet] = ()
    sheet: Sheet | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    visited: frozenset[str] = frozenset()
    sub_page: str = ""
    reward: float = 0.0

    @property
    def product(self) -> Product:
        """The product that is looked at; not to be asked for on a page without one."""
        assert self.sheet is not None
        return self.sheet.product


# --- what is written on a page ---


def _as_parsed(text: str) -> str:
    """``text`` as an HTML parser gives it back: blanks alone become one newline or one blank."""
    if not text or text.strip(_ASCII_BLANKS):
        return text
    return "\n" if "\n" in text else " "


def _nodes(*nodes: Node) -> list[Node]:
    """The nodes that show."""
    parsed = [(kind, _as_parsed(text)) for kind, text in nodes]
    return [node for node in parsed if node[1] not in ("", "\n")]


def _page_nodes(view: View) -> list[Node]:
    """All texts of a page, in order."""
    if view.page is Page.SEARCH:
        heading: list[Node] = [(_TEXT, "WebShop"), (_TEXT, "Instruction: ")]
        return [*heading, *_nodes((_TEXT, view.instruction)), (_BUTTON, SEARCH)]
    if view.page is Page.DONE:
        return _done_nodes(view)
    nodes = [(_TEXT, "Instruction:"), *_nodes((_TEXT, view.instruction)), (_BUTTON, BACK)]
    if view.page is Page.RESULTS:
        nodes.append((_TEXT, f"Page {view.number} (Total results: {view.results})"))
        nodes += [(_BUTTON, label) for label in _paging(view)]
        for sheet in view.shown:
            nodes += sheet.result
        return nodes
    nodes.append((_BUTTON, PREVIOUS))
    assert view.sheet is not None
    if view.page is Page.SUB_PAGE:
        return nodes + view.sheet.sub_pages[view.sub_page]
    return [*nodes, *view.sheet.item, *((_BUTTON, label) for label in (*_sub_pages(view), BUY))]


def _paging(view: View) -> tuple[str, ...]:
    return (PREVIOUS, NEXT) if view.number > 1 else (NEXT,)


def _sub_pages(view: View) -> tuple[str, ...]:
    return SUB_PAGES if view.show_attributes else SUB_PAGES[:-1]


def _done_nodes(view: View) -> list[Node]:
    """The last page. It has places for the goal, which the original leaves empty, and ``None`` in most others."""
    bought = [view.product.asin, "options", options_json(view.options), "attrs", "None", "category", "None"]
    bought += ["query", "None", "product category", "None"]
    wanted = ["asin", "options", "attrs", "price upper", "instuction text", "category", "product category", "query"]
    texts = ["Thank you for shopping with us!", "Your code: ", "None", " (Paste it in your MTurk interface.)"]
    texts += ["Purchased", "asin", *bought, "Target", *wanted, "Goal ", "None"]
    texts += ["Reward", "Your score (min 0.0, max 1.0)", str(view.reward), "Reward Details ", "None"]
    return [(_TEXT, text) for text in texts]


def options_json(options: Mapping[str, str | None]) -> str:
    """``options`` as JSON that is safe inside HTML: sorted, ASCII only, without angle brackets and the like."""
    text = json.dumps(options, sort_keys=True)
    for sign in "<>&'":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


# --- observation modes ---


def text(view: View) -> str:
    """Observation mode ``text``: the texts of the page, trimmed, with ``[SEP]`` between them."""
    return " [SEP] ".join([text.strip() for _, text in _page_nodes(view)])


def text_rich(view: View) -> str:
    """Observation mode ``text_rich``: a line for each text, with marks around buttons, options and links."""
    lines: list[str] = []
    clicked = ""
    address: str | None = None
    for kind, text in _page_nodes(view):
        if kind == _TEXT:
            lines.append(f"{text}\n")
        elif kind == _BUTTON:
            lines.append(f"[button] {text} [button_]\n")
        elif kind == _LINK:
            mark = "clicked button" if text in view.visited else "button"
            lines.append(f"\n[{mark}] {text} [{mark}_]\n")
        else:
            address = url(view) if address is None else address
            if f'"{text}"' in address:
                lines.append(f"  [clicked button] {text} [clicked button_]\n")
                clicked = f"You have clicked {text}.\n{clicked}"
            else:
                lines.append(f"  [button] {text} [button_]\n")
    return clicked + "".join(lines)


def url(view: View) -> str:
    """Observation mode ``url``: the address of the page."""
    if view.page is Page.SEARCH:
        return f"{BASE_URL}/{view.session}"
    keywords = "+".join(view.keywords)
    if view.page is Page.RESULTS:
        return f"{BASE_URL}/{view.page}/{view.session}/{keywords}/{view.number}"
    start = f"{BASE_URL}/{view.page}/{view.session}/{view.product.asin}"
    if view.page is Page.ITEM:
        return f"{start}/{keywords}/{view.number}/{json.dumps(view.options)}"
    if view.page is Page.SUB_PAGE:
        return f"{start}/{keywords}/{view.number}/{view.sub_page}/{view.options}"
    return f"{start}/{view.options}"


# --- what can be clicked ---


def clickables(view: View) -> tuple[str, ...]:
    """What can be named in ``click[…]``, in the page's order: buttons, then links to products, then options.

    ``"search"``, the button of the search page, is among them, although clicking it does nothing.
    """
    if view.page is Page.SEARCH:
        return (_LOWER[SEARCH],)
    if view.page is Page.DONE:
        return ()
    if view.page is Page.SUB_PAGE:
        return (_LOWER[BACK], _LOWER[PREVIOUS])
    if view.page is Page.RESULTS:
        return _distinct(_LOWER[BACK], *_lower(_paging(view)), *(sheet.link for sheet in view.shown))
    assert view.sheet is not None
    buttons = (_LOWER[BACK], _LOWER[PREVIOUS], *_lower(_sub_pages(view)), _LOWER[BUY])
    return _distinct(*buttons, *view.sheet.option_of)


_LOWER: Final = {label: label.lower() for label in (SEARCH, BACK, NEXT, PREVIOUS, BUY, *SUB_PAGES)}


def _lower(labels: Sequence[str]) -> list[str]:
    return [_LOWER[label] for label in labels]


def _distinct(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))  # in the order of their first occurrence
