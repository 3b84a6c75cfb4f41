import math

import pytest
import torch

from agentgym_prm.algos.losses import (
    bradley_terry,
    clipped_surrogate,
    clipped_value_loss,
    dpo,
    group_entropy,
    group_log_softmax,
    implicit_reward,
    kl_penalty,
    listwise,
    loss_weights,
    soft_bce,
    squared_error,
)

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


def test_the_softmax_and_its_entropy_are_those_of_each_group():
    """Groups {0, 2}: odds 1 and 3; {1}: alone; {3, 4}: even."""
    scores, group = torch.tensor([5.0, -3.0, 5.0 + LN3, 2.0, 2.0]), torch.tensor([0, 1, 0, 2, 2])
    assert group_log_softmax(scores, group).exp().tolist() == pytest.approx([0.25, 1, 0.75, 0.5, 0.5])
    # (1/4) ln 4 + (3/4) ln (4/3)
    assert group_entropy(scores, group).tolist() == pytest.approx([math.log(4) - 0.75 * LN3, 0, LN2], abs=1e-6)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_weights_of_tokens_and_sequences_by_hand():
    """Trajectory 7 has three tokens, 2 has one; interleaved."""
    sequence = torch.tensor([7, 2, 7, 7])
    assert loss_weights(sequence, level="token").tolist() == [0.25] * 4
    assert loss_weights(sequence, level="sequence").tolist() == pytest.approx([1 / 6, 1 / 2, 1 / 6, 1 / 6])
    # Two trajectories, 8 tokens each at most: 1 / 16, whatever their lengths.
    assert loss_weights(sequence, level="constant", length=8).tolist() == [1 / 16] * 4


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_weights_sum_to_1_and_stay_with_their_tokens(level):
    generator = torch.Generator().manual_seed(0)
    sequence = torch.randint(0, 6, (50,), generator=generator)
    weights = loss_weights(sequence, level=level)
    assert weights.sum().item() == pytest.approx(1, abs=1e-6)  # float32
    order = torch.randperm(50, generator=generator)
    assert torch.equal(loss_weights(sequence[order], level=level), weights[order])


def test_a_mean_of_sequence_means_is_the_weighted_sum():
    sequence, losses = [0, 0, 1, 0, 2, 2], [1.0, 2.0, 3.0, 6.0, -1.0, 0.0]
    means = [sum(x for x, s in zip(losses, sequence, strict=True) if s == b) / sequence.count(b) for b in range(3)]
    weighted = (loss_weights(torch.tensor(sequence), level="sequence") * torch.tensor(losses)).sum()
    assert weighted.item() == pytest.approx(sum(means) / 3)


def surrogate(log_ratios, advantages, weights=None, **clips):
    """Loss, metrics and gradient at the given log-ratios, whatever the old log-probabilities are."""
    old = torch.linspace(-3, -0.1, len(log_ratios), dtype=torch.float64)
    logprobs = (old + log_ratios).requires_grad_()
    weights = torch.ones(len(log_ratios), dtype=torch.float64) if weights is None else weights
    loss, metrics = clipped_surrogate(logprobs, old, advantages, weights, **clips)
    loss.backward()
    return loss.item(), {name: value.item() for name, value in metrics.items()}, logprobs.grad


def test_at_ratio_1_the_gradient_is_minus_advantage_times_weight():
    advantages, weights = double(2.0, -1.0, 0.0, 0.5), double(0.1, 0.2, 0.3, 0.4)
    loss, metrics, gradient = surrogate(torch.zeros(4, dtype=torch.float64), advantages, weights)
    assert gradient.tolist() == (-advantages * weights).tolist()
    # -(2 x .1 - 1 x .2 + .5 x .4)
    assert loss == pytest.approx(-0.2)
    assert metrics == {"policy/clip_fraction": 0, "policy/approx_kl": 0, "policy/ratio_max": 1}


def test_the_clip_stops_the_gradient_where_the_ratio_has_moved_far_enough_and_only_there():
    """Ratios .7, .9, 1.1, 1.4 with clip .2; advantages 1, then -1. Clipped: 1.4 going up, .7 going down."""
    ratios = double(0.7, 0.9, 1.1, 1.4, 0.7, 0.9, 1.1, 1.4)
    advantages = double(1, 1, 1, 1, -1, -1, -1, -1)
    weights = torch.full((8,), 0.125, dtype=torch.float64)
    loss, metrics, gradient = surrogate(ratios.log(), advantages, weights)
    # The gradient of ratio by log-probability is the ratio.
    expected = [-0.7, -0.9, -1.1, 0, 0, 0.9, 1.1, 1.4]
    assert (8 * gradient).tolist() == pytest.approx(expected, abs=1e-12)
    assert [g == 0 for g in gradient.tolist()] == [e == 0 for e in expected]
    # -(.7 + .9 + 1.1 + 1.2) / 8 + (.8 + .9 + 1.1 + 1.4) / 8
    assert loss == pytest.approx((-3.9 + 4.2) / 8)
    assert metrics["policy/clip_fraction"] == 0.25
    assert metrics["policy/ratio_max"] == pytest.approx(1.4)
    k3 = sum(r - 1 - math.log(r) for r in (0.7, 0.9, 1.1, 1.4)) / 4
    assert metrics["policy/approx_kl"] == pytest.approx(k3)


def test_each_side_has_its_own_clip():
    """Clip-higher: 1.25 is within .28 but .75 is beyond .2."""
    ratios, advantages = double(1.25, 0.75), double(1, -1)
    _, metrics, gradient = surrogate(ratios.log(), advantages, clip_low=0.2, clip_high=0.28)
    assert gradient.tolist() == pytest.approx([-1.25, 0])
    _, _, gradient = surrogate(ratios.log(), advantages, clip_low=0.28, clip_high=0.2)
    assert gradient.tolist() == pytest.approx([0, 0.75])
    assert metrics["policy/clip_fraction"] == 1  # weighted sum; the weights are 1 each


def test_a_clipped_ratio_beyond_all_numbers_leaves_no_nan():
    loss, _, gradient = surrogate(double(800.0, 0.0), double(1.0, 1.0))
    assert loss == pytest.approx(-2.2)
    assert gradient.tolist() == [0, -1]


def test_the_surrogate_sends_no_gradient_into_the_old_policy():
    logprobs, old = double(-1.0, -2.0).requires_grad_(), double(-1.1, -1.9).requires_grad_()
    clipped_surrogate(logprobs, old, double(1.0, -1.0), double(0.5, 0.5))[0].backward()
    assert old.grad is None


def test_the_value_loss_by_hand():
    """Old 0, target 1, clip .2. Moved to .5: |.5 - 1| < |.2 - 1|, so .64, and no gradient. Moved to -.5: 2.25 > 1.44.

    Moved by .1: both .81.
    """
    values = double(0.5, -0.5, 0.1).requires_grad_()
    loss, metrics = clipped_value_loss(values, double(0, 0, 0), double(1, 1, 1), double(0.2, 0.3, 0.5), clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * (0.2 * 0.64 + 0.3 * 2.25 + 0.5 * 0.81))
    assert values.grad.tolist() == pytest.approx([0, 0.3 * -1.5, 0.5 * -0.9])
    assert metrics["value/clip_fraction"].item() == pytest.approx(0.2)


def test_without_a_clip_the_value_loss_is_half_the_squared_error():
    values, returns, weights = double(0.5, -0.5, 3.0), double(1, 1, 2), double(0.5, 0.25, 0.25)
    loss, metrics = clipped_value_loss(values, double(9, 9, 9), returns, weights, clip=None)
    assert loss.item() == pytest.approx(0.5 * (0.125 + 0.5625 + 0.25))
    assert metrics["value/clip_fraction"].item() == 0


LOGITS, REFERENCE = double(0.3, -1.2, 2.0, 0.1), double(1.0, 0.5, -0.7, 0.2).log_softmax(0)


def expected(values):
    """Expectation under the policy with ``LOGITS``, by enumeration; its probabilities do not pass a gradient."""
    return (LOGITS.softmax(0) * values).sum()


def kl_gradient(divergence):
    logits = LOGITS.clone().requires_grad_()
    divergence(logits.log_softmax(0)).backward()
    return logits.grad


def estimated_gradient(estimator):
    logits = LOGITS.clone().requires_grad_()
    expected(kl_penalty(logits.log_softmax(0), REFERENCE, estimator=estimator)).backward()
    return logits.grad


def test_k1_and_k3_have_the_kl_as_their_expectation_and_k2_has_not():
    logprobs = LOGITS.log_softmax(0)
    kl = sum(p * (math.log(p) - q) for p, q in zip(logprobs.exp().tolist(), REFERENCE.tolist(), strict=True))
    assert expected(kl_penalty(logprobs, REFERENCE, estimator="k1")).item() == pytest.approx(kl)
    assert expected(kl_penalty(logprobs, REFERENCE, estimator="k3")).item() == pytest.approx(kl)
    assert expected(kl_penalty(logprobs, REFERENCE)).item() == pytest.approx(kl)
    assert abs(expected(kl_penalty(logprobs, REFERENCE, estimator="k2")).item() - kl) > 0.1
    # That k1 takes both signs is what k3 is for.
    assert kl_penalty(logprobs, REFERENCE, estimator="k1").min() < 0
    assert kl_penalty(logprobs, REFERENCE, estimator="k3").min() > 0
    assert kl_penalty(logprobs, logprobs, estimator="k3").tolist() == [0] * 4


def test_kl_estimates_by_hand():
    """Policy 1/2, reference 1/4: d = ln 2; k2 = (ln 2)^2 / 2; k3 = 1/2 - 1 + ln 2."""
    policy, reference = double(math.log(1 / 2)), double(math.log(1 / 4))
    values = {name: kl_penalty(policy, reference, estimator=name).item() for name in ("k1", "k2", "k3")}
    assert values == pytest.approx({"k1": LN2, "k2": LN2**2 / 2, "k3": LN2 - 0.5})


def test_as_losses_k1_teaches_nothing_k2_the_kl_and_k3_the_reverse_kl():
    forward = kl_gradient(lambda logprobs: (logprobs.exp() * (logprobs - REFERENCE)).sum())
    reverse = kl_gradient(lambda logprobs: (REFERENCE.exp() * (REFERENCE - logprobs)).sum())
    assert estimated_gradient("k1").tolist() == pytest.approx([0] * 4, abs=1e-12)
    assert estimated_gradient("k2").tolist() == pytest.approx(forward.tolist())
    assert estimated_gradient("k3").tolist() == pytest.approx(reverse.tolist())
    assert (forward - reverse).abs().max() > 0.1


# Two pairs: margins (-1 + 2) - (-3 + 3) = 1 and (-4 + 3) - (-1 + 2) = -2.
PAIRS = (double(-1, -4), double(-3, -1), double(-2, -3), double(-3, -2))


def test_dpo_by_hand():
    loss, metrics = dpo(*PAIRS, beta=0.5)
    # -log sigmoid(x) = log(1 + exp(-x)) at .5 and -1.
    assert loss.item() == pytest.approx((math.log1p(math.exp(-0.5)) + math.log1p(math.exp(1))) / 2)
    metrics = {name: value.item() for name, value in metrics.items()}
    # Rewards: chosen .5 (1, -1), rejected .5 (0, 1).
    assert metrics == pytest.approx(
        {"dpo/accuracy": 0.5, "dpo/margin": -0.25, "dpo/chosen_reward": 0, "dpo/rejected_reward": 0.25}
    )


def test_ipo_by_hand():
    """beta .5: the margin wanted is 1; (1 - 1)^2 and (-2 - 1)^2. At beta .1 it is 5: 16 and 49."""
    assert dpo(*PAIRS, beta=0.5, kind="ipo")[0].item() == pytest.approx(9 / 2)
    assert dpo(*PAIRS, beta=0.1, kind="ipo")[0].item() == pytest.approx(65 / 2)


def test_dpo_at_the_reference_is_log_2_and_raises_the_chosen():
    chosen, rejected = double(-1.0, -2.0).requires_grad_(), double(-1.5, -0.5).requires_grad_()
    loss, metrics = dpo(chosen, rejected, chosen.detach(), rejected.detach(), beta=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(LN2)
    # -beta sigmoid(0) / 2 pairs
    assert chosen.grad.tolist() == pytest.approx([-0.025] * 2)
    assert rejected.grad.tolist() == pytest.approx([0.025] * 2)
    assert metrics["dpo/accuracy"].item() == 0  # no margin is not a right one


SIZE, CUT = 12, 5
GENERATOR = torch.Generator().manual_seed(0)
DRAWS = torch.randn(5, SIZE, dtype=torch.float64, generator=GENERATOR) * 0.3
SEQUENCE = torch.randint(0, 4, (SIZE,), generator=GENERATOR)
TOKEN_WEIGHTS = loss_weights(SEQUENCE, level="sequence").double()
WEIGHTED = {
    "surrogate": lambda x, part: clipped_surrogate(
        x[part], DRAWS[0][part], DRAWS[1][part], TOKEN_WEIGHTS[part], clip_high=0.3
    ),
    "value": lambda x, part: clipped_value_loss(x[part], DRAWS[0][part], DRAWS[1][part], TOKEN_WEIGHTS[part], clip=0.1),
    "kl": lambda x, part: ((kl_penalty(x[part], DRAWS[0][part]) * TOKEN_WEIGHTS[part]).sum(), {}),
    "dpo": lambda x, part: dpo(
        x[part], DRAWS[0][part], DRAWS[1][part], DRAWS[2][part], beta=0.3, weights_P=TOKEN_WEIGHTS[part]
    ),
    "ipo": lambda x, part: dpo(
        x[part], DRAWS[0][part], DRAWS[1][part], DRAWS[2][part], beta=0.3, kind="ipo", weights_P=TOKEN_WEIGHTS[part]
    ),
}


def run_parts(name, parts, x):
    x = x.clone().requires_grad_()
    total, sums = 0.0, {}
    for part in parts:
        loss, metrics = WEIGHTED[name](x, part)
        loss.backward()
        total += loss.item()
        for key, value in metrics.items():
            sums[key] = sums.get(key, 0.0) + value.item()
    sums.pop("policy/ratio_max", None)
    return total, sums, x.grad.tolist()


@pytest.mark.parametrize("name", WEIGHTED)
def test_microbatches_add_up_to_the_minibatch(name):
    """Cut through the middle of trajectories. Gradients are the same numbers; sums differ by the order of adding."""
    whole = run_parts(name, [slice(None)], DRAWS[3])
    parts = run_parts(name, [slice(0, CUT), slice(CUT, CUT + 1), slice(CUT + 1, None)], DRAWS[3])
    assert parts[0] == pytest.approx(whole[0], rel=1e-13, abs=1e-14)
    assert parts[1] == pytest.approx(whole[1], rel=1e-13, abs=1e-14)
    assert parts[2] == whole[2]


@pytest.mark.parametrize("name", WEIGHTED)
def test_gradients_of_policy_losses_are_those_of_finite_differences(name):
    gradient = run_parts(name, [slice(None)], DRAWS[3])[2]
    slopes = differences(lambda x: WEIGHTED[name](x, slice(None))[0], DRAWS[3])
    assert gradient == pytest.approx(slopes, abs=1e-8)


@pytest.mark.parametrize("name", WEIGHTED)
def test_the_order_of_tokens_does_not_matter(name):
    order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(1))
    loss, metrics, gradient = run_parts(name, [slice(None)], DRAWS[3])
    # Indexed by the permutation, the gradient still arrives at each token's own place.
    other = run_parts(name, [order], DRAWS[3])
    assert other[0] == pytest.approx(loss, rel=1e-13)
    assert other[1] == pytest.approx(metrics, rel=1e-13)
    assert other[2] == gradient


@pytest.mark.parametrize("name", WEIGHTED)
def test_metrics_are_detached(name):
    _, metrics = WEIGHTED[name](DRAWS[3].clone().requires_grad_(), slice(None))
    assert not any(value.requires_grad for value in metrics.values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loss_weights(torch.tensor([], dtype=torch.long), level="token"), "no action tokens"),
        (lambda: loss_weights(torch.tensor([0]), level="turn"), "token, sequence, constant, got 'turn'"),
        (lambda: loss_weights(torch.tensor([0]), level="constant"), "got length None for level 'constant'"),
        (lambda: loss_weights(torch.tensor([0]), level="constant", length=0), "got length 0"),
        (lambda: loss_weights(torch.tensor([0]), level="token", length=9), "got length 9 for level 'token'"),
        (lambda: kl_penalty(double(0), double(0), estimator="k4"), "k1, k2, k3, got 'k4'"),
        (lambda: dpo(*PAIRS, beta=0.1, kind="hinge"), "sigmoid, ipo, got 'hinge'"),
        (lambda: dpo(*PAIRS, beta=0.0), "beta must be above 0, got 0"),
        (lambda: dpo(double(), double(), double(), double(), beta=0.1), "no pairs"),
    ],
)
def test_bad_input_of_policy_losses_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
