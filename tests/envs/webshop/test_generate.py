import hashlib
from collections import Counter
from itertools import combinations

import pytest

from agentgym_prm.envs.webshop.generate import (
    DIFFICULTIES,
    GOALS_PER_PRODUCT,
    NUM_PRODUCTS,
    VERSION,
    BuiltinGoals,
    builtin_catalogue,
    held_out,
    product,
    split_of,
)
from agentgym_prm.envs.webshop.goals import SPLITS, synthetic_goals
from agentgym_prm.envs.webshop.goods import FULL_KINDS, SMALL_IDS, SMALL_KINDS
from agentgym_prm.envs.webshop.nouns import noun_function
from agentgym_prm.envs.webshop.reward import purchase_reward
from agentgym_prm.errors import UnknownNameError

NOUNS = noun_function("rule")
KINDS = {kind.name: kind for kind in (*FULL_KINDS, *SMALL_KINDS)}


def sample(split, difficulty, count=100):
    goals = BuiltinGoals(split, difficulty)
    return [goals[index] for index in range(0, len(goals), max(1, len(goals) // count))]


def one_a_product(goals):
    return goals[: len(goals) // GOALS_PER_PRODUCT]


def named_options(own, goal):
    return {name: value for name, values in own.options.items() for value in values if value in goal.options}


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("split", SPLITS)
def test_every_goal_is_satisfied_by_its_own_product(split, difficulty):
    catalogue = builtin_catalogue(difficulty)
    for goal in sample(split, difficulty):
        own = catalogue.product(catalogue.index(goal.asin))
        reward = purchase_reward(own, goal, own.price, named_options(own, goal), NOUNS)
        assert reward.total == 1.0, goal


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_a_product_without_what_is_asked_for_earns_less(difficulty):
    """Attributes of a kind must not be mistaken for each other, nor be told where they do not hold."""
    catalogue = builtin_catalogue(difficulty)
    others = {}
    for index in range(len(catalogue)):
        others.setdefault(catalogue.product(index).query, []).append(catalogue.product(index))
    seen = 0
    for goal in sample("train", difficulty, 50):
        for other in others[goal.query]:
            reward = purchase_reward(other, goal, other.price, {}, NOUNS)
            assert reward.parts["r_att"] == len({*goal.attributes} & {*other.attributes}) / len(goal.attributes)
            seen += reward.parts["r_att"] < 1
    assert seen > 100


def test_synthetic_goals_of_a_builtin_shop_can_be_satisfied():
    """The reward compares a synthetic goal's options in an odd way; no value of ours may fall into its traps."""
    catalogue = builtin_catalogue("full", 200)
    goals = synthetic_goals(catalogue)
    for index in range(0, len(goals), 7):
        goal = goals[index]
        own = catalogue.product(catalogue.index(goal.asin))
        assert purchase_reward(own, goal, own.price, goal.options, NOUNS).total == 1.0, goal


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_no_product_has_goals_in_two_splits(difficulty):
    wanted = {split: {goal.asin for goal in one_a_product(BuiltinGoals(split, difficulty))} for split in SPLITS}
    assert all(wanted[one].isdisjoint(wanted[other]) for one, other in combinations(SPLITS, 2))
    assert sum(map(len, wanted.values())) == NUM_PRODUCTS[difficulty]
    shares = [len(wanted[split]) / NUM_PRODUCTS[difficulty] for split in SPLITS]
    # 7, 1 and 2 in ten, give or take three standard deviations of 120 independent draws, the small shop's twins.
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=3 * (0.21 / 120) ** 0.5)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_only_test_goals_want_held_out_pairs_of_attributes(difficulty):
    for split in SPLITS:
        for goal in sample(split, difficulty):
            pairs = {frozenset(pair) for pair in combinations(goal.attributes, 2)}
            assert bool(pairs & held_out(KINDS[goal.query])) == (split == "test"), goal


def test_small_products_with_held_out_pairs_belong_to_test():
    for number in range(NUM_PRODUCTS["small"]):
        own = product(number, "small")
        assert (frozenset(own.attributes) in held_out(KINDS[own.query])) == (split_of(number, "small") == "test")


def test_small_twins_differ_in_price_alone_and_the_dear_one_is_too_dear_for_goals_of_the_other():
    goals = [goal for split in ("valid", "test") for goal in BuiltinGoals(split, "small")[:]]
    for older in (number for number in range(240) if number // 40 % 2 == 0):
        one, other = product(older, "small"), product(older + 40, "small")
        assert (one.title, one.options, one.attributes) == (other.title, other.options, other.attributes)
        cheap, dear = sorted((one, other), key=lambda each: each.price)
        assert 30 <= dear.price - cheap.price <= 50
        limits = [goal.price_upper for goal in goals if goal.asin == cheap.asin]
        assert len(limits) == (0 if split_of(older, "small") == "train" else GOALS_PER_PRODUCT)
        assert not limits or cheap.price < min(limits) <= max(limits) < dear.price


def test_like_products_of_the_small_shop_have_ids_with_different_words():
    for kind in range(len(SMALL_KINDS)):
        words = [product(number, "small").asin.rstrip("0123456789") for number in range(kind, 240, len(SMALL_KINDS))]
        assert len(set(words)) == len(words) == 6
        assert set(words) <= set(SMALL_IDS)


@pytest.mark.parametrize(("difficulty", "count"), [("small", 3000), ("full", 3000)])
def test_asins_are_different_and_valid_in_larger_shops_too(difficulty, count):
    asins = [product(number, difficulty).asin for number in range(0, count, 2)]
    assert len(set(asins)) == len(asins)
    assert all(len(asin) <= 10 and asin.isalnum() and asin == asin.upper() for asin in asins)


def test_products_of_a_kind_are_nearly_alike_and_not_the_same():
    catalogue = builtin_catalogue("full")
    kinds = Counter(catalogue.product(index).query for index in range(len(catalogue)))
    assert set(kinds) == {kind.name for kind in FULL_KINDS}
    assert set(kinds.values()) == {16, 17}  # 1000 products of 62 kinds
    boots = [catalogue.product(index) for index in range(1000) if catalogue.product(index).query == "hiking boots"]
    assert len({each.title for each in boots}) == len(boots)
    assert len({each.product_category for each in boots}) == 1
    assert len({each.attributes for each in boots}) > 10
    assert len({each.price for each in boots}) > 10
    ranges = [each for each in boots if len(each.pricing) == 2]
    assert ranges
    assert all(low < each.price < high for each in ranges for low, high in [each.pricing])


def test_category_paths_share_levels_within_a_department_only():
    """The reward takes two shared levels for the same category, which boots and a lamp must not have."""
    for one, other in combinations(FULL_KINDS, 2):
        shared = {*one.path} & {*other.path}
        assert (len(shared) >= 2) == (one.path[:2] == other.path[:2]), (one.name, other.name)


def test_instructions_say_what_is_wanted():
    for split in SPLITS:
        for goal in sample(split, "full"):
            said = goal.instruction
            assert all(each in said for each in (*goal.attributes, *goal.options, goal.query))
            assert said.endswith(f", and price lower than {goal.price_upper:.2f} dollars")
        for goal in sample(split, "small"):
            wanted = (*goal.attributes, *goal.options, goal.query)
            assert {word for each in wanted for word in each.split()} <= {*goal.instruction.replace(",", "").split()}
            assert goal.instruction.endswith(f" under {goal.price_upper:.0f} dollars")


def test_a_price_limit_is_one_of_the_next_four_multiples_of_ten_but_the_first():
    for goal in sample("train", "full"):
        price = product(int(goal.goal_id.split("/")[2]), "full").price
        assert goal.price_upper % 10 == 0
        assert 10 < goal.price_upper - price <= 40


@pytest.mark.parametrize(("difficulty", "expected"), [("small", "0b8567bd9ef1dc15"), ("full", "9307a5f77b5b8673")])
def test_the_shop_is_the_same_on_every_machine_until_its_version_changes(difficulty, expected):
    assert VERSION == "webshop-builtin-1"
    texts = [product(number, difficulty) for number in range(60)], BuiltinGoals("test", difficulty)[:60]
    assert hashlib.sha256(repr(texts).encode()).hexdigest()[:16] == expected


def test_a_larger_shop_begins_with_the_smaller_one():
    small, large = builtin_catalogue("full", 70), builtin_catalogue("full", 130)
    assert [small.product(index) for index in range(70)] == [large.product(index) for index in range(70)]
    assert (small.name, len(large)) == ("builtin-full-70", 130)


def test_goals_that_follow_each_other_want_different_products_and_indices_wrap_nowhere():
    goals = BuiltinGoals("test", "small")
    assert len({goal.asin for goal in one_a_product(goals)}) == len(goals) // GOALS_PER_PRODUCT
    assert goals[-1] == goals[len(goals) - 1] != goals[0]
    assert [goals.place(goal.goal_id) for goal in goals[:]] == list(range(len(goals)))
    for index in (len(goals), -len(goals) - 1):
        with pytest.raises(IndexError, match="goal index"):
            goals[index]


def test_unknown_names_and_impossible_sizes_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'small'"):
        product(0, "smal")
    with pytest.raises(ValueError, match="at least 0"):
        product(-1, "full")
    with pytest.raises(ValueError, match="at least 1"):
        builtin_catalogue("full", 0)
    with pytest.raises(UnknownNameError, match="split"):
        BuiltinGoals("dev")
    number = next(number for number in range(1, 100) if split_of(number, "full") == "valid")
    with pytest.raises(ValueError, match="none in split 'valid'"):
        BuiltinGoals("valid", "full", number)
    for wrong in ("builtin-small/test/0/99", "builtin-small/train/1/0", "nonsense", "builtin-small/test/99999/0"):
        with pytest.raises(UnknownNameError, match="no task"):
            BuiltinGoals("test", "small").place(wrong)
