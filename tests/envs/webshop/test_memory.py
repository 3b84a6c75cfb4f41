"""Pages written out by hand, in the form of the original's mode ``text_rich``."""

import gymnasium as gym
import pytest

from agentgym_prm.agents.scripted import ShopperAgent
from agentgym_prm.envs import WEBSHOP
from agentgym_prm.envs.webshop import WebShopEnv
from agentgym_prm.envs.webshop.engine import Engine, Shop
from agentgym_prm.envs.webshop.experts import Shopper
from agentgym_prm.envs.webshop.goals import synthetic_goals
from agentgym_prm.envs.webshop.memory import Offer, ShopMemory, Wish, stem, suggested_searches, suggestions, words
from agentgym_prm.envs.webshop.nouns import noun_function
from agentgym_prm.errors import UsageError
from agentgym_prm.rollout import collect
from agentgym_prm.search import Hit

TASK = "i need red toothbrushes, size 2 ounce, and price lower than 20.00 dollars"
SEARCH = f"WebShop\nInstruction: \n{TASK}\n[button] Search [button_]\n"
RESULTS = (
    f"Instruction:\n{TASK}\n[button] Back to Search [button_]\nPage 1 (Total results: 12)\n[button] Next > [button_]\n"
    "\n[button] B000000001 [button_]\nToothbrush, red\n$12.0\n"
    "\n[clicked button] B000000002 [clicked button_]\nTooth\nbrush of two lines\n$15.5 to $40.0\n"
)
ITEM = (
    "You have clicked red.\n"
    f"Instruction:\n{TASK}\n[button] Back to Search [button_]\n[button] < Prev [button_]\n"
    "color\n  [clicked button] red [clicked button_]\n  [button] sea green [button_]\n"
    "size\n  [button] 2 ounce [button_]\n  [button] 4 ounce [button_]\n"
    "Toothbrush, red\nPrice: $12.0\nRating: N.A.\n"
    "[button] Description [button_]\n[button] Features [button_]\n[button] Reviews [button_]\n"
    "[button] Buy Now [button_]\n"
)
FEATURES = (
    f"Instruction:\n{TASK}\n[button] Back to Search [button_]\n[button] < Prev [button_]\n"
    " Soft bristles\n Made for two\n"
)
ON_RESULTS = ("click[b000000001]", "click[b000000002]", "click[back to search]", "click[next >]")
ON_ITEM = tuple(
    f"click[{name}]"
    for name in (
        "2 ounce",
        "4 ounce",
        "< prev",
        "back to search",
        "buy now",
        "description",
        "features",
        "red",
        "reviews",
        "sea green",
    )
)
ON_FEATURES = ("click[< prev]", "click[back to search]")
TURNS = (
    ("search[Red Toothbrushes]", RESULTS, ON_RESULTS),
    ("click[B000000001]", ITEM, ON_ITEM),
    ("click[red]", ITEM, ON_ITEM),
    ("click[Features]", FEATURES, ON_FEATURES),
    ("click[< Prev]", ITEM, ON_ITEM),
)


def after(count: int, mode: str = "text_rich") -> ShopMemory:
    memory = ShopMemory.begin(TASK, in_mode(SEARCH, mode), ("search[<keywords>]",))
    for command, observation, admissible in TURNS[:count]:
        memory.observe(command, in_mode(observation, mode), admissible)
    return memory


def in_mode(page: str, mode: str) -> str:
    """The same page in mode ``text``: no marks, no word on what was clicked."""
    if mode == "text_rich":
        return page
    lines = [line for line in page.replace("Tooth\nbrush", "Tooth brush").split("\n") if line.strip()]
    lines = [line for line in lines if not line.startswith("You have clicked")]
    for mark in ("[clicked button] ", "[button] ", " [clicked button_]", " [button_]"):
        lines = [line.replace(mark, "") for line in lines]
    return " [SEP] ".join(line.strip() for line in lines)


def test_the_opening_is_the_search_page():
    memory = after(0)
    assert (memory.page, memory.searches, memory.suggestions, memory.offers) == ("search", (), (), {})
    assert memory.wish.limit == 20.0


@pytest.mark.parametrize("mode", ["text_rich", "text"])
def test_results_are_read_with_titles_and_prices(mode):
    memory = after(1, mode)
    assert (memory.page, memory.number, memory.total, memory.searches) == ("results", 1, 12, ("red toothbrushes",))
    assert memory.listed == [
        Offer("b000000001", "Toothbrush, red", (12.0, 12.0), search=1, page=1, rank=0),
        Offer("b000000002", "Tooth brush of two lines", (15.5, 40.0), search=1, page=1, rank=1),
    ]
    assert [offer.over(memory.wish.limit) for offer in memory.listed] == [False, True]  # 27.75 dollars on average


@pytest.mark.parametrize("mode", ["text_rich", "text"])
def test_an_item_is_read_with_options_and_what_is_chosen(mode):
    memory = after(2, mode)
    assert (memory.page, memory.asin, memory.chosen) == ("item", "b000000001", {})
    assert memory.offer.options == {"color": ("red", "sea green"), "size": ("2 ounce", "4 ounce")}
    assert (memory.offer.opened, memory.offer.title) == (True, "Toothbrush, red")
    assert after(3, mode).chosen == {"color": "red"}


@pytest.mark.parametrize("mode", ["text_rich", "text"])
def test_sub_pages_are_kept_and_the_choice_outlives_them(mode):
    memory = after(4, mode)
    assert (memory.page, memory.offer.details) == ("features", {"features": "Soft bristles\nMade for two"})
    memory = after(5, mode)
    assert (memory.page, memory.chosen, memory.last, memory.turns) == (
        "item",
        {"color": "red"},
        ("click[red]", "click[Features]", "click[< Prev]"),
        5,
    )


def test_going_back_to_the_results_forgets_the_choice_and_keeps_what_was_read():
    memory = after(5)
    memory.observe("click[< prev]", RESULTS, ON_RESULTS)
    assert (memory.page, memory.asin, memory.chosen) == ("results", "", {})
    assert memory.offers["b000000001"].opened
    assert memory.offers["b000000001"].details


def test_commands_that_change_nothing_change_nothing_but_the_count():
    memory = after(2)
    memory.observe("click[nothing like this]", ITEM, ON_ITEM)
    memory.observe("no such command", ITEM, ON_ITEM)
    assert (memory.page, memory.asin, memory.chosen, memory.turns) == ("item", "b000000001", {}, 4)


def test_after_the_purchase_nothing_is_on_show():
    memory = after(5)
    memory.observe("click[buy now]", "Thank you for shopping with us!\nYour score", ())
    assert memory.page == "done"


def test_a_copy_goes_its_own_way():
    memory = after(2)
    twin = memory.copy()
    twin.observe(*TURNS[2])
    twin.observe(*TURNS[3])
    assert memory.__dict__ == after(2).__dict__
    assert twin.__dict__ == after(4).__dict__


def test_what_a_real_session_shows_is_read_as_it_is():
    env = WebShopEnv(difficulty="small")
    observation, info = env.reset(seed=0)
    goal, product = env.goals[0], env.engine.shop.catalogue.product(0)
    assert goal.asin == product.asin == "ANT0"
    memory = ShopMemory.begin(info["task"], observation, info["admissible_commands"])
    for command in ("search[warm wool scarf]", "click[ant0]", "click[features]", "click[< prev]", "click[white]"):
        observation, *_, info = env.step(command)
        memory.observe(command, observation, info["admissible_commands"])
    shown = memory.offers["ant0"]
    assert (shown.title, shown.options, shown.price) == (product.title, product.options, (30.0, 30.0))
    assert shown.details == {"features": product.bullet_points[0]}
    assert memory.chosen == env.engine.view.options == {"color": "white"}
    assert len(memory.offers) == 10


class Numbers:
    """A search that finds the product of the number typed."""

    def search(self, queries, k):
        return [[Hit(int(query), 1.0)] for query in queries]


@pytest.mark.parametrize("mode", ["text_rich", "text"])
def test_official_products_are_read_as_they_are_listed(real, mode):
    """Titles, prices and options of real products, with whatever odd characters they hold; white space may differ."""
    shop = Shop(real, Numbers(), noun_function("rule"))
    goal = synthetic_goals(real)[0]
    options = 0
    for index in range(0, len(real), 3):
        product, engine = real.product(index), Engine(shop, observation_mode=mode)
        memory = Shopper.begin(goal.instruction, engine.reset(goal, "s"), engine.admissible_commands())
        for command in (f"search[{index}]", f"click[{product.asin}]"):
            memory.observe(command, engine.step(command), engine.admissible_commands())
        offer = memory.offer
        assert offer.title.split() == product.title.split()
        assert offer.price == (product.pricing[0], product.pricing[-1])
        shown = {name: values for name, values in product.options.items() if values}
        assert offer.options == {name: tuple(dict.fromkeys(values)) for name, values in shown.items()}
        options += len(shown)
    assert options > 100


def test_price_limits_are_read_in_several_phrasings():
    for phrase in (", and price lower than 20.00 dollars", " under 20 dollars", " for less than $20", ", below $20.0"):
        assert Wish.of(f"a red mug{phrase}").limit == 20.0
    assert Wish.of("a red mug for 20 people").limit is None
    assert Wish.of("an under 10 dollars mug, and price lower than 20.00 dollars").limit == 20.0


def test_named_options_are_read_from_synthetic_goals():
    wish = Wish.of(
        "Find me easy clean rugs with non slip for living room with color: black | gray, and item shape: round, and "
        "size: 5 ft 3 in, and price lower than 60.00 dollars"
    )
    assert wish.named == (("color", "black | gray"), ("item shape", "round"), ("size", "5 ft 3 in"))
    assert wish.free_words == ("easy", "clean", "rugs", "non", "slip", "living", "room")
    assert Wish.of(TASK).named == ()


def test_words_that_say_nothing_are_not_searched_for():
    assert Wish.of(TASK).words == ("red", "toothbrushes", "size", "2", "ounce")
    assert suggested_searches(TASK) == ("red toothbrushes size 2 ounce", "red toothbrushes size", "2 ounce")
    assert suggested_searches("mugs") == ("mugs",)
    assert suggested_searches("i want to buy it") == ("anything",)
    assert suggestions(("search[a b]", "search[<keywords>]", "click[c]")) == ("a b",)


def test_shared_words_are_those_of_the_instruction_whatever_their_endings():
    assert after(0).shared("Toothbrush (RED), 4 ounces, red again") == "toothbrush red ounces"
    assert words("3x-large, 10.5in") == ("3x", "large", "10.5in")
    assert [stem(word) for word in ("boxes", "dress", "dresses", "bus", "ties")] == [
        "box",
        "dress",
        "dress",
        "bus",
        "ty",
    ]


def test_the_most_promising_results_come_in_the_page_s_order():
    memory = after(1)
    memory.offers["b000000003"] = Offer("b000000003", "Red toothbrush, 2 ounce", (1.0, 1.0), rank=2)
    memory.results = (*memory.results, "b000000003")
    # Words shared with the instruction: two, none, four.
    assert [offer.asin for offer in memory.promising(2)] == ["b000000001", "b000000003"]
    assert [offer.asin for offer in memory.promising(1)] == ["b000000003"]
    assert memory.promising(9) == memory.listed


@pytest.mark.parametrize("mode", ["html", "url"])
def test_observations_that_cannot_be_read_are_refused(mode):
    envs = gym.make_vec(WEBSHOP, num_envs=1, difficulty="small", observation_mode=mode)
    with pytest.raises(UsageError, match="read observation_mode 'text_rich' or 'text'"):
        collect(ShopperAgent(), envs, [0])
