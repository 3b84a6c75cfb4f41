"""Claim: taking all but function words for nouns changes a WebShop reward by less than 0.03 on average.

    python benchmarks/webshop_nouns.py --data FOLDER [--reference nouns.json] [--purchases 12]

FOLDER holds WebShop's 1,000 products. For each of their instructions (the first option combination of each product with
a synthetic one, and the human ones) products are bought of three kinds: any; others found with the same query; others
of the same two upper category levels, but another query. The reward with the rule's nouns is compared with the
reward with those of each reference:

``spacy``      en_core_web_sm, as in the original, where it is installed
``nouns.json`` of another tagger: an object of title to list of nouns, lower-case
``thinned``    the rule, with a fixed random 13 % of all words taken for no nouns: what a tagger does that differs at
               random; needs nothing

Per kind: how often the type factor differs, the mean absolute and the mean difference of the total reward. And what
holds for every tagger that tags no function words: how often the factor is 0 either way, as no word is common.
"""

import argparse
import json
import random
import zlib
from collections import Counter, defaultdict
from pathlib import Path

from agentgym_prm.envs.webshop.catalog import Catalogue, open_catalogue
from agentgym_prm.envs.webshop.goals import Goal, human_goals, synthetic_goals
from agentgym_prm.envs.webshop.nouns import NounFunction, RuleNouns, noun_function
from agentgym_prm.envs.webshop.reward import Reward, purchase_reward
from agentgym_prm.errors import MissingDependencyError

THINNED = 0.13
KINDS = ("any", "same query", "same category, other query")


class TabledNouns:
    """Nouns from a table."""

    def __init__(self, name: str, table: dict[str, list[str]]) -> None:
        self.name, self._table = name, table

    def __call__(self, title: str) -> list[str]:
        return self._table[title]


class ThinnedRule:
    """The rule, but some words are never nouns."""

    name = f"thinned by {THINNED:.0%}"

    def __call__(self, title: str) -> list[str]:
        return [word for word in RuleNouns()(title) if zlib.crc32(word.encode()) / 2**32 >= THINNED]


def purchases(catalogue: Catalogue, goals: list[Goal], each: int) -> dict[str, list[tuple[int, Goal]]]:
    """Product and goal, ``each`` times a goal and kind."""
    products = [catalogue.product(index) for index in range(len(catalogue))]
    by_query, by_levels = defaultdict(list), defaultdict(list)
    for index, product in enumerate(products):
        by_query[product.query].append(index)
        by_levels[upper_levels(product.product_category)].append(index)
    rng = random.Random(0)
    bought: dict[str, list[tuple[int, Goal]]] = {kind: [] for kind in KINDS}
    for goal in goals:
        same_query = [index for index in by_query[goal.query] if products[index].asin != goal.asin]
        levels = upper_levels(goal.product_category)
        near = [index for index in by_levels[levels] if products[index].query != goal.query]
        for kind, indices in zip(KINDS, (range(len(products)), same_query, near), strict=True):
            bought[kind] += [(rng.choice(indices), goal) for _ in range(each) if indices]
    return bought


def upper_levels(product_category: str) -> tuple[str, ...]:
    return tuple(level.strip() for level in product_category.split("›")[:2])


def rewards(catalogue: Catalogue, bought: list[tuple[int, Goal]], nouns: NounFunction) -> list[Reward]:
    """With the first value of every option chosen."""
    made = []
    for index, goal in bought:
        product = catalogue.product(index)
        options = {name: values[0] for name, values in product.options.items() if values}
        made.append(purchase_reward(product, goal, product.price, options, nouns))
    return made


def references(path: Path | None) -> list[NounFunction]:
    found: list[NounFunction] = [ThinnedRule()]
    if path:
        found.append(TabledNouns(path.name, json.loads(path.read_text())))
    try:
        found.append(noun_function("spacy"))
    except MissingDependencyError as error:
        print(error)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with items_shuffle_1000.json")
    parser.add_argument("--reference", type=Path, help="nouns of another tagger: a JSON object of title to nouns")
    parser.add_argument("--purchases", type=int, default=12, help="of each kind, for each goal")
    options = parser.parse_args()

    catalogue = open_catalogue(options.data)
    goals = [goal for goal in synthetic_goals(catalogue) if goal.goal_id.endswith("/0")] + list(human_goals(catalogue))
    bought = purchases(catalogue, goals, options.purchases)
    rule = RuleNouns()
    ours = {kind: rewards(catalogue, pairs, rule) for kind, pairs in bought.items()}
    for kind, made in ours.items():
        certain = sum(reward.parts["title_score"] == 0 for reward in made) / len(made)
        mean = sum(reward.total for reward in made) / len(made)
        print(f"{kind}: {len(made):,} purchases, mean reward {mean:.4f}, no common word in {certain:.1%}")
    for reference in references(options.reference):
        both = ours_only = theirs_only = 0
        for index in range(len(catalogue)):
            title = catalogue.product(index).title
            mine, other = Counter(rule(title)), Counter(reference(title))
            both += (mine & other).total()
            ours_only += (mine - other).total()
            theirs_only += (other - mine).total()
        print(
            f"\n{reference.name}: of the rule's nouns {both / (both + ours_only):.1%} are nouns to it, "
            f"of its nouns {both / (both + theirs_only):.1%} to the rule"
        )
        print(f"{'purchases':28} {'factor differs':>14} {'mean |change|':>14} {'mean change':>12}")
        for kind, pairs in bought.items():
            theirs = rewards(catalogue, pairs, reference)
            changes = [mine.total - other.total for mine, other in zip(ours[kind], theirs, strict=True)]
            factors = sum(
                mine.parts["r_type"] != other.parts["r_type"] for mine, other in zip(ours[kind], theirs, strict=True)
            )
            absolute = sum(map(abs, changes)) / len(changes)
            share = factors / len(changes)
            print(f"{kind:28} {share:14.1%} {absolute:14.4f} {sum(changes) / len(changes):+12.4f}")


if __name__ == "__main__":
    main()
