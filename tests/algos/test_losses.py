import math

import pytest
import torch

from agentgym_prm.algos.losses import bradley_terry, implicit_reward, listwise, soft_bce, squared_error

LN2, LN3 = math.log(2), math.log(3)
# Cross-entropy of (1/4, 3/4) with (1/2, 1/2): -(ln(1/4) + ln(3/4)) / 2.
QUARTERS = math.log(4) - LN3 / 2


def test_soft_bce_by_hand():
    """sigmoid(0) = 1/2, whatever the target; sigmoid(ln 3) = 3/4."""
    scores, targets = torch.tensor([0.0, LN3]), torch.tensor([0.25, 0.5])
    assert soft_bce(scores, targets, torch.ones(2)).item() == pytest.approx((LN2 + QUARTERS) / 2)
    assert soft_bce(scores, targets, torch.tensor([1.0, 3.0])).item() == pytest.approx((LN2 + 3 * QUARTERS) / 4)


def test_soft_bce_is_least_where_the_sigmoid_is_the_target():
    score = torch.tensor([LN3], requires_grad=True)
    soft_bce(score, torch.tensor([0.75]), torch.ones(1)).backward()
    assert score.grad.item() == pytest.approx(0, abs=1e-7)
    # Elsewhere the slope is sigmoid(score) - target.
    score = torch.tensor([LN3], requires_grad=True)
    soft_bce(score, torch.tensor([0.25]), torch.ones(1)).backward()
    assert score.grad.item() == pytest.approx(0.5)


def test_squared_error_by_hand():
    scores, targets = torch.tensor([1.0, 2.0, -1.0]), torch.tensor([0.5, 4.0, -1.0])
    assert squared_error(scores, targets, torch.ones(3)).item() == pytest.approx((0.25 + 4 + 0) / 3)
    assert squared_error(scores, targets, torch.tensor([2.0, 1.0, 1.0])).item() == pytest.approx((0.5 + 4 + 0) / 4)


def test_bradley_terry_by_hand():
    """Differences ln 3 and -ln 3: -ln(3/4) and -ln(1/4)."""
    scores = torch.tensor([0.0, LN3, 5.0])
    one = bradley_terry(scores, torch.tensor([1]), torch.tensor([0]))
    assert one.item() == pytest.approx(math.log(4) - LN3)
    both = bradley_terry(scores, torch.tensor([1, 0]), torch.tensor([0, 1]))
    assert both.item() == pytest.approx(QUARTERS)
    moved = bradley_terry(scores + 7, torch.tensor([1]), torch.tensor([0]))
    assert moved.item() == pytest.approx(one.item(), abs=1e-6)  # only differences count; float32


def test_bradley_terry_without_pairs_is_0_with_gradient_0():
    scores = torch.tensor([1.0, 2.0], requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.long)
    loss = bradley_terry(scores, nothing, nothing)
    loss.backward()
    assert loss.item() == 0
    assert scores.grad.tolist() == [0, 0]


def test_listwise_by_hand():
    """Three groups, interleaved: ``{0, 3}``, ``{1}`` and ``{2, 4}``.

    Values 0 and T ln 3 make targets (1/4, 3/4), here against even scores: ln 2. An action alone has nothing to lose.
    Equal values against scores 0 and ln 3: cross-entropy of (1/2, 1/2) with (1/4, 3/4).
    """
    temperature = 0.5
    values = torch.tensor([0.0, 0.9, 0.3, temperature * LN3, 0.3])
    scores = torch.tensor([2.0, -7.0, 0.0, 2.0, LN3])
    group = torch.tensor([0, 1, 2, 0, 2])
    assert listwise(scores, values, group, temperature).item() == pytest.approx((LN2 + 0 + QUARTERS) / 3)


@pytest.mark.parametrize(("temperature", "first"), [(1.0, 0.75), (0.5, 0.9), (1e6, 0.5), (1e-3, 1.0)])
def test_the_temperature_decides_how_much_the_best_is_preferred(temperature, first):
    """Values ln 3 and 0: odds 3 at temperature 1, 9 at 1/2. The slope of the first score is 1/2 minus its target."""
    scores = torch.zeros(2, requires_grad=True)
    listwise(scores, torch.tensor([LN3, 0.0]), torch.tensor([0, 0]), temperature).backward()
    assert scores.grad.tolist() == pytest.approx([0.5 - first, first - 0.5], abs=1e-6)


def test_listwise_does_not_ask_for_the_level():
    scores, values, group = torch.tensor([1.0, 3.0, 2.0]), torch.tensor([0.2, 0.1, 0.4]), torch.tensor([0, 0, 1])
    loss = listwise(scores, values, group, 0.1).item()
    moved = listwise(scores + torch.tensor([5.0, 5.0, -9.0]), values + 0.3, group, 0.1).item()
    assert moved == pytest.approx(loss, abs=1e-5)  # float32


def test_listwise_bears_extreme_scores():
    scores = torch.tensor([1e4, -1e4, 1e6, -1e6], requires_grad=True)
    loss = listwise(scores, torch.tensor([0.0, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 1, 1]), 0.02)
    loss.backward()
    # All of the target lies on the second, 2e4 below; the second group is right.
    assert loss.item() == pytest.approx(2e4 / 2)
    # Softmax minus target, over two groups: exp(-50) remains of a target of 0.
    assert scores.grad.tolist() == pytest.approx([0.5, -0.5, 0, 0], abs=1e-9)


def differences(loss, scores, step=1e-6):
    """The gradient by central differences, one score at a time."""
    moves = torch.eye(len(scores), dtype=scores.dtype) * step
    return [((loss(scores + move) - loss(scores - move)) / (2 * step)).item() for move in moves]


GROUP = torch.tensor([0, 1, 0, 1, 1, 2])
VALUES = torch.tensor([0.1, 0.7, 0.3, 0.2, 0.25, 0.5], dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0, 3.0], dtype=torch.float64)
LOSSES = {
    "soft_bce": lambda scores: soft_bce(scores, VALUES, WEIGHTS),
    "squared_error": lambda scores: squared_error(scores, VALUES, WEIGHTS),
    "bradley_terry": lambda scores: bradley_terry(scores, torch.tensor([1, 2, 1]), torch.tensor([3, 0, 4])),
    "listwise": lambda scores: listwise(scores, VALUES, GROUP, 0.2),
    "implicit": lambda scores: implicit_reward(scores[:3], scores[3:], 0.9).square().sum(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    scores = torch.tensor([0.3, -1.0, 2.0, 0.0, 0.5, 4.0], dtype=torch.float64, requires_grad=True)
    LOSSES[name](scores).backward()
    assert scores.grad.tolist() == pytest.approx(differences(LOSSES[name], scores.detach()), abs=1e-8)


def test_the_implicit_reward_by_hand():
    rewards = implicit_reward(torch.tensor([1.0, 0.5, 2.0]), torch.tensor([0.5, -1.0, 0.0]), gamma=0.9)
    assert rewards.tolist() == pytest.approx([1 - 0.45, 0.5 + 0.9, 2.0])
