"""Records what the original WebShop makes of its data: products, goals and rewards, for ``tests/envs/webshop``.

    WEBSHOP_HOME=<checkout of princeton-nlp/WebShop> python -m tests.live.webshop_record_rewards

Runs where the original's code runs (Python 3.11 with beautifulsoup4, flask, numpy, rich, thefuzz and tqdm); what it
imports beyond that is not needed here and replaced by empty modules. Instead of spaCy's tagger, the nouns of a title
are its runs of four or more Latin letters, so that the recording does not depend on a model.
"""

import gzip
import hashlib
import json
import lzma
import os
import random
import re
import shutil
import sys
import tempfile
import types
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

REPOSITORY = Path(__file__).parents[2]
RECORDED = REPOSITORY / "tests/envs/webshop/original.json.xz"
REWARDS = 400
NEAR_THRESHOLD = 300


def digest(value: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()[:12]


def nouns(title: str) -> list[str]:
    """The noun function of the recording."""
    return [word.lower() for word in re.findall("[A-Za-z]{4,}", title)]


def product_fields(product: dict[str, Any]) -> list[Any]:
    """What a product is, in the original's terms."""
    keys = ("asin", "Title", "Description", "BulletPoints", "category", "query", "product_category", "pricing", "Price")
    keys += ("options", "option_to_image", "Attributes", "MainImage", "instruction_text", "instruction_attributes")
    return [product[key] for key in keys]


def goal_fields(goal: dict[str, Any]) -> list[Any]:
    """What a goal is, without the price limit, which the original draws before it sets a seed."""
    text = re.sub(r", and price lower than [\d.]+ dollars$", "", goal["instruction_text"])
    options = goal["goal_options"]
    listed = [list(pair) for pair in options.items()] if isinstance(options, dict) else options
    return [goal["asin"], text, goal["attributes"], listed, goal["weight"], goal["name"], goal["query"]]


def import_original(home: Path) -> SimpleNamespace:
    """The original's modules, with its tagger replaced."""
    for name in ("cleantext", "gym", "pyserini", "pyserini.search", "pyserini.search.lucene", "rank_bm25", "spacy"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["pyserini.search.lucene"].LuceneSearcher = object  # type: ignore[attr-defined]
    sys.modules["rank_bm25"].BM25Okapi = object  # type: ignore[attr-defined]
    sys.modules["spacy"].load = lambda name: (  # type: ignore[attr-defined]
        lambda title: [SimpleNamespace(text=word, pos_="NOUN") for word in nouns(title)]
    )
    sys.path.insert(0, str(home))
    from thefuzz import fuzz
    from web_agent_site.engine import engine, goal

    return SimpleNamespace(engine=engine, goal=goal, fuzz=fuzz)


def main() -> None:
    original = import_original(Path(os.environ["WEBSHOP_HOME"]))
    data = Path(os.environ.get("AGENTGYM_PRM_TEST_DATA", REPOSITORY / "../shared/data")).resolve() / "webshop"
    with tempfile.TemporaryDirectory() as folder:
        products_path = Path(folder) / "items_shuffle_1000.json"
        with gzip.open(data / "items_shuffle_1000.json.gz") as source, products_path.open("wb") as target:
            shutil.copyfileobj(source, target)
        original.engine.DEFAULT_ATTR_PATH = str(data / "items_ins_v2_1000.json")
        original.engine.HUMAN_ATTR_PATH = str(data / "items_human_ins_1000.json")
        products, _, prices, _ = original.engine.load_products(str(products_path), human_goals=False)
        with_people, *_ = original.engine.load_products(str(products_path), human_goals=True)
    goals = {
        "synthetic": original.goal.get_goals(products, prices, human_goals=False),
        "human": original.goal.get_goals(with_people, prices, human_goals=True),
    }
    shuffled = list(goals["synthetic"])
    random.seed(233)
    random.shuffle(shuffled)
    record = {
        "products": [digest(product_fields(product)) for product in products],
        "goals": {
            kind: {"count": len(made), "digest": digest(list(map(goal_fields, made)))} for kind, made in goals.items()
        },
        "shuffled": digest(list(map(goal_fields, shuffled))),
        "rewards": list(rewards(original, products, prices, goals, random.Random(0))),
        "own": digest(list(own_rewards(original, products, goals["synthetic"]))),
        "scores": scores(original, products),
    }
    RECORDED.write_bytes(lzma.compress(json.dumps(record, separators=(",", ":")).encode()))
    sys.stdout.write(f"{RECORDED}: {len(record['rewards'])} rewards, {len(record['scores'])} scores\n")


def rewards(original, products, prices, goals, rng):
    """Purchases of all kinds: the wanted product, one of its query or category, any; right, random or no options."""
    same_query, same_category = defaultdict(list), defaultdict(list)
    for index, product in enumerate(products):
        same_query[product["query"]].append(index)
        for level in product["product_category"].split("›")[1:]:
            same_category[level.strip()].append(index)
    positions = {product["asin"]: index for index, product in enumerate(products)}
    for number in range(REWARDS):
        kind = "human" if number % 5 == 0 else "synthetic"
        which = rng.randrange(len(goals[kind]))
        goal = goals[kind][which]
        own = positions[goal["asin"]]
        levels = goal["product_category"].split("›")
        bought = rng.choice([
            own,
            rng.choice(same_query[goal["query"]]),
            rng.choice(same_category[rng.choice(levels[1:] or levels).strip()] or [own]),
            rng.randrange(len(products)),
        ])  # fmt: skip
        product = products[bought]
        chosen = {
            name: rng.choice(values) for name, values in product["options"].items() if values and rng.random() < 0.7
        }
        if isinstance(goal["goal_options"], dict) and rng.random() < 0.4:
            chosen |= goal["goal_options"]
        total, parts = original.goal.get_reward(product, goal, prices[product["asin"]], chosen, verbose=True)
        yield {
            "kind": kind, "goal": which, "price_upper": goal["price_upper"], "product": bought,
            "price": prices[product["asin"]], "options": chosen, "total": total, "parts": parts,
        }  # fmt: skip


def own_rewards(original, products, goals):
    """What each wanted product is worth with the options that are asked for: not always 1."""
    by_asin = {product["asin"]: product for product in products}
    for goal in goals:
        yield original.goal.get_reward(by_asin[goal["asin"]], goal, 0.0, goal["goal_options"])


def scores(original, products):
    """Pairs of texts whose score is near the threshold of 85, and some of other scripts."""
    texts = sorted({text for product in products for text in product["Attributes"]})
    texts += sorted({value for product in products for values in product["options"].values() for value in values})[::4]
    rng = random.Random(1)
    near = []
    while len(near) < NEAR_THRESHOLD:
        one, other = rng.choice(texts), rng.choice(texts)
        for pair in ((one, other), (one, one[: rng.randint(1, len(one))]), (one, one + rng.choice("sxé' 7"))):
            score = original.fuzz.token_set_ratio(*pair)
            if 83 <= score <= 88:
                near.append([*pair, score])
    odd = [
        ("né", "n"),
        ("naïve", "nave"),
        ("日本", "日本"),
        ("", ""),
        ("", "a"),
        ("½ inch", "inch"),
        ("...", "..."),
        ("ＡＢＣ", "abc"),
    ]
    return near + [[one, other, original.fuzz.token_set_ratio(one, other)] for one, other in odd]


if __name__ == "__main__":
    main()
