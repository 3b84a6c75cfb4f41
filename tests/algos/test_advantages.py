import math
import subprocess
import sys
from itertools import pairwise
from statistics import mean, stdev

import numpy as np
import pytest

from agentgym_prm.algos.advantages import (
    anchor_relative,
    gae,
    group_relative,
    informative_groups,
    multi_step,
    rloo,
    turn_level,
    whiten,
)

SCALES = ("group", "batch", "none")
ROOT_HALF = math.sqrt(0.5)


class Batch:
    """A ragged batch with groups of several sizes, one of them of one trajectory and one of equal outcomes."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.groups = [int(group) for group in rng.permutation([7] * 5 + [-2] * 4 + [3] * 3 + [11] + [0] * 3)]
        self.lengths = [int(length) for length in rng.integers(1, 6, len(self.groups))]
        self.turns = [rng.normal(size=length) for length in self.lengths]
        self.outcomes = [0.25 if group == 0 else float(rng.normal()) for group in self.groups]
        self.rewards = [np.append(turn[:-1], turn[-1] + r) for turn, r in zip(self.turns, self.outcomes, strict=True)]
        self.anchors = [[str(rng.integers(3)) for _ in range(length)] for length in self.lengths]

    def take(self, order):
        taken = object.__new__(Batch)
        for name, values in vars(self).items():
            setattr(taken, name, [values[number] for number in order])
        return taken


ESTIMATORS = {
    "group_relative": lambda b, **kw: list(group_relative(b.outcomes, b.groups, **kw)),
    "turn_level": lambda b, **kw: turn_level(b.turns, b.outcomes, b.groups, coef=0.7, **kw),
    "turn_level, last turn": lambda b, **kw: turn_level(b.turns, b.outcomes, b.groups, last_turn=True, **kw),
    "multi_step": lambda b, **kw: multi_step(b.rewards, b.groups, gamma=0.9, **kw),
    "multi_step, group": lambda b, **kw: multi_step(b.rewards, b.groups, gamma=0.9, pool="group", **kw),
    "anchor_relative": lambda b, **kw: anchor_relative(b.rewards, b.anchors, b.groups, **kw),
}


# The same in plain loops: each value is compared with a list of peers that is looked up for it alone.


def against(value, peers, everything, scale):
    if len(peers) == 1 or len(set(peers)) == 1:
        return 0.0
    divisor = {"group": lambda: stdev(peers), "batch": lambda: stdev(everything), "none": lambda: 1.0}[scale]()
    return (value - mean(peers)) / divisor


def slow_group_relative(batch, values, scale):
    return [
        against(value, [v for v, g in zip(values, batch.groups, strict=True) if g == group], values, scale)
        for value, group in zip(values, batch.groups, strict=True)
    ]


def slow_turns(batch, values, scale, same):
    """``same((b, k), (c, j))``: whether turn j of c is a peer of turn k of b; only asked within a group."""
    spots = [(b, k) for b, length in enumerate(batch.lengths) for k in range(length)]
    everything = [values[b][k] for b, k in spots]
    result = [[math.nan] * length for length in batch.lengths]
    for spot in spots:
        peers = [values[c][j] for c, j in spots if batch.groups[c] == batch.groups[spot[0]] and same(spot, (c, j))]
        result[spot[0]][spot[1]] = against(values[spot[0]][spot[1]], peers, everything, scale)
    return result


def slow_returns(rewards, gamma):
    return [sum(r * gamma**later for later, r in enumerate(rewards[turn:])) for turn in range(len(rewards))]


def slow_turn_level(batch, coef, scale, last_turn):
    outcome = slow_group_relative(batch, batch.outcomes, scale)
    combined = [o + coef * sum(turn) for o, turn in zip(batch.outcomes, batch.turns, strict=True)]
    combined = slow_group_relative(batch, combined, scale)
    turns = slow_turns(batch, batch.turns, scale, lambda one, other: one[1] == other[1])
    result = []
    for b, length in enumerate(batch.lengths):
        if last_turn:
            result.append([outcome[b] + coef * turns[b][k] for k in range(length)])
        elif length == 1:
            result.append([combined[b]])
        else:
            result.append([outcome[b] + coef * turns[b][k] for k in range(length - 1)] + [outcome[b]])
    return result


def slow_anchor_relative(batch, gamma, omega, scale):
    episode = slow_group_relative(batch, [sum(reward) for reward in batch.rewards], scale)
    returns = [slow_returns(reward, gamma) for reward in batch.rewards]
    steps = slow_turns(batch, returns, scale, lambda a, b: batch.anchors[a[0]][a[1]] == batch.anchors[b[0]][b[1]])
    return [[e + omega * s for s in step] for e, step in zip(episode, steps, strict=True)]


def slow_multi_step(batch, gamma, scale, pool):
    returns = [slow_returns(reward, gamma) for reward in batch.rewards]
    return slow_turns(batch, returns, scale, lambda a, b: pool == "group" or a[1] == b[1])


def assert_same(result, expected):
    """Equal up to rounding: sums run in another order."""
    assert len(result) == len(expected)
    for one, other in zip(result, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("seed", range(4))
class TestAgainstPlainLoops:
    def test_group_relative(self, seed, scale):
        batch = Batch(seed)
        expected = slow_group_relative(batch, batch.outcomes, scale)
        assert_same([group_relative(batch.outcomes, batch.groups, scale=scale)], [expected])

    @pytest.mark.parametrize("last_turn", [False, True])
    @pytest.mark.parametrize("coef", [1.0, 0.3])
    def test_turn_level(self, seed, scale, coef, last_turn):
        batch = Batch(seed)
        result = turn_level(batch.turns, batch.outcomes, batch.groups, coef=coef, scale=scale, last_turn=last_turn)
        assert_same(result, slow_turn_level(batch, coef, scale, last_turn))

    @pytest.mark.parametrize("pool", ["turn", "group"])
    @pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])
    def test_multi_step(self, seed, scale, gamma, pool):
        batch = Batch(seed)
        result = multi_step(batch.rewards, batch.groups, gamma=gamma, scale=scale, pool=pool)
        assert_same(result, slow_multi_step(batch, gamma, scale, pool))

    @pytest.mark.parametrize("omega", [1.0, 0.5])
    def test_anchor_relative(self, seed, scale, omega):
        batch = Batch(seed)
        result = anchor_relative(batch.rewards, batch.anchors, batch.groups, gamma=0.9, omega=omega, scale=scale)
        assert_same(result, slow_anchor_relative(batch, 0.9, omega, scale))


def test_group_relative_by_hand():
    """Group 5: 1, 0, 2: mean 1, deviation sqrt((0 + 1 + 1) / 2) = 1. Group 9: 0, 4: mean 2, deviation sqrt(8)."""
    rewards, groups = [1.0, 0.0, 0.0, 2.0, 4.0], [5, 9, 5, 5, 9]
    assert group_relative(rewards, groups).tolist() == pytest.approx([0, -ROOT_HALF, -1, 1, ROOT_HALF])
    assert group_relative(rewards, groups, scale="none").tolist() == [0, -2, -1, 1, 2]
    # All five: mean 1.4, squares .16 + 1.96 + 1.96 + .36 + 6.76 = 11.2, over 4.
    batch = np.array([0, -2, -1, 1, 2]) / math.sqrt(2.8)
    assert group_relative(rewards, groups, scale="batch").tolist() == pytest.approx(batch.tolist())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "equal",
    [
        [0.1, 0.1, 0.1],  # their float mean is not 0.1
        [0.1 + 0.2, 0.3, 0.3],  # differ by rounding
        [0.5, 0.5 + 1e-8, 0.5],  # by the last digits of a float32 score
        [3e8, 3e8 + 1e-3, 3e8],  # noise is relative to large rewards
    ],
)
def test_a_group_without_variance_gets_zeros(equal, scale):
    rewards, groups = [*equal, 0.0, 1.0], [0, 0, 0, 1, 1]
    advantages = group_relative(rewards, groups, scale=scale)
    assert advantages[:3].tolist() == [0, 0, 0]
    assert (advantages[3:] != 0).all()
    assert informative_groups(rewards, groups).tolist() == [False] * 3 + [True] * 2


def test_a_batch_of_equal_rewards_gets_zeros():
    for scale in SCALES:
        assert group_relative([0.1] * 4, [0, 0, 1, 1], scale=scale).tolist() == [0] * 4
        assert group_relative([0.7], [0], scale=scale).tolist() == [0]


def test_small_differences_that_are_not_noise_count_in_full():
    assert group_relative([0.5, 0.5001], [0, 0]).tolist() == pytest.approx([-ROOT_HALF, ROOT_HALF])


def test_uninformative_groups_are_those_without_variance_and_those_of_one():
    rewards, groups = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0], [4, 2, 2, 4, 8, 2]
    assert informative_groups(rewards, groups).tolist() == [False, True, True, False, False, True]


def test_rloo_by_hand_and_against_plain_loops():
    """Group 1 has 1, 0, 2: against the others' means (0 + 2)/2, (1 + 2)/2, (1 + 0)/2. Group 0 has 3, 5."""
    assert rloo([1.0, 3.0, 0.0, 5.0, 2.0], [1, 0, 1, 0, 1]).tolist() == pytest.approx([0, -2, -1.5, 2, 1.5])
    rng = np.random.default_rng(0)
    rewards, groups = rng.normal(size=20).tolist(), rng.permutation([0, 1, 1, 0, 2] * 4).tolist()
    for b, advantage in enumerate(rloo(rewards, groups)):
        others = [r for c, r in enumerate(rewards) if groups[c] == groups[b] and c != b]
        assert advantage == pytest.approx(rewards[b] - mean(others), abs=1e-12)
    assert rloo([0.1, 0.1, 0.1], [0, 0, 0]).tolist() == [0, 0, 0]


def test_rloo_refuses_a_group_of_one():
    with pytest.raises(ValueError, match="got one in group 6"):
        rloo([1.0, 2.0, 3.0], [4, 6, 4])


def test_turn_level_is_the_published_case_with_a_tool_turn_and_an_answer_turn():
    """Tool rewards .2, .7, .2, .7: mean .45, deviation sqrt(4 (.25)^2 / 3) = .5 / sqrt(3).

    Outcomes 0, 1, 1, 1.5: mean .875, squares .765625 + 2 x .015625 + .390625 = 1.1875, over 3.
    """
    tools, outcomes = [0.2, 0.7, 0.2, 0.7], [0.0, 1.0, 1.0, 1.5]
    turn = [(tool - 0.45) / (0.5 / math.sqrt(3)) for tool in tools]
    outcome = [(o - 0.875) / math.sqrt(1.1875 / 3) for o in outcomes]
    result = turn_level([[tool, 0.0] for tool in tools], outcomes, [0] * 4)
    assert_same(result, [[o + t, o] for o, t in zip(outcome, turn, strict=True)])
    result = turn_level([[tool, 0.0] for tool in tools], outcomes, [0] * 4, coef=0.5)
    assert_same(result, [[o + 0.5 * t, o] for o, t in zip(outcome, turn, strict=True)])


def test_a_trajectory_without_a_tool_turn_gets_the_combined_reward():
    """As published: it stays in the mean of the tool turns with what its answer got there, 0.

    Tool rewards .6, .3, 0: mean .3, deviation sqrt((.09 + 0 + .09) / 2) = .3. Outcomes 0, 1, 2: mean 1, deviation 1.
    Combined .6, 1.3, 2: mean 1.3, deviation .7.
    """
    rewards, outcomes, groups = [[0.6, 0.0], [0.3, 0.0], [0.0]], [0.0, 1.0, 2.0], [0, 0, 0]
    assert_same(turn_level(rewards, outcomes, groups), [[-1 + 1, -1], [0, 0], [1]])
    # Its own reward counts, by coef: .6, 1.3, 2.8: mean 4.7/3; halved: .3, 1.15, 2.4: mean 3.85/3.
    combined = turn_level([[0.6, 0.0], [0.3, 0.0], [0.8]], outcomes, groups, scale="none")[2]
    assert combined.tolist() == pytest.approx([2.8 - 4.7 / 3])
    combined = turn_level([[0.6, 0.0], [0.3, 0.0], [0.8]], outcomes, groups, scale="none", coef=0.5)[2]
    assert combined.tolist() == pytest.approx([2.4 - 3.85 / 3])


def test_turns_are_compared_with_turns_of_the_same_number():
    """Turn 0: 1, 2, 3. Turn 1: 10, 30. Turn 2: 5 alone. Outcomes 0, 0, 3: mean 1. The last turns count in the means."""
    rewards = [[1.0, 10.0, 5.0], [2.0, 30.0], [3.0]]
    outcomes, groups = [0.0, 0.0, 3.0], [0, 0, 0]
    last = turn_level(rewards, outcomes, groups, scale="none", last_turn=True)
    assert_same(last, [[-1 - 1, -1 - 10, -1 + 0], [-1 + 0, -1 + 10], [2 + 1]])
    paper = turn_level(rewards, outcomes, groups, scale="none")
    # Combined 16, 32, 6: mean 18.
    assert_same(paper, [[-1 - 1, -1 - 10, -1], [-1 + 0, -1], [6 - 18]])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("last_turn", [False, True])
def test_without_turn_rewards_coef_0_is_exactly_grpo_on_the_outcome(scale, last_turn):
    batch = Batch(5)
    grpo = group_relative(batch.outcomes, batch.groups, scale=scale)
    result = turn_level(batch.turns, batch.outcomes, batch.groups, coef=0.0, scale=scale, last_turn=last_turn)
    for advantage_S, advantage in zip(result, grpo, strict=True):
        np.testing.assert_array_equal(advantage_S, np.full(len(advantage_S), advantage))


def test_multi_step_by_hand():
    """Rewards (1, 0, 2) and (0, 4), gamma 1/2: returns (1.5, 1, 2) and (2, 4).

    By turn: means 1.75, 2.5, 2 alone. Over the group: mean 10.5 / 5 = 2.1.
    """
    rewards, groups = [[1.0, 0.0, 2.0], [0.0, 4.0]], [3, 3]
    by_turn = multi_step(rewards, groups, gamma=0.5, scale="none")
    assert_same(by_turn, [[-0.25, -1.5, 0], [0.25, 1.5]])
    over_group = multi_step(rewards, groups, gamma=0.5, scale="none", pool="group")
    assert_same(over_group, [[-0.6, -1.1, -0.1], [-0.1, 1.9]])
    # Two values a and b have deviation |a - b| / sqrt(2), so +-sqrt(1/2) each.
    scaled = multi_step(rewards, groups, gamma=0.5)
    assert_same(scaled, [[-ROOT_HALF, -ROOT_HALF, 0], [ROOT_HALF, ROOT_HALF]])


def test_multi_step_with_two_turns_is_the_published_rule():
    """Tool turn: turn reward + gamma * outcome, relative to the group; answer turn: the outcome, relative."""
    tools, outcomes, groups = [0.2, 0.7, 0.7], [1.0, 0.0, 1.5], [0, 0, 0]
    result = multi_step([[t, o] for t, o in zip(tools, outcomes, strict=True)], groups, gamma=0.9)
    cumulative = group_relative([t + 0.9 * o for t, o in zip(tools, outcomes, strict=True)], groups)
    assert_same(result, np.stack([cumulative, group_relative(outcomes, groups)], axis=1))


@pytest.mark.parametrize("pool", ["turn", "group"])
@pytest.mark.parametrize("scale", SCALES)
def test_multi_step_with_one_turn_is_exactly_grpo(scale, pool):
    batch = Batch(6)
    result = multi_step([[r] for r in batch.outcomes], batch.groups, gamma=0.0, scale=scale, pool=pool)
    np.testing.assert_array_equal(np.concatenate(result), group_relative(batch.outcomes, batch.groups, scale=scale))


def test_late_turns_of_failures_are_left_alone_by_turn_and_blamed_over_the_group():
    """A win in one turn, two failures of three: of returns 1 and six times 0, the mean is 1/7; at turn 0 it is 1/3."""
    rewards, groups = [[1.0], [0.0] * 3, [0.0] * 3], [0] * 3
    by_turn = multi_step(rewards, groups, scale="none")
    assert_same(by_turn, [[2 / 3], [-1 / 3, 0, 0], [-1 / 3, 0, 0]])
    over_group = multi_step(rewards, groups, scale="none", pool="group")
    assert_same(over_group, [[6 / 7], [-1 / 7] * 3, [-1 / 7] * 3])


def test_anchors_by_hand():
    """Rewards (0, 2), (0, 0) and (1,), sums 2, 0, 1: A^E is 1, -1, 0. Gamma 1/2: returns (1, 2), (0, 0), (1,).

    In one group "door" was seen with returns 1, 0, 1: mean 2/3; "hall" with 2; "yard" with 0. The other group has sums
    1 and 1, and "door" with 1 and 1/2 (of its turns 0 and 1: 0 + 1/2 x 1): mean 3/4.
    """
    rewards = [[0.0, 2.0], [0.0, 0.0], [1.0], [1.0], [0.0, 1.0]]
    anchors = [["door", "hall"], ["door", "yard"], ["door"], ["door"], ["door", "gate"]]
    groups = [0, 0, 0, 1, 1]
    result = anchor_relative(rewards, anchors, groups, gamma=0.5, scale="none")
    third, quarter = 1 / 3, 1 / 4
    assert_same(result, [[1 + third, 1], [-1 - 2 * third, -1], [0 + third], [quarter], [-quarter, 0]])
    result = anchor_relative(rewards, anchors, groups, gamma=0.5, scale="none", omega=2)
    assert_same(result, [[1 + 2 * third, 1], [-1 - 4 * third, -1], [2 * third], [2 * quarter], [-2 * quarter, 0]])
    # Deviations of the sums: 1. Of 1, 0, 1: sqrt((2/9 x 3) / 2) = sqrt(1/3); of two values: sqrt(1/2) each.
    root = math.sqrt(3)
    result = anchor_relative(rewards, anchors, groups, gamma=0.5)
    expected = [[1 + root / 3, 1], [-1 - 2 * root / 3, -1], [root / 3], [ROOT_HALF], [-ROOT_HALF, 0]]
    assert_same(result, expected)


def test_the_discount_of_anchors_is_the_sources():
    """One state, returns .95 and 1 of one trajectory, 0 of the other: mean .65."""
    result = anchor_relative([[0.0, 1.0], [0.0]], ["ss", "s"], [0, 0], scale="none")
    assert_same(result, [[0.5 + 0.3, 0.5 + 0.35], [-0.5 - 0.65]])


@pytest.mark.parametrize("scale", SCALES)
def test_anchors_never_seen_twice_leave_exactly_grpo(scale):
    batch = Batch(7)
    anchors = [[(b, k) for k in range(length)] for b, length in enumerate(batch.lengths)]
    grpo = group_relative([reward.sum() for reward in batch.rewards], batch.groups, scale=scale)
    result = anchor_relative(batch.rewards, anchors, batch.groups, scale=scale)
    for advantage_S, advantage in zip(result, grpo, strict=True):
        np.testing.assert_array_equal(advantage_S, np.full(len(advantage_S), advantage))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_turn_of_every_trajectory_gets_an_advantage(name):
    """None is dropped: with random rewards only turns without a peer have advantage 0, the last ones are as good."""
    batch = Batch(8)
    result = ESTIMATORS[name](batch)
    assert len(result) == len(batch.groups)
    if name == "group_relative":
        return
    assert [len(advantage_S) for advantage_S in result] == batch.lengths
    assert np.isfinite(np.concatenate(result)).all()
    last = [advantage_S[-1] for advantage_S, group in zip(result, batch.groups, strict=True) if group == 7]
    assert np.count_nonzero(last) >= 4


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_shuffling_the_batch_permutes_the_result_only(name, scale):
    batch = Batch(9)
    order = np.random.default_rng(1).permutation(len(batch.groups))
    expected = ESTIMATORS[name](batch, scale=scale)
    assert_same(ESTIMATORS[name](batch.take(order), scale=scale), [expected[number] for number in order])


@pytest.mark.parametrize("scale", ["group", "none"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_group_does_not_depend_on_the_others(name, scale):
    batch = Batch(10)
    together = ESTIMATORS[name](batch, scale=scale)
    for group in set(batch.groups):
        members = [b for b, g in enumerate(batch.groups) if g == group]
        alone = ESTIMATORS[name](batch.take(members), scale=scale)
        for number, advantage in zip(members, alone, strict=True):
            np.testing.assert_array_equal(advantage, together[number])


def test_the_scale_of_the_batch_does_depend_on_other_groups():
    assert (
        group_relative([0.0, 1.0, 5.0, 9.0], [0, 0, 1, 1], scale="batch")[1]
        < group_relative([0.0, 1.0, 5.0, 6.0], [0, 0, 1, 1], scale="batch")[1]
    )


@pytest.mark.parametrize("name", ESTIMATORS)
def test_nothing_that_goes_in_is_changed(name):
    batch, untouched = Batch(11), Batch(11)
    for advantage in ESTIMATORS[name](batch):
        if isinstance(advantage, np.ndarray):
            advantage += 1
    for one, other in zip(batch.turns + batch.rewards, untouched.turns + untouched.rewards, strict=True):
        np.testing.assert_array_equal(one, other)


def test_gae_by_hand():
    """gamma 1/2, lambda 1/2, so 1/4 from token to token; values 1, 2, 4 and 8 after the end.

    Errors: 0 + 1/2 x 2 - 1 = 0; 1 + 1/2 x 4 - 2 = 1; 3 + 1/2 x 8 - 4 = 3. Advantages 3; 1 + 3/4; 7/16.
    """
    advantages, returns = gae([0.0, 1.0, 3.0], [1.0, 2.0, 4.0], 0.5, 0.5, bootstrap=8.0)
    assert advantages.tolist() == [0.4375, 1.75, 3]
    assert returns.tolist() == [1.4375, 3.75, 7]
    # Terminated: the last error is 3 - 4.
    assert gae([0.0, 1.0, 3.0], [1.0, 2.0, 4.0], 0.5, 0.5)[0].tolist() == [0.1875, 0.75, -1]


def test_a_discount_by_turn_does_not_count_tokens():
    """The case above, tokens 0 and 1 being one turn: no factor between them.

    Errors: 0 + 2 - 1 = 1; 1; 3. Advantages 3; 1 + 3/4; 1 + 1.75. With bootstrap the factor holds after the last turn.
    """
    rewards, values = [0.0, 1.0, 3.0], [1.0, 2.0, 4.0]
    advantages, returns = gae(rewards, values, 0.5, 0.5, bootstrap=8.0, turn_T=[2, 2, 3])
    assert advantages.tolist() == [2.75, 1.75, 3]
    assert returns.tolist() == [3.75, 3.75, 7]


def test_by_turn_a_reward_is_discounted_for_the_turns_before_it():
    """Turns of 3, 1 and 2 tokens, reward 1 at the end, values 0, lambda 1: gamma**turns to come, against **tokens."""
    rewards, turns = [0, 0, 0, 0, 0, 1.0], [0, 0, 0, 1, 2, 2]
    by_turn, _ = gae(rewards, np.zeros(6), 0.5, 1.0, turn_T=turns)
    assert by_turn.tolist() == [0.25, 0.25, 0.25, 0.5, 1, 1]
    by_token, _ = gae(rewards, np.zeros(6), 0.5, 1.0)
    assert by_token.tolist() == [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]


def test_turns_of_one_token_are_tokens():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=7), rng.normal(size=7)
    by_turn = gae(rewards, values, 0.9, 0.8, bootstrap=0.3, turn_T=range(7))
    np.testing.assert_array_equal(by_turn, gae(rewards, values, 0.9, 0.8, bootstrap=0.3))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("by_turn", [False, True])
def test_gae_is_the_sum_of_discounted_errors(seed, by_turn):
    """The definition, forwards: ``A_t = sum_k (product of gamma lambda between t and k) error_k``."""
    rng = np.random.default_rng(seed)
    length, gamma, lam, bootstrap = 12, 0.9, 0.7, 1.3
    rewards, values = rng.normal(size=length).tolist(), rng.normal(size=length).tolist()
    turns = sorted(rng.integers(0, 5, length).tolist())
    breaks = [not by_turn or one != other for one, other in pairwise([*turns, 99])]
    expected = []
    for start in range(length):
        total, factor = 0.0, 1.0
        for token in range(start, length):
            following = values[token + 1] if token + 1 < length else bootstrap
            total += factor * (rewards[token] + (gamma if breaks[token] else 1) * following - values[token])
            factor *= gamma * lam if breaks[token] else 1
        expected.append(total)
    result, returns = gae(rewards, values, gamma, lam, bootstrap=bootstrap, turn_T=turns if by_turn else None)
    assert_same([result, returns], [expected, np.add(expected, values)])


def test_gae_with_lambda_1_is_the_return_minus_the_value_and_with_0_the_one_step_error():
    rng = np.random.default_rng(3)
    rewards, values = rng.normal(size=9), rng.normal(size=9)
    to_go = [rewards[token:].sum() + 0.5 for token in range(9)]
    advantages, returns = gae(rewards, values, 1.0, 1.0, bootstrap=0.5)
    assert_same([advantages, returns], [to_go - values, to_go])
    following = [*values[1:], 0.5]
    errors = [r + 0.9 * f - v for r, f, v in zip(rewards, following, values, strict=True)]
    assert gae(rewards, values, 0.9, 0.0, bootstrap=0.5)[0].tolist() == errors


def test_gae_of_nothing_is_nothing():
    assert [part.tolist() for part in gae([], [], 0.9, 0.9, turn_T=[])] == [[], []]


def test_whitened_by_hand():
    """1 and 3: mean 2, deviation 1. With weights 3 and 1: mean 1.5, variance (3 x .25 + 2.25) / 4 = .75."""
    assert whiten([1.0, 3.0]).tolist() == [-1, 1]
    root = math.sqrt(0.75)
    assert whiten([1.0, 3.0], [3, 1]).tolist() == pytest.approx([-0.5 / root, 1.5 / root])
    assert whiten([1.0, 100.0, 3.0], [True, False, True]).tolist() == [-1, 0, 1]


def test_whitened_advantages_have_mean_0_and_deviation_1_where_they_count():
    rng = np.random.default_rng(0)
    advantages, mask = rng.normal(3, 5, size=200), rng.integers(0, 2, 200)
    whitened = whiten(advantages, mask)
    assert whitened[mask == 1].mean() == pytest.approx(0, abs=1e-12)
    assert whitened[mask == 1].std() == pytest.approx(1)
    np.testing.assert_array_equal(whitened, whiten(np.where(mask, advantages, 1e6), mask))


def test_equal_advantages_whiten_to_zeros():
    assert whiten([0.1, 0.1, 0.1]).tolist() == [0, 0, 0]
    assert whiten([0.1, 7.0, 0.1], [1, 0, 1]).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: group_relative([1.0, 2.0], [0]), "got 1 groups for 2 trajectories"),
        (lambda: group_relative([[1.0], [2.0]], [0, 0]), "row of finite numbers"),
        (lambda: group_relative([1.0, math.nan], [0, 0]), "row of finite numbers"),
        (lambda: group_relative([1.0, 2.0], [0.0, 0.5]), "row of integers"),
        (lambda: group_relative([1.0, 1.0], [0, 0], scale="std"), "group, batch, none, got 'std'"),
        (lambda: rloo([1.0], [0, 0]), "got 2 groups for 1 trajectories"),
        (lambda: turn_level([[1.0]], [1.0, 2.0], [0, 0]), "got 2 groups for 1 trajectories"),
        (lambda: turn_level([[1.0], []], [1.0, 2.0], [0, 0]), "got none in trajectory 1"),
        (lambda: multi_step([], []), "got 0 groups for 0"),
        (lambda: multi_step([[1.0], [math.inf]], [0, 0]), "trajectory 1 must be a row of finite"),
        (lambda: multi_step([[1.0]], [0], gamma=99), "did you mean 0.99"),
        (lambda: multi_step([[1.0]], [0], pool="batch"), "turn, group, got 'batch'"),
        (lambda: anchor_relative([[1.0, 2.0]], [["a"]], [0]), r"got \[1\] for turns \[2\]"),
        (lambda: anchor_relative([[1.0]], [["a"], ["b"]], [0]), r"got \[1, 1\] for turns \[1\]"),
        (lambda: gae([1.0], [1.0, 2.0], 1, 1), r"got \(1,\) and \(2,\)"),
        (lambda: gae([1.0], [1.0], 1.5, 1), "gamma must be"),
        (lambda: gae([1.0], [1.0], 1, -0.1), "lam must be"),
        (lambda: gae([1.0], [1.0], 1, 1, bootstrap=math.nan), "finite"),
        (lambda: gae([1.0, 1.0], [1.0, 1.0], 1, 1, turn_T=[1, 0]), r"never fall, got \[1, 0\]"),
        (lambda: gae([1.0, 1.0], [1.0, 1.0], 1, 1, turn_T=[1]), "must be 2 numbers"),
        (lambda: whiten([1.0, 2.0], [1.0]), "must be 2 weights"),
        (lambda: whiten([1.0, 2.0], [0.0, 0.0]), "must be 2 weights"),
        (lambda: whiten([1.0, 2.0], [1.0, -1.0]), "must be 2 weights"),
    ],
)
def test_bad_input_is_refused_with_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_advantages_need_no_torch():
    code = "import sys, agentgym_prm.algos.advantages; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
