"""The rules of a shopping session, most of them the original's odd ones."""

import copy
import random
import re
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym_prm.envs.webshop.catalog import catalogue_of
from agentgym_prm.envs.webshop.engine import OBSERVATION_MODES, SEARCH_PATTERN, Engine, Shop, parsed
from agentgym_prm.envs.webshop.nouns import RuleNouns
from agentgym_prm.envs.webshop.pages import Page
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.search import Hit
from tests.envs.webshop.shops import HOSTILE_TEXTS, hostile_catalogue, made_goal, shoe_goal, shop_of, small_catalogue

SHOE = ("search[trail shoe]", "click[b000000001]")


def started(*commands: str, shop: Shop | None = None, session: str = "s1", **kwargs) -> Engine:
    engine = Engine(shop or shop_of(small_catalogue()), **kwargs)
    engine.reset(shoe_goal(), session)
    for command in commands:
        engine.step(command)
    return engine


def everything(engine: Engine) -> tuple:
    observations = tuple(engine.observe(mode) for mode in OBSERVATION_MODES)
    return observations, engine.clickables(), engine.valid, engine.done, engine.outcome, dict(engine.reward_parts)


# --- commands ---


@pytest.mark.parametrize(
    ("command", "verb", "argument"),
    [
        ("search[Red Shoes]", "search", "red shoes"),
        ("search[red] and more", "search", "red"),
        ("search[red]]", "search", "red]"),
        ("search[[red]", "search[", "red"),  # greedy: the last bracket that still leaves an argument
        ("search[a[b]]", "search[a", "b]"),
        ("click[a[]", "click", "a["),  # the last bracket would leave no argument
        ("search[a] [b]", "search[a] ", "b"),
        ("search[red\nshoes]", "search[red\nshoes]", ""),  # a line break ends it
        ("search[red]\n[blue]", "search", "red"),
        ("\nsearch[red]", "\nsearch[red]", ""),
        ("search[]", "search[]", ""),
        ("[red]", "[red]", ""),
        ("search", "search", ""),
        ("", "", ""),
    ],
)
def test_commands_are_read_greedily(command, verb, argument):
    assert parsed(command) == (verb, argument)


@given(st.text(alphabet="ab[]\n S", max_size=14))
@settings(max_examples=400, deadline=None)
def test_commands_are_read_as_by_the_regular_expression(command):
    match = re.match(r"(.+)\[(.+)\]", command)
    assert parsed(command) == ((match[1], match[2].lower()) if match else (command, ""))


def test_a_long_command_takes_no_time():
    started_at = time.perf_counter()
    for command in ("[" * 200_000, "[a" * 100_000 + "]", "search[" + "]" * 200_000):
        parsed(command)
    # Backtracking would take minutes.
    assert time.perf_counter() - started_at < 1


@pytest.mark.parametrize(
    "command",
    [
        "",
        "search",
        "search[]",
        "Search[red]",
        " search[red]",
        "click[red]",
        "click[search]",
        "click[buy now]",
        "click[]",
        "click[b000000001]",
        "think[x] search[red]",
        "search[red\nblue]",
        "buy now",
        "click[description]",
    ],
)
def test_what_cannot_be_executed_changes_nothing(command):
    engine = started()
    before = engine.view
    engine.step(command)
    assert not engine.valid
    assert engine.view is before


@pytest.mark.parametrize("command", ["click[8]", "click[ 8]", "Click[7]", "click[Trail Shoe]", "click[b000000001]"])
def test_only_what_is_on_the_page_can_be_clicked(command):
    engine = started(*SHOE)
    engine.step(command)
    assert engine.valid == (command == "click[8]")


def test_clicks_are_read_in_lower_case():
    assert started("search[trail shoe]", "click[B000000001]", "click[Buy Now]").done


@pytest.mark.parametrize("before", [(), ("search[socks]",), SHOE, (*SHOE, "click[features]")])
def test_searching_works_on_every_page(before):
    engine = started(*before, "search[LAMP]")
    assert engine.valid
    assert [sheet.product.asin for sheet in engine.view.shown] == ["B000000002"]
    assert engine.view.keywords == ("lamp",)


# --- what each transition forgets ---


def test_back_to_the_results_forgets_the_options_and_remembers_the_visit():
    engine = started(*SHOE, "click[red]", "click[< prev]")
    assert engine.view.page is Page.RESULTS
    assert engine.view.options == {}
    assert engine.view.visited == {"B000000001"}
    engine.step("click[b000000001]")
    assert "clicked" not in engine.observe()


def test_a_new_search_remembers_the_visits_too():
    assert "[clicked button] B000000001" in started(*SHOE, "search[trail]").observe()


def test_back_to_search_forgets_everything():
    engine = started(*SHOE, "click[red]", "click[back to search]")
    assert engine.observe() == started().observe()
    engine.step("search[trail]")
    assert "[button] B000000001" in engine.observe()


def test_sub_pages_keep_the_options():
    engine = started(*SHOE, "click[red]", "click[features]")
    assert engine.view.page is Page.SUB_PAGE
    engine.step("click[< prev]")
    assert engine.view.page is Page.ITEM
    assert engine.view.options == {"color": "red"}


def test_going_back_returns_to_the_page_of_results_that_one_came_from():
    engine = started("search[socks]", "click[next >]", "click[b00000001a]", "click[< prev]")
    assert engine.view.number == 2
    engine.step("click[< prev]")
    assert engine.view.number == 1


def test_choosing_again_replaces_the_value_and_keeps_the_order():
    engine = started(*SHOE, "click[red]", "click[7]", "click[dark blue]")
    assert list(engine.view.options.items()) == [("color", "dark blue"), ("size", "7")]


# --- names that mean several things ---


def shoe_with(**changes) -> Shop:
    return shop_of(catalogue_of([replace(small_catalogue().product(0), **changes)], "one"))


def test_a_value_of_several_options_sets_the_last_of_them():
    shop = shoe_with(options={"color": ("natural", "red"), "scent": ("natural",)})
    assert started(*SHOE, "click[natural]", shop=shop).view.options == {"scent": "natural"}
    assert started(*SHOE, shop=shop).clickables()[-2:] == ("natural", "red")


def test_an_option_named_like_a_button_acts_as_the_button():
    shop = shoe_with(options={"print": ("description", "buy now", "< prev", "back to search", "search", "next >")})
    at_shoe = started(*SHOE, shop=shop)
    assert at_shoe.clickables() == (
        "back to search", "< prev", "description", "features", "reviews", "buy now", "search", "next >",
    )  # fmt: skip
    pages = {}
    for name in ("description", "buy now", "< prev", "back to search", "search", "next >"):
        engine = at_shoe.clone()
        engine.step(f"click[{name}]")
        pages[name] = (engine.view.page, engine.valid, dict(engine.view.options))
    assert pages == {
        "description": (Page.SUB_PAGE, True, {}),
        "buy now": (Page.DONE, True, {}),
        "< prev": (Page.RESULTS, True, {}),
        "back to search": (Page.SEARCH, True, {}),
        "search": (Page.ITEM, False, {}),  # refused wherever it stands
        "next >": (Page.ITEM, True, {"print": "next >"}),  # no paging here, so it is an option
    }


def test_the_attributes_can_be_reached_through_an_option_of_that_name():
    engine = started(*SHOE, "click[attributes]", shop=shoe_with(options={"print": ("attributes",)}))
    assert engine.view.sub_page == "Attributes"


@pytest.mark.parametrize("keywords", ["trail search_results", "trail item_page"])
def test_the_kind_of_page_is_read_off_the_address_with_the_keywords_in_it(keywords):
    # "search_results" in the address of a product's page: < Prev pages back, here to page 0, which is empty.
    on_product = started(f"search[{keywords}]", "click[b000000001]", "click[< prev]")
    on_sub_page = started(f"search[{keywords}]", "click[b000000001]", "click[features]", "click[< prev]")
    number = 0 if "search_results" in keywords else 1
    for engine in (on_product, on_sub_page):
        assert engine.view.page is Page.RESULTS
        assert engine.view.number == number
        assert len(engine.view.shown) == number
    on_product.step("click[next >]")
    assert on_product.view.number == number + 1


def test_sessions_stand_in_addresses_too():
    engine = started("search[socks]", "click[next >]", "click[b00000001a]", "click[< prev]", session="search_results")
    assert engine.view.number == 1


@pytest.mark.parametrize("asin", ["BUY NOW", "FEATURES", "REVIEWS", "SEARCH"])
def test_a_product_with_the_name_of_a_button_cannot_be_opened(asin):
    engine = started("search[trail]", f"click[{asin}]", shop=shoe_with(asin=asin))
    assert not engine.valid
    assert engine.view.page is Page.RESULTS


# --- special searches ---


def found(engine: Engine) -> list[str]:
    return [sheet.product.asin for sheet in engine.view.shown]


def test_prefixes_list_a_category_a_query_or_an_attribute():
    assert started("search[<c> garden lamps]").view.results == 1  # one word is read
    assert found(started("search[<C> Garden]")) == ["B000000002"]
    assert started("search[<c> fashion]").view.results == 12
    assert started("search[<q>  SOCKS ]").view.results == 11
    assert found(started("search[<a> rubber sole]")) == ["B000000001"]
    for nothing in ("search[<c>]", "search[<c> shoes]", "search[<q> sock]", "search[<a> rubber]"):
        engine = started(nothing)
        assert engine.valid
        assert engine.view.results == 0


def test_a_category_may_have_more_products_than_a_search_finds():
    products = [replace(small_catalogue().product(0), asin=f"B{number:09}") for number in range(60)]
    shop = shop_of(catalogue_of(products, "sixty"))
    assert started("search[<c> fashion]", shop=shop).view.results == 60
    assert started("search[trail shoe]", shop=shop).view.results == 50
    assert started("search[<r>]", shop=shop).view.results == 50


def test_random_products_follow_from_the_goal_and_stay_while_paging():
    shop = shop_of(small_catalogue())
    first = started("search[<r>]", shop=shop)
    assert first.view.results == 13  # all there are
    pages = [*found(first), *found(started("search[<r>]", "click[next >]", shop=shop, session="other"))]
    assert sorted(pages) == sorted(shop.catalogue.product(i).asin for i in range(13))
    assert found(started("search[<r>]", "click[next >]", "click[< prev]", shop=shop)) == pages[:10]
    other = Engine(shop)
    other.reset(replace(shoe_goal(), goal_id="made/B000000001/1"), "s1")
    other.step("search[<r>]")
    assert found(other) != pages[:10]


# --- the end ---


def test_buying_pays_the_reward_and_ends_the_session():
    # The lamp: no attribute, no option, price 12.5 <= 50 fits: 1/3, times r_type. "Trail Shoe" has two nouns, neither
    # of them in the lamp's title, so r_type is 0.
    lamp = started("search[lamp]", "click[b000000002]", "click[buy now]")
    assert (lamp.done, lamp.outcome, lamp.won) == (True, 0.0, False)
    # The shoe in red at 40 dollars: all of 1 attribute, 1 option and the price, and both nouns: (1 + 1 + 1) / 3.
    cheap = shoe_with(pricing=(40.0,), price_tag="$40.0")
    shoe = started(*SHOE, "click[red]", "click[buy now]", shop=cheap)
    assert (shoe.done, shoe.outcome, shoe.won) == (True, 1.0, True)
    assert shoe.reward_parts["r_option"] == 1.0
    # In blue, the option is missing: 2 / 3.
    blue = started(*SHOE, "click[dark blue]", "click[buy now]", shop=cheap)
    assert (blue.done, blue.outcome, blue.won) == (True, 2 / 3, False)


@pytest.mark.parametrize("command", ["search[red]", "click[back to search]", "click[buy now]", "x"])
def test_after_the_purchase_nothing_happens(command):
    engine = started(*SHOE, "click[buy now]")
    before = everything(engine)
    engine.step(command)
    assert not engine.valid
    assert everything(engine)[:2] == before[:2]
    assert engine.admissible_commands() == ()


def test_a_reset_starts_anew():
    engine = started(*SHOE, "click[red]", "click[buy now]")
    engine.reset(shoe_goal(), "s1")
    assert everything(engine) == everything(started())


# --- copies, modes, sharing ---


def test_a_clone_goes_on_independently():
    engine = started(*SHOE, "click[7]")
    twin = engine.clone()
    before = everything(engine)
    assert everything(twin) == before
    for command in ("click[red]", "click[features]", "click[< prev]", "click[buy now]"):
        twin.step(command)
    assert twin.done
    assert everything(engine) == before
    engine.step("click[8]")
    assert dict(engine.view.options) == {"size": "8"}
    assert dict(twin.view.options) == {"size": "7", "color": "red"}


def test_every_step_of_a_clone_is_what_the_original_engine_would_have_shown():
    shop = shop_of(hostile_catalogue(1))
    rng = random.Random(0)
    goal = made_goal(shop.catalogue.product(9), rng)
    engine = Engine(shop)
    engine.reset(goal, "s")
    for _ in range(60):
        twin = engine.clone()
        choices = engine.admissible_commands() or ("x",)
        command = rng.choice(choices).replace(SEARCH_PATTERN, "search[red shoes]")
        assert twin.step(command) == engine.step(command)
        assert everything(twin) == everything(engine)


@pytest.mark.parametrize("mode", OBSERVATION_MODES)
def test_step_returns_the_mode_that_was_asked_for(mode):
    engine = started(observation_mode=mode)
    for command in (*SHOE, "click[features]", "nonsense"):
        assert engine.step(command) == engine.observe() == engine.observe(mode)
        assert engine.observe("url").startswith("http://127.0.0.1:3000/")


def test_an_unknown_mode_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'text_rich'"):
        started(observation_mode="text_ritch")
    with pytest.raises(UnknownNameError, match="valid: text_rich, text, html, url"):
        started().observe("image")


def test_a_deep_copy_shares_the_shop():
    engine = started(*SHOE)
    assert copy.deepcopy(engine).shop is engine.shop


def test_a_search_is_made_once_for_all_sessions():
    asked = []

    class Index:
        def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
            asked.append((queries, k))
            return [[Hit(0, 1.0)]]

    shop = Shop(small_catalogue(), Index(), RuleNouns())
    for session in ("s1", "s2"):
        started("search[Trail  shoe]", "click[b000000001]", "click[< prev]", shop=shop, session=session)
    assert asked == [(["trail  shoe"], 50)]


# --- admissible commands ---


def test_every_admissible_command_is_executed_and_they_are_sorted():
    shop = shop_of(hostile_catalogue(2))
    rng = random.Random(1)
    seen = 0
    for number in range(8):
        engine = Engine(shop, show_attributes=bool(number % 2))
        engine.reset(made_goal(shop.catalogue.product(rng.randrange(70)), rng), "s")
        for _ in range(25):
            commands = engine.admissible_commands()
            assert list(commands) == sorted(set(commands))
            for command in commands:
                twin = engine.clone()
                twin.step(command.replace(SEARCH_PATTERN, "search[red]"))
                assert twin.valid, command
                seen += 1
            if engine.done:
                break
            engine.step(
                rng.choice(commands).replace(SEARCH_PATTERN, f"search[{rng.choice(['red', '<r>', 'desk lamp'])}]")
            )
    assert seen > 1000


def test_options_that_no_command_can_name_are_not_listed():
    values = ("", "a\nb", "a[b", "search", "a]b", "a[", "7")
    engine = started(*SHOE, shop=shoe_with(options={"odd": values}))
    assert engine.clickables()[-7:] == values
    listed = [
        command for command in engine.admissible_commands() if command.startswith(("click[7", "click[a", "click[]"))
    ]
    assert listed == ["click[7]", "click[a[]", "click[a]b]"]


# --- anything may be typed ---


def test_a_hundred_thousand_random_commands_do_no_harm():
    rng = random.Random(7)
    shop = shop_of(hostile_catalogue(3))
    pieces = [
        *HOSTILE_TEXTS,
        "search[",
        "click[",
        "]",
        "[",
        "red",
        "buy now",
        "next >",
        "< prev",
        "<c> ",
        "<r>",
        "\ud800",
    ]
    engine = Engine(shop)
    executed = purchases = 0
    for number in range(100_000):
        if number % 50 == 0 or engine.done:
            purchases += engine.done if number else 0
            engine.reset(made_goal(shop.catalogue.product(rng.randrange(70)), rng), "".join(rng.choices(pieces, k=2)))
        if rng.random() < 0.3 and (commands := engine.admissible_commands()):
            engine.step(rng.choice(commands).replace(SEARCH_PATTERN, f"search[{rng.choice(pieces)}]"))
        else:
            engine.step(rng.choice(("search[", "click[", "")) + "".join(rng.choices(pieces, k=rng.randint(0, 4))) + "]")
        executed += engine.valid
        if number % 100 == 0:
            everything(engine)
    assert executed > 20_000
    assert purchases > 100


@given(st.lists(st.text(max_size=30), max_size=6))
@settings(max_examples=40, deadline=None)
def test_any_text_can_be_searched_for_in_every_mode(texts):
    engine = started()
    for text in texts:
        engine.step(f"search[{text}]")
        everything(engine)
