"""The original WebShop as the oracle: what it shows in every observation mode after each action.

It runs from a checkout of princeton-nlp/WebShop that ``$WEBSHOP_HOME`` names. Its code is used as it is; replaced are
only what it needs Java, spaCy models or PyTorch for: the search engine and the nouns, which are handed in, so that both
sides find the same, and products, prices and goals, which are ours. HTML is parsed, and templates compiled, once for
each text and not at each step, which changes nothing but the time that a comparison takes.
"""

import contextlib
import importlib
import importlib.util
import io
import json
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from agentgym_prm.envs.webshop.catalog import Product
from agentgym_prm.envs.webshop.engine import OBSERVATION_MODES, Shop
from agentgym_prm.envs.webshop.goals import Goal

HOME_VARIABLE = "WEBSHOP_HOME"
_BLANK = {"pyserini", "pyserini.search", "pyserini.search.lucene", "cleantext", "rank_bm25", "spacy", "gym", "torch"}


@dataclass(frozen=True)
class Shown:
    """What the original shows in one state."""

    observations: dict[str, str]
    clickables: tuple[str, ...]
    has_search_bar: bool
    reward: float
    done: bool


def home() -> Path:
    """The checkout; the process ends with a hint if there is none."""
    folder = os.environ.get(HOME_VARIABLE, "")
    if not (Path(folder) / "web_agent_site/envs/web_agent_text_env.py").is_file():
        sys.exit(
            f"${HOME_VARIABLE} must name a checkout of https://github.com/princeton-nlp/WebShop (its code is enough, "
            f"neither data nor its packages are needed), got {folder!r}"
        )
    return Path(folder)


@lru_cache
def original_module() -> ModuleType:
    """The original's text environment, imported with what it cannot do without replaced by blanks."""
    for name in _BLANK:
        sys.modules.setdefault(name, ModuleType(name))
    blank: Any = sys.modules
    blank["gym"].Env = object
    blank["rank_bm25"].BM25Okapi = blank["pyserini.search.lucene"].LuceneSearcher = None
    blank["spacy"].load = lambda _name: None
    sys.path.insert(0, str(home()))
    path = home() / "web_agent_site/envs/web_agent_text_env.py"
    spec = importlib.util.spec_from_file_location("original_webshop", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Search:
    """Our search in the original's interface."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def search(self, query: str, k: int) -> list[SimpleNamespace]:
        (hits,) = self._shop.index.search([query], k)
        return [SimpleNamespace(docid=hit.document) for hit in hits]

    def doc(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(raw=lambda: json.dumps({"id": self._shop.catalogue.product(index).asin}))


class Original:
    """The original's environment over the products of ``shop``.

    ``as_is`` leaves parsing and compiling as slow as they are, for measuring.
    """

    def __init__(self, shop: Shop, *, show_attributes: bool = False, as_is: bool = False) -> None:
        module = original_module()
        catalogue = shop.catalogue
        products = [product_record(catalogue.product(index)) for index in range(len(catalogue))]
        prices = {product["asin"]: catalogue.price(index) for index, product in enumerate(products)}
        module.load_products = lambda **_: (products, {p["asin"]: p for p in products}, prices, None)
        module.init_search_engine = lambda **_: _Search(shop)
        module.get_goals = lambda *_: [{"weight": 1, "instruction_text": ""}]
        goal_module = sys.modules["web_agent_site.engine.goal"]
        goal_module.nlp = lambda text: [SimpleNamespace(text=word, pos_="NOUN") for word in shop.nouns(text)]
        self._shop = shop
        self._products = products
        with contextlib.redirect_stdout(io.StringIO()):
            self._env = module.WebAgentTextEnv(observation_mode="text_rich", show_attrs=show_attributes)
        if not as_is:
            _parse_and_compile_once(module, self._env)

    def reset(self, goal: Goal, session: str) -> Shown:
        engine = sys.modules["web_agent_site.engine.engine"]
        engine.random = self._drawing_as_ours(goal)  # type: ignore[attr-defined]
        self._env.server.user_sessions[session] = {"goal": goal_record(goal), "done": False}
        self._env.reset(session)
        return self._shown(0.0, False)

    def step(self, action: str) -> Shown:
        _, reward, done, _ = self._env.step(action)
        return self._shown(reward, done)

    def step_only(self, action: str) -> str:
        """One step, nothing asked for but its observation."""
        return str(self._env.step(action)[0])

    def _shown(self, reward: float, done: bool) -> Shown:
        observations = {}
        for mode in OBSERVATION_MODES:
            self._env.observation_mode = mode
            observations[mode] = self._env.observation
        self._env.observation_mode = "text_rich"
        available = self._env.get_available_actions()
        return Shown(observations, tuple(available["clickables"]), available["has_search_bar"], reward, done)

    def _drawing_as_ours(self, goal: Goal) -> SimpleNamespace:
        drawn = [self._products[index] for index in self._shop.random_results(goal.goal_id)]
        return SimpleNamespace(sample=lambda *_, **__: drawn)


def _parse_and_compile_once(module: Any, env: Any) -> None:
    parse = lru_cache(4)(lambda html: module.BeautifulSoup(html, "html.parser"))
    env._parse_html = lambda html=None: parse(env.state["html"] if html is None else html)
    jinja = module.app.jinja_env
    jinja.from_string = lru_cache(jinja.from_string)


def product_record(product: Product) -> dict[str, Any]:
    """A product as the original keeps it in memory."""
    return {
        "asin": product.asin,
        "name": product.title,
        "Title": product.title,
        "Description": product.description,
        "BulletPoints": list(product.bullet_points),
        "category": product.category,
        "query": product.query,
        "product_category": product.product_category,
        "pricing": list(product.pricing),
        "Price": product.price_tag,
        "options": {name: list(values) for name, values in product.options.items()},
        "option_to_image": dict(product.option_images),
        "Attributes": list(product.attributes),
        "MainImage": product.image,
        "Reviews": [],
        "Rating": "N.A.",
    }


def goal_record(goal: Goal) -> dict[str, Any]:
    """A goal as the original keeps it in memory."""
    return {
        "asin": goal.asin,
        "category": goal.category,
        "query": goal.query,
        "name": goal.name,
        "product_category": goal.product_category,
        "instruction_text": goal.instruction,
        "attributes": list(goal.attributes),
        "price_upper": goal.price_upper,
        "goal_options": list(goal.options) if isinstance(goal.options, tuple) else dict(goal.options),
        "weight": goal.weight,
    }
