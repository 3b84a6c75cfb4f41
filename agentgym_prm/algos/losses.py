"""Losses as plain functions: tensors in, one number out, for policies with metrics beside it.

Shapes: ``N`` scores, one for each action; ``P`` pairs of them. Scores are the network's output before any link. For
policies ``N`` are action tokens, or decisions, gathered from all sequences: there is no padding left.

The losses of policies are *sums* weighted by ``weights_N``, which ``loss_weights`` makes for a whole minibatch: slices
of them give the losses of microbatches, which add up to the minibatch's. Metrics add up too, but for maxima.
"""

from typing import Final, Literal, get_args

from agentgym_prm.errors import needs_extra

with needs_extra("train"):
    import torch
    import torch.nn.functional as F

Level = Literal["token", "sequence", "constant"]
Estimator = Literal["k1", "k2", "k3"]
Preference = Literal["sigmoid", "ipo"]

_LARGEST_LOG_RATIO: Final = 20.0


def soft_bce(scores_N: torch.Tensor, targets_N: torch.Tensor, weights_N: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy between ``sigmoid(score)`` and targets in [0, 1], weighted mean (arXiv:2502.10325)."""
    losses_N = F.binary_cross_entropy_with_logits(scores_N, targets_N, reduction="none")
    return (losses_N * weights_N).sum() / weights_N.sum()


def squared_error(scores_N: torch.Tensor, targets_N: torch.Tensor, weights_N: torch.Tensor) -> torch.Tensor:
    """Weighted mean of ``(score - target) ** 2``."""
    return ((scores_N - targets_N) ** 2 * weights_N).sum() / weights_N.sum()


def bradley_terry(scores_N: torch.Tensor, chosen_P: torch.Tensor, rejected_P: torch.Tensor) -> torch.Tensor:
    """Mean of ``-log sigmoid(score of chosen - score of rejected)``; 0 without pairs.

    ``chosen_P`` and ``rejected_P`` are indices into the scores.
    """
    if len(chosen_P) == 0:
        return scores_N.sum() * 0.0
    return -F.logsigmoid(scores_N[chosen_P] - scores_N[rejected_P]).mean()


def listwise(scores_N: torch.Tensor, values_N: torch.Tensor, group_N: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cross-entropy of ``softmax(score)`` with ``softmax(value / temperature)`` within each group, mean over groups.

    ``group_N`` numbers the groups from 0. Source: ListNet (Cao et al., 2007), with a temperature.
    """
    targets_N = group_log_softmax(values_N / temperature, group_N).exp()
    losses_N = -targets_N * group_log_softmax(scores_N, group_N)
    return losses_N.sum() / (group_N.max() + 1)


def group_log_softmax(scores_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """Logarithm of the softmax within each group, shape ``(N,)``; ``group_N`` numbers the groups from 0."""
    zeros_G = torch.zeros(int(group_N.max()) + 1, dtype=scores_N.dtype, device=scores_N.device)
    highest_G = zeros_G.scatter_reduce(0, group_N, scores_N.detach(), "amax", include_self=False)
    shifted_N = scores_N - highest_G[group_N]
    return shifted_N - zeros_G.scatter_add(0, group_N, shifted_N.exp()).log()[group_N]


def implicit_reward(scores_N: torch.Tensor, following_N: torch.Tensor, gamma: float) -> torch.Tensor:
    """``Q(h, a) - gamma Q(h', a')``, shape ``(N,)``; ``following_N`` is 0 where the episode ends."""
    return scores_N - gamma * following_N


def group_entropy(scores_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of the softmax within each group, shape ``(G,)``; ``group_N`` numbers the groups from 0."""
    logprobs_N = group_log_softmax(scores_N, group_N)
    entropies_G = torch.zeros(int(group_N.max()) + 1, dtype=scores_N.dtype, device=scores_N.device)
    return entropies_G.scatter_add(0, group_N, -logprobs_N.exp() * logprobs_N)


def loss_weights(sequence_N: torch.Tensor, *, level: Level, length: int | None = None) -> torch.Tensor:
    """Weight of each action token in the loss of a minibatch.

    Args:
        sequence_N: Number of the trajectory that each action token of the minibatch belongs to, shape ``(N,)``.
        level: ``"token"``: the mean over all tokens (DAPO, arXiv:2503.14476), to which long trajectories contribute
            more. ``"sequence"``: the mean over each trajectory's tokens, then over trajectories (GRPO,
            arXiv:2402.03300), which makes the tokens of long trajectories count less. ``"constant"``: the sum over each
            trajectory's tokens divided by ``length``, then the mean over trajectories (Dr. GRPO, arXiv:2503.20783).
        length: The constant of ``"constant"``, in tokens; there, the largest length of a reply.

    Returns:
        Weights, shape ``(N,)``, float32, on the device of ``sequence_N``. They sum to 1; those of ``"constant"`` to the
        mean length of a trajectory divided by ``length``, and metrics are smaller by as much.

    Raises:
        ValueError: No tokens, an unknown ``level``, ``length`` missing or given to another level.
    """
    if len(sequence_N) == 0:
        raise ValueError("no action tokens to weigh")
    if (length is not None and length > 0) != (level == "constant"):
        raise ValueError(f"a length of at least 1 belongs to level 'constant', got length {length} for level {level!r}")
    ones_N = torch.ones(len(sequence_N), device=sequence_N.device)
    if level == "token":
        return ones_N / len(sequence_N)
    inverse_N: torch.Tensor
    counts_B: torch.Tensor
    _, inverse_N, counts_B = torch.unique(sequence_N, return_inverse=True, return_counts=True)
    if level == "sequence":
        return ones_N / (len(counts_B) * counts_B[inverse_N])
    if length is not None:
        return ones_N / (len(counts_B) * length)
    raise ValueError(f"level must be one of {', '.join(get_args(Level))}, got {level!r}")


def clipped_surrogate(
    logprobs_N: torch.Tensor,
    old_logprobs_N: torch.Tensor,
    advantages_N: torch.Tensor,
    weights_N: torch.Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """PPO's clipped policy loss: ``-min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A)``, weighted sum.

    Args:
        logprobs_N: Log-probabilities of the action tokens under the policy, shape ``(N,)``; gradients flow here only.
        old_logprobs_N: The same under the policy that acted, as the trainer computes it.
        advantages_N: Advantages of the tokens.
        weights_N: Weights of the tokens, see ``loss_weights``.
        clip_low: How far the ratio may fall below 1; 0.2 in arXiv:1707.06347.
        clip_high: How far it may rise above 1; 0.2 there, 0.28 in DAPO (arXiv:2503.14476).

    Returns:
        The loss, and detached metrics: weighted sums ``policy/clip_fraction`` (tokens whose gradient the clip stops)
        and ``policy/approx_kl`` (k3 estimate of KL(old policy, policy) on the old policy's tokens), and
        ``policy/ratio_max``.
    """
    log_ratio_N = logprobs_N - old_logprobs_N.detach()
    # An infinite ratio would make NaN of a gradient that the clip sets to 0.
    ratio_N = log_ratio_N.clamp(max=_LARGEST_LOG_RATIO).exp()
    plain_N = ratio_N * advantages_N
    clipped_N = ratio_N.clamp(1 - clip_low, 1 + clip_high) * advantages_N
    loss = -(torch.minimum(plain_N, clipped_N) * weights_N).sum()
    with torch.no_grad():
        metrics = {
            "policy/clip_fraction": ((clipped_N < plain_N) * weights_N).sum(),
            "policy/approx_kl": ((ratio_N - 1 - log_ratio_N) * weights_N).sum(),
            "policy/ratio_max": ratio_N.max(),
        }
    return loss, metrics


def clipped_value_loss(
    values_N: torch.Tensor,
    old_values_N: torch.Tensor,
    returns_N: torch.Tensor,
    weights_N: torch.Tensor,
    *,
    clip: float | None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """PPO's value loss: half the squared error, the larger of the value's and the clipped value's, weighted sum.

    Args:
        values_N: The critic's values, shape ``(N,)``; gradients flow here only.
        old_values_N: Its values when the data were collected.
        returns_N: Targets, see ``advantages.gae``.
        weights_N: Weights of the tokens, see ``loss_weights``.
        clip: How far a value may move from the old one in the values' unit, 0.2 in most code; None for no clip.

    Returns:
        The loss, and detached metrics: the weighted sum ``value/clip_fraction`` (tokens whose gradient the clip stops).
    """
    plain_N = (values_N - returns_N) ** 2
    if clip is None:
        return 0.5 * (plain_N * weights_N).sum(), {"value/clip_fraction": plain_N.new_zeros(())}
    clipped_N = (old_values_N + (values_N - old_values_N).clamp(-clip, clip) - returns_N) ** 2
    loss = 0.5 * (torch.maximum(plain_N, clipped_N) * weights_N).sum()
    return loss, {"value/clip_fraction": ((clipped_N > plain_N) * weights_N).sum().detach()}


def kl_penalty(logprobs_N: torch.Tensor, reference_N: torch.Tensor, *, estimator: Estimator = "k3") -> torch.Tensor:
    """Estimates of KL(policy, reference), one for each token that the policy sampled, shape ``(N,)``.

    With ``d = log policy - log reference``: ``k1 = d``; ``k2 = d**2 / 2``; ``k3 = exp(-d) - 1 + d``.

    As *values*: ``k1`` and ``k3`` have the KL as their expectation, and ``k3`` is never negative; ``k2`` is biased.
    As *losses* on tokens of the policy itself: the gradient of ``k1`` has expectation 0, so it penalises nothing and
    belongs into the reward; that of ``k2`` has the gradient of KL(policy, reference); that of ``k3`` has the gradient
    of the reverse, KL(reference, policy), which agrees with it near the reference. GRPO uses ``k3``.

    Args:
        logprobs_N: Log-probabilities under the policy, shape ``(N,)``.
        reference_N: The same under the reference.
        estimator: Which estimate.

    Source: Schulman, "Approximating KL divergence" (2020).
    """
    difference_N = logprobs_N - reference_N
    if estimator == "k1":
        return difference_N
    if estimator == "k2":
        return 0.5 * difference_N**2
    if estimator == "k3":
        return (-difference_N).exp() - 1 + difference_N
    raise ValueError(f"estimator must be one of {', '.join(get_args(Estimator))}, got {estimator!r}")


def dpo(
    chosen_P: torch.Tensor,
    rejected_P: torch.Tensor,
    reference_chosen_P: torch.Tensor,
    reference_rejected_P: torch.Tensor,
    *,
    beta: float,
    kind: Preference = "sigmoid",
    weights_P: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Direct preference optimisation on pairs of replies.

    With the margin ``m = (chosen - reference_chosen) - (rejected - reference_rejected)``: ``"sigmoid"`` is
    ``-log sigmoid(beta m)`` (arXiv:2305.18290), ``"ipo"`` is ``(m - 1 / (2 beta))**2`` (arXiv:2310.12036).

    Args:
        chosen_P: Log-probabilities of the better replies under the policy, shape ``(P,)``: *sums* over a reply's action
            tokens, for both kinds, as in the papers. (TRL gives ``"ipo"`` the means; the target then is a margin per
            token.)
        rejected_P: The same of the worse replies.
        reference_chosen_P: The same of the better replies under the reference.
        reference_rejected_P: The same of the worse replies under the reference.
        beta: Strength of the tie to the reference, above 0.
        kind: Which loss.
        weights_P: Weights that make a weighted sum, for microbatches; the mean without them.

    Returns:
        The loss, and detached metrics, weighted alike: ``dpo/accuracy`` (share of pairs with a margin above 0),
        ``dpo/chosen_reward`` and ``dpo/rejected_reward`` (implicit: ``beta * (policy - reference)``) and their
        difference ``dpo/margin``.

    Raises:
        ValueError: No pairs, ``beta`` not above 0, an unknown ``kind``.
    """
    if len(chosen_P) == 0:
        raise ValueError("no pairs to learn from")
    if not beta > 0:
        raise ValueError(f"beta must be above 0, got {beta}")
    chosen_P, rejected_P = chosen_P - reference_chosen_P, rejected_P - reference_rejected_P
    margins_P = chosen_P - rejected_P
    if kind == "sigmoid":
        losses_P = -F.logsigmoid(beta * margins_P)
    elif kind == "ipo":
        losses_P = (margins_P - 1 / (2 * beta)) ** 2
    else:
        raise ValueError(f"kind must be one of {', '.join(get_args(Preference))}, got {kind!r}")
    if weights_P is None:
        weights_P = torch.full_like(margins_P, 1 / len(margins_P))
    with torch.no_grad():
        metrics = {
            "dpo/accuracy": ((margins_P > 0) * weights_P).sum(),
            "dpo/margin": (beta * margins_P * weights_P).sum(),
            "dpo/chosen_reward": (beta * chosen_P * weights_P).sum(),
            "dpo/rejected_reward": (beta * rejected_P * weights_P).sum(),
        }
    return (losses_P * weights_P).sum(), metrics
