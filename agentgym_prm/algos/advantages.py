"""Advantages of policy algorithms as plain functions: rewards in, one advantage for each turn out.

A batch is ``B`` trajectories, ragged: ``rewards`` is a list of ``B`` arrays ``(S_b,)``, and ``groups_B`` numbers the
group, all trajectories of one task, that each belongs to. What comes out has the shape of what went in: no turn is left
out, the last one included. ``gae`` alone works on the tokens of one trajectory, as a critic values tokens.

Where a deviation divides, it is the sample's (``n - 1``), as in TRL and verl, and nothing is added to it: those add
1e-4 and 1e-6. Instead, values that differ by no more than ``NOISE`` count as equal, and their advantages are 0: neither
rounding nor the last digits of a reward model are blown up to full-size advantages.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agentgym_prm.rewards.targets import GAMMA, check_gamma, returns_to_go

NOISE: Final = 1e-6
"""Smallest difference of rewards that counts; relative to the rewards where these are larger than 1."""

Scale = Literal["group", "batch", "none"]
Pool = Literal["turn", "group"]


def group_relative(rewards_B: ArrayLike, groups_B: ArrayLike, *, scale: Scale = "group") -> NDArray[np.float64]:
    """Reward minus the mean of its group, divided by a standard deviation.

    Args:
        rewards_B: Reward of each trajectory, shape ``(B,)``.
        groups_B: Number of each trajectory's group, shape ``(B,)``.
        scale: Divide by the standard deviation of the rewards in the ``"group"`` (GRPO, arXiv:2402.03300) or in the
            whole ``"batch"`` (arXiv:2508.08221), or by nothing (``"none"``; Dr. GRPO, arXiv:2503.20783).

    Returns:
        Advantage of each trajectory, shape ``(B,)``; 0 in a group whose rewards are equal, and in a group of one.

    Raises:
        ValueError: Shapes that do not fit, a reward that is not finite, an unknown ``scale``.

    >>> group_relative([1.0, 0.0, 2.0, 5.0, 5.0], [0, 0, 0, 1, 1])
    array([ 0., -1.,  1.,  0.,  0.])
    """
    rewards_B, groups = _checked(rewards_B, groups_B)
    return _relative(rewards_B, _cells(groups), scale)


def informative_groups(rewards_B: ArrayLike, groups_B: ArrayLike) -> NDArray[np.bool_]:
    """Which trajectories are in a group whose rewards differ, shape ``(B,)``; the others teach nothing.

    Source: dynamic sampling of DAPO (arXiv:2503.14476), which draws other tasks in their place.
    """
    rewards_B, groups = _checked(rewards_B, groups_B)
    return _varied(rewards_B, _cells(groups))


def rloo(rewards_B: ArrayLike, groups_B: ArrayLike) -> NDArray[np.float64]:
    """Reward minus the mean reward of the *others* in its group, shape ``(B,)`` (arXiv:2402.14740).

    Raises:
        ValueError: A group of one; else as for ``group_relative``.

    >>> rloo([1.0, 0.0, 2.0], [0, 0, 0])
    array([ 0. , -1.5,  1.5])
    """
    rewards_B, groups = _checked(rewards_B, groups_B)
    cells_B = _cells(groups)
    counts_B = np.bincount(cells_B)[cells_B]
    if np.any(counts_B == 1):
        alone = groups[int(np.argmin(counts_B))]
        raise ValueError(f"leave-one-out needs two trajectories of each task, got one in group {alone}")
    # r - (sum - r) / (n - 1) = (r - mean) n / (n - 1)
    return _relative(rewards_B, cells_B, "none") * counts_B / (counts_B - 1)


def turn_level(
    turn_rewards: Sequence[ArrayLike],
    outcomes_B: ArrayLike,
    groups_B: ArrayLike,
    *,
    coef: float = 1.0,
    scale: Scale = "group",
    last_turn: bool = False,
) -> list[NDArray[np.float64]]:
    """MT-GRPO: turn ``k`` gets ``A^O + coef * A^T_k``, the last turn ``A^O`` alone.

    ``A^O`` is the group-relative outcome. ``A^T_k`` is the reward of turn ``k`` relative to the turns ``k`` of all
    trajectories of the group that have one, be it their last. With a tool turn and an answer turn that is the published
    case; with ``coef`` 0 it is GRPO on the outcome.

    A trajectory of one turn has no turn before its answer, so none that ``A^T`` could go to. It gets the group-relative
    ``outcome + coef * sum of turn rewards``: the authors' rule for an answer without a search. (Their code leaves
    ``coef`` out of that sum; the two agree at their default of 1, and only this one is GRPO at 0.) Longer trajectories,
    however they end, do not need the rule.

    Where later turns are reached by few trajectories, those few are compared among themselves; a turn that only one
    trajectory reaches has ``A^T_k = 0``.

    Args:
        turn_rewards: Rewards of the turns without the outcome, ``B`` arrays of shape ``(S_b,)``, ``S_b >= 1``.
        outcomes_B: Outcome of each trajectory, shape ``(B,)``.
        groups_B: Number of each trajectory's group, shape ``(B,)``.
        coef: Weight of the turns; 1 in the paper.
        scale: As for ``group_relative``, of outcomes and of turn rewards, each for itself: ``"group"`` in the paper
            (there, among the turns ``k`` of the group), ``"batch"`` for all turn rewards of the batch.
        last_turn: Let the last turn have its ``A^T`` too, where it has a reward of its own, as in a household, where
            any command may be the last; the rule for trajectories of one turn is not needed then. False in the paper,
            where the last turn is the answer.

    Raises:
        ValueError: A trajectory without turns; else as for ``group_relative``.

    Source: arXiv:2505.11821, section 3.
    """
    outcomes_B, groups = _checked(outcomes_B, groups_B)
    rewards = _ragged(turn_rewards, groups)
    cells_B = _cells(groups)
    outcome_B = _relative(outcomes_B, cells_B, scale)
    turns_N = _relative(np.concatenate(rewards), _cells(_group_turns(rewards, groups)), scale)
    combined_B = _relative(outcomes_B + coef * np.array([reward_S.sum() for reward_S in rewards]), cells_B, scale)
    advantages = []
    for turns_S, outcome, combined in zip(_split(turns_N, rewards), outcome_B, combined_B, strict=True):
        advantage_S = outcome + coef * turns_S
        if not last_turn:
            advantage_S[-1] = outcome if len(turns_S) > 1 else combined
        advantages.append(advantage_S)
    return advantages


def multi_step(
    rewards: Sequence[ArrayLike],
    groups_B: ArrayLike,
    *,
    gamma: float = 1.0,
    scale: Scale = "group",
    pool: Pool = "turn",
) -> list[NDArray[np.float64]]:
    """MS-PO: the discounted return-to-go of each turn, relative to its group.

    With trajectories of one turn this is GRPO. Of a turn that only one trajectory reaches nothing is learned: 0.

    Late turns. Where winning ends an episode, only failing trajectories reach the last turns. With ``pool="turn"`` they
    are compared among themselves: without turn rewards all have return 0, so that a failure's early turns are blamed
    and its late ones are left alone. With ``pool="group"`` the late turns of failures are blamed too, but a trajectory
    weighs in the mean by its length, so that long failures draw it down, and at ``gamma < 1`` a turn near a win counts
    as better than one far from it although both are on the way.

    Args:
        rewards: Rewards of the turns, the outcome added to the last, ``B`` arrays of shape ``(S_b,)``, ``S_b >= 1``.
        groups_B: Number of each trajectory's group, shape ``(B,)``.
        gamma: Discount per turn, in ``[0, 1]``; 1 in the source.
        scale: As for ``group_relative``, of the returns in the pool, or of all returns of the batch.
        pool: Compare with the group's turns of the same number (``"turn"``) or with all its turns (``"group"``).

    Raises:
        ValueError: A trajectory without turns, ``gamma`` outside ``[0, 1]``; else as for ``group_relative``.

    Source: the code of arXiv:2505.11821, for a tool turn and an answer turn. It differs where a trajectory has one turn
    only: there it counts with its return in both turns, here in the first alone.
    """
    groups = _grouped(groups_B)
    rewards = _ragged(rewards, groups)
    returns_N = np.concatenate([returns_to_go(reward_S, gamma) for reward_S in rewards])
    keys: Iterable[Hashable]
    if pool == "turn":
        keys = _group_turns(rewards, groups)
    elif pool == "group":
        keys = (group for group, reward_S in zip(groups, rewards, strict=True) for _ in reward_S)
    else:
        raise ValueError(f"pool must be one of {', '.join(get_args(Pool))}, got {pool!r}")
    return _split(_relative(returns_N, _cells(keys), scale), rewards)


def anchor_relative(
    rewards: Sequence[ArrayLike],
    anchors: Sequence[Sequence[Hashable]],
    groups_B: ArrayLike,
    *,
    gamma: float = GAMMA,
    omega: float = 1.0,
    scale: Scale = "group",
) -> list[NDArray[np.float64]]:
    """GiGPO: ``A^E + omega * A^S`` for each turn.

    ``A^E`` is the group-relative sum of a trajectory's rewards. ``A^S`` is the discounted return-to-go relative to all
    turns of the group that were taken in the same *anchor state*; 0 where a state was seen once. A trajectory that
    comes back to a state is compared with itself, too, as in the source.

    Args:
        rewards: Rewards of the turns, the outcome added to the last, ``B`` arrays of shape ``(S_b,)``, ``S_b >= 1``.
        anchors: What each turn was taken in, ``B`` sequences of ``S_b`` hashable values: the observation in the source.
            States are only compared within a group.
        groups_B: Number of each trajectory's group, shape ``(B,)``.
        gamma: Discount per turn, in ``[0, 1]``; 0.95 in the source.
        omega: Weight of the turns; 1 in the source.
        scale: As for ``group_relative``, of trajectories and of returns, each for itself; the source has ``"group"``
            (there, within the state) and ``"none"``.

    Raises:
        ValueError: A trajectory without turns or with another number of anchors, ``gamma`` outside ``[0, 1]``; else as
            for ``group_relative``.

    Source: arXiv:2505.10978, equations 3 and 5 to 8. The authors' code by default takes the mean of ``A^E`` over turns,
    so that long trajectories weigh more; the paper, and this, over trajectories.
    """
    groups = _grouped(groups_B)
    rewards = _ragged(rewards, groups)
    if [len(anchor_S) for anchor_S in anchors] != [len(reward_S) for reward_S in rewards]:
        raise ValueError(f"each turn needs one anchor, got {_lengths(anchors)} for turns {_lengths(rewards)}")
    episode_B = _relative(np.array([reward_S.sum() for reward_S in rewards]), _cells(groups), scale)
    returns_N = np.concatenate([returns_to_go(reward_S, gamma) for reward_S in rewards])
    states = ((group, anchor) for group, anchor_S in zip(groups, anchors, strict=True) for anchor in anchor_S)
    steps = _split(_relative(returns_N, _cells(states), scale), rewards)
    return [episode + omega * step_S for episode, step_S in zip(episode_B, steps, strict=True)]


def gae(
    rewards_T: ArrayLike,
    values_T: ArrayLike,
    gamma: float,
    lam: float,
    *,
    bootstrap: float = 0.0,
    turn_T: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Generalised advantage estimates for the action tokens of one trajectory, all its turns in a row.

    Args:
        rewards_T: Reward of each token, shape ``(T,)``: a turn's reward sits on the turn's last token.
        values_T: The critic's value before each token, shape ``(T,)``.
        gamma: Discount, in ``[0, 1]``.
        lam: Lambda, in ``[0, 1]``: 0 is the one-step error, 1 the return minus the value.
        bootstrap: Value of the state after the last token: 0 where the episode terminated, the critic's where it was
            truncated.
        turn_T: Turn of each token, shape ``(T,)``, not falling. With it ``gamma`` and ``lam`` apply only from one turn
            to the next (and from the last turn to ``bootstrap``) and are 1 inside, so that they count turns, and a turn
            of many tokens is not discounted for its length. Without it they apply to each token, as in PPO.

    Returns:
        Advantages ``(T,)`` and the critic's targets ``(T,)``, which are advantages + values.

    Raises:
        ValueError: Shapes that do not fit, numbers that are not finite, factors outside ``[0, 1]``, a turn index that
            falls.

    Source: arXiv:1506.02438.
    """
    check_gamma(gamma)
    if not 0 <= lam <= 1:
        raise ValueError(f"lam must be in [0, 1], got {lam}")
    rewards_T, values_T = _finite(rewards_T, "rewards_T"), _finite(values_T, "values_T")
    if rewards_T.shape != values_T.shape:
        raise ValueError(f"rewards_T and values_T must have one shape, got {rewards_T.shape} and {values_T.shape}")
    ends_T = np.ones(len(rewards_T), dtype=bool)
    if turn_T is not None:
        turn_T = np.asarray(turn_T)
        if turn_T.shape != rewards_T.shape or np.any(np.diff(turn_T) < 0):
            raise ValueError(f"turn_T must be {len(rewards_T)} numbers that never fall, got {turn_T.tolist()}")
        ends_T[:-1] = np.diff(turn_T) > 0
    gamma_T, lam_T = np.where(ends_T, gamma, 1.0), np.where(ends_T, lam, 1.0)
    following_T = _finite(np.append(values_T[1:], bootstrap), "values and bootstrap")[: len(values_T)]
    errors_T = rewards_T + gamma_T * following_T - values_T
    advantages_T = np.empty(len(rewards_T))
    following = 0.0
    for token in range(len(rewards_T) - 1, -1, -1):
        following = advantages_T[token] = errors_T[token] + gamma_T[token] * lam_T[token] * following
    return advantages_T, advantages_T + values_T


def whiten(advantages_N: ArrayLike, weights_N: ArrayLike | None = None) -> NDArray[np.float64]:
    """Advantages shifted and scaled to mean 0 and standard deviation 1 under ``weights_N`` (PPO; over a whole batch).

    Args:
        advantages_N: Advantages of all action tokens of a batch, shape ``(N,)``.
        weights_N: Weights of at least 0 or a mask, shape ``(N,)``; without it all count alike. Where it is 0, so is the
            result.

    Returns:
        Whitened advantages, shape ``(N,)``; all 0 where the advantages are equal.

    Raises:
        ValueError: Shapes that do not fit, numbers that are not finite, weights that are negative or all 0.
    """
    advantages_N = _finite(advantages_N, "advantages_N")
    weights_N = np.ones(len(advantages_N)) if weights_N is None else _finite(weights_N, "weights_N")
    if weights_N.shape != advantages_N.shape or np.any(weights_N < 0) or not np.any(weights_N):
        raise ValueError(f"weights_N must be {len(advantages_N)} weights of at least 0, one of them more")
    counted_N = weights_N > 0
    whitened_N = np.zeros(len(advantages_N))
    if _varied(advantages_N[counted_N], np.zeros(counted_N.sum(), dtype=np.intp)).any():
        centred_N = advantages_N - np.average(advantages_N, weights=weights_N)
        deviation = np.sqrt(np.average(centred_N**2, weights=weights_N))
        whitened_N[counted_N] = centred_N[counted_N] / deviation
    return whitened_N


def _relative(values_N: NDArray[np.float64], cells_N: NDArray[np.intp], scale: Scale) -> NDArray[np.float64]:
    """Each value minus its cell's mean, scaled; 0 in cells whose values are equal."""
    if scale not in get_args(Scale):
        raise ValueError(f"scale must be one of {', '.join(get_args(Scale))}, got {scale!r}")
    counts_C = np.bincount(cells_N)
    means_C = np.bincount(cells_N, values_N) / counts_C
    varied_N = _varied(values_N, cells_N)
    centred_N = np.where(varied_N, values_N - means_C[cells_N], 0.0)
    if scale == "none" or not varied_N.any():
        return centred_N
    if scale == "group":
        deviations_C = np.sqrt(np.bincount(cells_N, centred_N**2) / np.maximum(counts_C - 1, 1))
        return np.divide(centred_N, deviations_C[cells_N], out=np.zeros(len(values_N)), where=varied_N)
    return np.asarray(centred_N / np.std(values_N, ddof=1), dtype=np.float64)


def _varied(values_N: NDArray[np.float64], cells_N: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether a value's cell holds different values."""
    shape = int(cells_N.max(initial=-1)) + 1
    highest_C, lowest_C, size_C = np.full(shape, -np.inf), np.full(shape, np.inf), np.ones(shape)
    np.maximum.at(highest_C, cells_N, values_N)
    np.minimum.at(lowest_C, cells_N, values_N)
    np.maximum.at(size_C, cells_N, np.abs(values_N))
    return np.asarray((highest_C - lowest_C > NOISE * size_C)[cells_N], dtype=np.bool_)


def _cells(keys: Iterable[Hashable]) -> NDArray[np.intp]:
    """Equal keys by equal numbers, from 0."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)


def _group_turns(rewards: Sequence[NDArray[np.float64]], groups: Sequence[Hashable]) -> Iterable[Hashable]:
    return ((group, turn) for group, reward_S in zip(groups, rewards, strict=True) for turn in range(len(reward_S)))


def _split(values_N: NDArray[np.float64], rewards: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    return np.split(values_N, np.cumsum([len(reward_S) for reward_S in rewards])[:-1])


def _checked(rewards_B: ArrayLike, groups_B: ArrayLike) -> tuple[NDArray[np.float64], list[int]]:
    rewards_B, groups = _finite(rewards_B, "rewards"), _grouped(groups_B)
    if len(rewards_B) != len(groups):
        raise ValueError(f"each trajectory needs one group, got {len(groups)} groups for {len(rewards_B)} trajectories")
    return rewards_B, groups


def _grouped(groups_B: ArrayLike) -> list[int]:
    groups_B = np.asarray(groups_B)
    if groups_B.ndim != 1 or not (groups_B.size == 0 or np.issubdtype(groups_B.dtype, np.integer)):
        raise ValueError(f"groups_B must be a row of integers, got {groups_B.dtype} of shape {groups_B.shape}")
    return [int(group) for group in groups_B]


def _ragged(rewards: Sequence[ArrayLike], groups: Sequence[int]) -> list[NDArray[np.float64]]:
    if len(rewards) != len(groups) or not groups:
        raise ValueError(f"each trajectory needs one group, got {len(groups)} groups for {len(rewards)} trajectories")
    checked = [_finite(reward_S, f"rewards of trajectory {number}") for number, reward_S in enumerate(rewards)]
    if 0 in _lengths(checked):
        raise ValueError(f"every trajectory needs a turn, got none in trajectory {_lengths(checked).index(0)}")
    return checked


def _lengths(ragged: Sequence[Sequence[object] | NDArray[np.float64]]) -> list[int]:
    return [len(row) for row in ragged]


def _finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"{name} must be a row of finite numbers, got {values.tolist()}")
    return values
