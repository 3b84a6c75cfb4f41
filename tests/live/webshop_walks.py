"""Random shopping for playing two engines side by side: through all kinds of pages, with a goal in mind or without.

Now and then something is typed that nobody should execute, or that only looks like an action.
"""

import random
from collections.abc import Sequence

from agentgym_prm.envs.webshop.catalog import Catalogue
from agentgym_prm.envs.webshop.goals import Goal

ODD_SHARE = 0.1
SESSIONS = ["s", "done", "search_results", "item_sub_page x", 'a"b', "<&>'", "ü%41+", '{"size"}']
SUB_PAGES = ("description", "features", "reviews", "attributes")


class ShopWalk:
    """Chooses actions; the choice depends only on the seed and on what can be clicked."""

    def __init__(self, catalogue: Catalogue, goal: Goal, seed: int) -> None:
        self._random = random.Random(f"shopping {catalogue.name} {seed}")
        self._catalogue = catalogue
        self._goal = goal
        self._pages_through = seed % 5 == 0
        self._purposeful = seed % 4 == 1
        values = goal.options if isinstance(goal.options, tuple) else goal.options.values()
        self._left_to_click = [goal.asin.lower(), *(value for value in values)]
        self.session = f"{self._random.choice(SESSIONS)}{seed}" if seed % 3 == 0 else f"fixed_{seed}"

    def choose(self, clickables: Sequence[str], has_search_bar: bool) -> str:
        """The next action."""
        rng = self._random
        if rng.random() < ODD_SHARE:
            return self._odd(clickables)
        if self._purposeful and not has_search_bar:
            return f"click[{self._next_for_the_goal(clickables)}]"
        if has_search_bar or not clickables or rng.random() < 0.03:
            named = self._purposeful and rng.random() < 0.8
            return f"search[{self._goal.name if named else self._keywords()}]"
        return f"click[{rng.choices(clickables, [self._weight(name) for name in clickables])[0]}]"

    def _next_for_the_goal(self, clickables: Sequence[str]) -> str:
        """What is still to be clicked of the product and its options; then, after a look around, the purchase."""
        wanted = [name for name in self._left_to_click if name in clickables]
        if wanted:
            self._left_to_click.remove(wanted[0])
            return wanted[0]
        if "buy now" in clickables and self._random.random() < 0.5:
            return "buy now"
        return self._random.choice([name for name in clickables if name != "back to search"] or ["back to search"])

    def _weight(self, name: str) -> float:
        if name == self._goal.asin.lower():
            return 30.0
        if name in ("next >", "< prev"):
            return (8.0 if name == "next >" else 2.0) if self._pages_through else 1.5
        if name in ("buy now", "back to search"):
            return 0.7
        return 3.0 if name in SUB_PAGES else 2.0

    def _keywords(self) -> str:
        rng = self._random
        product = self._catalogue.product(rng.randrange(len(self._catalogue)))
        values = [value for values in product.options.values() for value in values] or ["red"]
        title, wanted = product.title.split(), self._goal.name.split()
        return rng.choice(
            [
                " ".join(wanted),
                " ".join(wanted[:4]),
                self._goal.instruction,
                " ".join(rng.sample(title, min(len(title), 3))) or "shoes",
                " ".join(rng.sample(title, min(len(title), 3))).upper() or "SHOES",
                f"<c> {product.category}",
                f"<q> {product.query}",
                f"<q>  {product.query.upper()} ",
                "<r>",
                "<c> nothing such",
                f'"{rng.choice(values)}" for women',
                f'"{rng.choice(list(product.options) or ["size"])}" men',
                "search_results women",
                "item_page men",
                "item_sub_page done red",
                "zzzz",
                " ",
                "a  b ",
                "search[red] [x]",
                "<script>alert(1)</script> & 'red' \"blue\" +/%",
                "漢字 ünï red",
            ]
        )

    def _odd(self, clickables: Sequence[str]) -> str:
        rng = self._random
        name = rng.choice([*clickables, "search", "buy now", "b000000000"])
        return rng.choice(
            [
                f"click[{name.upper()}]",
                f"click[{name}] please",
                f"click[{name}]]",
                f"click[[{name}]",
                f"Click[{name}]",
                f" click[{name}]",
                f"click [{name}]",
                f"click[{name} ]",
                f"click[{name}",
                f"\nclick[{name}]",
                f"click[{name}]\nsearch[red]",
                f"think[I want it] click[{name}]",
                "click[search]",
                "click[]",
                "search[]",
                "search[red\nblue]",
                "search",
                "",
                "[]",
                "buy now",
                f"click[{self._goal.asin}]",
                rng.choice([f"click[{sub_page}]" for sub_page in SUB_PAGES]),
                "".join(rng.choices("[]<>clicksear\n \"'", k=20)),
            ]
        )
