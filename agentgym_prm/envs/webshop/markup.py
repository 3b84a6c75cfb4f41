"""Observation mode ``html``: the pages as markup, character for character what the original's templates give.

The page files in ``templates`` use the smallest part of Mustache that they need: ``{{name}}`` is an escaped value,
``{{&name}}`` one that is markup already, ``{{#name}}…{{/name}}`` is repeated for each element of a list, and ``{{!}}``
is nothing, where the blanks around it matter. Every text of a product, a goal or an agent is escaped, so it can neither
end an attribute nor open an element.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from agentgym_prm.envs.webshop.pages import SUB_PAGES, Page, View, options_json
from agentgym_prm.envs.webshop.product import Product

_FOLDER: Final = Path(__file__).parent / "templates"
_TAG: Final = re.compile(r"\{\{([#/&!]?)(\w*)\}\}")
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;"})
_SAFE_IN_QUERIES: Final = "!$'()*,/:;?@"


def html(view: View) -> str:
    """The page as markup."""
    values: dict[str, Any] = {"instruction": view.instruction, "search_url": _address(view)}
    if view.page is Page.SEARCH:
        return _filled("search", values)
    if view.page is Page.RESULTS:
        return _filled("results", values | _results_values(view))
    if view.page is Page.ITEM:
        return _filled("item", values | _item_values(view))
    if view.page is Page.SUB_PAGE:
        return _filled(view.sub_page.lower(), values | _sub_page_values(view))
    bought = {"asin": view.product.asin, "options_json": options_json(view.options), "reward": view.reward}
    return _filled("done", bought)


# --- what each page shows ---


def _results_values(view: View) -> dict[str, Any]:
    here: dict[str, Any] = {"keywords": view.keywords, "page": view.number}
    products = [
        _product_values(sheet.product) | {"item_url": _address(view, asin=sheet.product.asin, **here, options={})}
        for sheet in view.shown
    ]
    return {
        "page": view.number,
        "total": view.results,
        "later": [{}] if view.number > 1 else [],
        "first": [] if view.number > 1 else [{}],
        "previous_url": _address(view, keywords=view.keywords, page=view.number - 1),
        "next_url": _address(view, keywords=view.keywords, page=view.number + 1),
        "products": products,
    }


def _item_values(view: View) -> dict[str, Any]:
    product, keywords, page = view.product, view.keywords, view.number
    here: dict[str, Any] = {"asin": product.asin, "keywords": keywords, "page": page}

    def choices(name: str, values: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {
                "number": number,
                "value": value,
                "choice_url": _address(view, **here, options={**view.options, name: value}),
            }
            for number, value in enumerate(values)
        ]

    sub_pages = {
        f"{sub_page.lower()}_url": _address(view, **here, sub_page=sub_page, options=view.options)
        for sub_page in SUB_PAGES
    }
    return {
        **_product_values(product),
        **sub_pages,
        "results_url": _address(view, keywords=keywords, page=page),
        "done_url": _address(view, asin=product.asin, options=view.options),
        "options": [{"name": name, "values": choices(name, values)} for name, values in product.options.items()],
        "show_attributes": [{}] if view.show_attributes else [],
        "options_json": options_json(view.options),
        "images_json": options_json(product.option_images),
    }


def _sub_page_values(view: View) -> dict[str, Any]:
    product = view.product
    here: dict[str, Any] = {"asin": product.asin, "keywords": view.keywords, "page": view.number}
    return {
        **_product_values(product),
        "item_url": _address(view, **here, options=view.options),
        "description": product.description,
        "bullet_points": [{"bullet_point": point} for point in product.bullet_points],
        "attributes": [{"attribute": attribute} for attribute in product.attributes],
    }


def _product_values(product: Product) -> dict[str, Any]:
    return {
        "asin": product.asin,
        "image": product.image,
        "title": product.title,
        "price": product.price_tag,
        "category": product.category,
        "query": product.query,
        "product_category": product.product_category,
    }


def _address(view: View, **query: Any) -> str:
    """A link: one path for all pages, the rest in the query; of keywords each is an argument of its own."""
    arguments: list[tuple[str, Any]] = [("session_id", view.session)]
    for name, value in query.items():
        arguments += [(name, each) for each in value] if name == "keywords" else [(name, value)]
    # Half a surrogate pair, which no address can hold, becomes a question mark.
    return "/?" + urlencode(arguments, safe=_SAFE_IN_QUERIES, errors="replace")


# --- templates ---


class _Tag(NamedTuple):
    """A place in a template: ``""`` for a value, ``"&"`` for one that is markup, ``"#"`` for a section."""

    kind: str
    name: str
    inside: "tuple[str | _Tag, ...]" = ()


def _filled(template: str, values: Mapping[str, Any]) -> str:
    return "".join(_fill(_template(template), values))


def _fill(parts: Sequence[str | _Tag], values: Mapping[str, Any]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif part.kind == "#":
            for element in values[part.name]:
                yield from _fill(part.inside, {**values, **element})
        else:
            text = str(values[part.name])
            yield text if part.kind == "&" else text.translate(_ESCAPES)


@cache
def _template(name: str) -> tuple[str | _Tag, ...]:
    # The file's last line break is the file's, not the page's.
    text = (_FOLDER / f"{name}.html").read_text(encoding="utf-8").removesuffix("\n")
    return _parsed(iter(_TAG.split(text)), name)


def _parsed(pieces: Iterator[str], section: str) -> tuple[str | _Tag, ...]:
    """The parts up to the section's end. Pieces come as ``re.split`` gives them: text, kind, name, text, kind, …"""
    parts: list[str | _Tag] = []
    for text in pieces:
        kind, name = next(pieces, "/"), next(pieces, section)
        parts.append(text)
        if kind == "/":
            assert name == section, f"section {section!r} is closed as {name!r}"
            break
        if kind != "!":
            parts.append(_Tag(kind, name, _parsed(pieces, name) if kind == "#" else ()))
    return tuple(parts)
