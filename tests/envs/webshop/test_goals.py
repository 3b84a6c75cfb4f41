import itertools
import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from agentgym_prm.envs.webshop.catalog import HumanInstruction, Product, catalogue_of
from agentgym_prm.envs.webshop.goals import Goal, human_goals, official_split, synthetic_goals
from agentgym_prm.errors import DataNotFoundError, UnknownNameError
from tests.live.webshop_record_rewards import digest

SHOE = Product(
    asin="B000000001",
    title="Acme Shoe",
    description="",
    bullet_points=("",),
    category="fashion",
    query="shoes",
    product_category="Clothing › Shoes",
    pricing=(25.0,),
    price_tag="$25.0",
    options={"size": ("7", "8", "9"), "color": ("red", "blue")},
    option_images={},
    attributes=("rubber sole",),
    image="",
    instruction="Find me shoes with rubber sole",
    instruction_attributes=("rubber sole",),
    human_instructions=(
        HumanInstruction("I want red shoes...", ("rubber sole",), ("red",)),
        HumanInstruction("no attributes.", (), ()),
        HumanInstruction("...anything", ("rubber sole",), ()),
    ),
)
SOCK = replace(
    SHOE,
    asin="B000000002",
    title="Sock",
    options={},
    pricing=(985.0,),
    instruction="Find me socks",
    instruction_attributes=("warm", "rubber sole"),
    human_instructions=(),
)


@pytest.fixture
def shop():
    silent = replace(SHOE, asin="B000000003", instruction=None, human_instructions=())
    nothing_asked = replace(SHOE, asin="B000000004", instruction_attributes=(), human_instructions=())
    no_choice = replace(SHOE, asin="B000000005", options={"size": ("7",), "color": ()}, human_instructions=())
    return catalogue_of([silent, SHOE, nothing_asked, no_choice, SOCK], "test")


def without_limit(goal):
    return re.sub(r", and price lower than \d+\.\d\d dollars$", "", goal.instruction)


def test_human_goals_are_the_instructions_with_attributes(shop):
    first, second = human_goals(shop)
    assert (first.goal_id, second.goal_id) == ("human/B000000001/0", "human/B000000001/2")
    assert without_limit(first) == "I want red shoes"  # dots at both ends are stripped
    assert without_limit(second) == "anything"
    assert first.options == ("red",)
    assert second.options == ()
    assert first.attributes == ("rubber sole",)
    assert (first.asin, first.category, first.query, first.name) == ("B000000001", "fashion", "shoes", "Acme Shoe")
    assert first.weight == 1


def test_synthetic_goals_are_all_combinations_the_last_option_turning_fastest(shop):
    goals = synthetic_goals(shop)
    # Options are sorted by name, values are not. The sock has none, hence one goal.
    combinations = [
        dict(zip(("color", "size"), pair, strict=True)) for pair in itertools.product(("red", "blue"), "789")
    ]
    assert [goal.options for goal in goals] == [*combinations, {}]
    assert [list(goal.options) for goal in goals[:2]] == [["color", "size"]] * 2
    assert without_limit(goals[1]) == "Find me shoes with rubber sole with color: red, and size: 8"
    assert goals[6].instruction == "Find me socks"  # above 980 dollars fewer than two limits are left
    assert goals[6].price_upper == 1_000_000
    assert [goal.goal_id for goal in goals[4:]] == [
        "synthetic/B000000001/4",
        "synthetic/B000000001/5",
        "synthetic/B000000002/0",
    ]


def test_synthetic_goals_with_rare_attributes_weigh_more(shop):
    # "rubber sole" occurs in 6 + 1 goals, "warm" in 1.
    assert [goal.weight for goal in synthetic_goals(shop)] == [1 / 7] * 6 + [(1 + 1 / 7) / 2]


def test_synthetic_goals_are_a_sequence(shop):
    goals = synthetic_goals(shop)
    assert len(goals) == 7
    assert goals[-1] == goals[6]
    assert [goal.goal_id for goal in goals[1:6:2]] == [f"synthetic/B000000001/{number}" for number in (1, 3, 5)]
    with pytest.raises(IndexError):
        goals[7]


def test_price_limits_are_one_of_the_next_multiples_of_ten_but_the_first():
    products = [replace(SHOE, asin=f"B{number:09}", pricing=(25.0,)) for number in range(600)]
    limits = Counter(goal.price_upper for goal in human_goals(catalogue_of(products, "test")))
    # Of 30, 40, 50, 60 two are drawn, and the larger counts: 40, 50, 60 in one, two and three of six pairs.
    # 1,200 draws, so each share is within 5 standard deviations of at most 0.0145.
    assert set(limits) == {40.0, 50.0, 60.0}
    for limit, share in ((40.0, 1 / 6), (50.0, 2 / 6), (60.0, 3 / 6)):
        assert abs(limits[limit] / 1200 - share) < 5 * 0.0145


@pytest.mark.parametrize(
    ("price", "possible"), [(20.0, {40, 50, 60}), (969.0, {980, 990}), (979.99, {990}), (980.0, {1_000_000})]
)
def test_price_limits_at_the_edges(price, possible):
    # 20 is not above 20; 970, 980 and 990 are above 969; only 990 is above 980.
    products = [replace(SHOE, asin=f"B{number:09}", pricing=(price,)) for number in range(100)]
    goals = human_goals(catalogue_of(products, "test"))
    assert {goal.price_upper for goal in goals} == possible
    for goal in goals:
        sentence = f", and price lower than {goal.price_upper:.2f} dollars"
        assert goal.instruction.endswith(sentence) == (goal.price_upper < 1_000_000)


def test_goals_follow_from_the_seed_and_the_product_alone(shop):
    alone = catalogue_of([SHOE], "test")
    assert human_goals(alone) == human_goals(shop)
    assert [goal.price_upper for goal in synthetic_goals(alone)] == [
        goal.price_upper for goal in synthetic_goals(shop)
    ][:6]
    assert len({goal.price_upper for goal in synthetic_goals(alone)}) == 1
    assert len({human_goals(alone, seed)[0].price_upper for seed in range(20)}) > 1


def test_goals_are_made_once_for_all_environments(shop):
    assert human_goals(shop, 0) is human_goals(shop, 0)
    assert synthetic_goals(shop, 0) is synthetic_goals(shop, 0)


def test_a_product_with_a_trillion_combinations_costs_nothing():
    many = replace(SHOE, options={f"part {letter}": tuple(map(str, range(100))) for letter in "fedcba"})
    goals = synthetic_goals(catalogue_of([many], "test"))
    assert len(goals) == 10**12
    # The number in base 100: part a turns slowest.
    assert list(goals[12_34_56_78_90_12].options.values()) == ["12", "34", "56", "78", "90", "12"]
    assert list(goals[0].options) == [f"part {letter}" for letter in "abcdef"]
    with pytest.raises(ValueError, match=r"1,000,000,000,000 goals are too many to be shuffled"):
        official_split(goals, "test")


@pytest.mark.parametrize("count", [1501, 2000, 6910])
def test_the_split_is_the_originals(count):
    goals = list(range(count))
    shuffled = list(goals)
    random.seed(233)
    random.shuffle(shuffled)
    assert list(official_split(goals, "test")) == shuffled[:500]
    assert list(official_split(goals, "valid")) == shuffled[500:1500]
    assert list(official_split(goals, "train")) == shuffled[1500:]
    assert official_split(goals, "train")[-1] == shuffled[-1]
    assert list(official_split(goals, "valid")[10:20]) == shuffled[510:520]


def test_a_split_without_goals_says_how_many_there_are():
    assert len(official_split(range(500), "test")) == 500
    assert len(official_split(range(501), "valid")) == 1
    with pytest.raises(DataNotFoundError, match=r"'valid' is empty: there are 500 goals"):
        official_split(range(500), "valid")
    with pytest.raises(DataNotFoundError, match=r"'train' is empty: there are 1,500 goals"):
        official_split(range(1500), "train")
    with pytest.raises(UnknownNameError, match="did you mean 'train'"):
        official_split(range(10), "trian")


def test_a_goal_asks_for_at_least_one_attribute(shop):
    with pytest.raises(ValueError, match="at least one attribute"):
        replace(human_goals(shop)[0], attributes=())


def recorded_form(goal: Goal):
    options = [list(pair) for pair in goal.options.items()] if isinstance(goal.options, dict) else list(goal.options)
    weight = 1 if goal.goal_id.startswith("human") else goal.weight
    return [goal.asin, without_limit(goal), list(goal.attributes), options, weight, goal.name, goal.query]


@pytest.mark.parametrize(("kind", "goals_of"), [("human", human_goals), ("synthetic", synthetic_goals)])
def test_goals_and_their_order_are_the_originals_but_for_the_price_limit(real, original, kind, goals_of):
    forms = [recorded_form(goal) for goal in goals_of(real)]
    assert len(forms) == original["goals"][kind]["count"]
    assert digest(forms) == original["goals"][kind]["digest"]
    if kind == "synthetic":
        order = [number for split in ("test", "valid", "train") for number in official_split(range(len(forms)), split)]
        assert digest([forms[number] for number in order]) == original["shuffled"]
    forms[5][2] = []
    assert digest(forms) != original["goals"][kind]["digest"]


def test_ids_of_real_goals_differ(real):
    goals = [*human_goals(real), *synthetic_goals(real)]
    assert len({goal.goal_id for goal in goals}) == len(goals) == 6923
