"""Losses as plain functions: tensors in, one number out.

Shapes: ``N`` scores, one for each action; ``P`` pairs of them. Scores are the network's output before any link.
"""

from agentgym_prm.errors import needs_extra

with needs_extra("train"):
    import torch
    import torch.nn.functional as F


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
    targets_N = _log_softmax(values_N / temperature, group_N).exp()
    losses_N = -targets_N * _log_softmax(scores_N, group_N)
    return losses_N.sum() / (group_N.max() + 1)


def _log_softmax(scores_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """Logarithm of the softmax within each group."""
    zeros_G = torch.zeros(int(group_N.max()) + 1, dtype=scores_N.dtype, device=scores_N.device)
    highest_G = zeros_G.scatter_reduce(0, group_N, scores_N.detach(), "amax", include_self=False)
    shifted_N = scores_N - highest_G[group_N]
    return shifted_N - zeros_G.scatter_add(0, group_N, shifted_N.exp()).log()[group_N]


def implicit_reward(scores_N: torch.Tensor, following_N: torch.Tensor, gamma: float) -> torch.Tensor:
    """``Q(h, a) - gamma Q(h', a')``, shape ``(N,)``; ``following_N`` is 0 where the episode ends."""
    return scores_N - gamma * following_N
