"""Training targets of process rewards, as plain functions of trajectories in memory.

Source: arXiv:2502.10325 (Agent PRM). Follows the paper where its released code differs: the discount counts from the
step itself, not from the start of the episode. Departs from it in that data are split by task, never by row.

Histories are identified as ``identity.py`` says. The reward's scale: with ``signed`` the outcome ``R`` in [0, 1] is
mapped to ``2 R - 1`` before discounting and the mean return is mapped back to [0, 1], so that 0.5 means "undecided for
long": a late failure is better than an early one. Without it, plain returns are averaged.

``dataset.py`` computes the same for data sets that memory does not hold. Inverse-reward examples: ``inverse.py``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.rewards.identity import history_key, history_keys
from agentgym_prm.types import Action, History, Trajectory

GAMMA: Final = 0.95
PREFERENCE_MARGIN: Final = 0.03
SHAPING_CONSTANT: Final = 3.0
TRAIN_SHARE: Final = 0.85

Split = Literal["train", "held_out"]


def returns_to_go(rewards_S: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """Discounted reward from each step to the end: ``G_t = sum_{k>=t} gamma**(k-t) * r_k``.

    Args:
        rewards_S: Reward of each step, shape ``(S,)``, in the env's reward units.
        gamma: Discount per step, in ``[0, 1]``.

    Returns:
        Return-to-go, shape ``(S,)``, float64; empty for an empty trajectory.

    Raises:
        ValueError: ``gamma`` outside ``[0, 1]``, or ``rewards_S`` not one-dimensional.

    Source: arXiv:2502.10325, section 3. Differs from the authors' script, which discounts by ``gamma**t`` from the
    start.

    >>> returns_to_go(np.array([0.0, 0.0, 1.0]), gamma=0.5)
    array([0.25, 0.5 , 1.  ])
    """
    check_gamma(gamma)
    rewards_S = np.asarray(rewards_S, dtype=np.float64)
    if rewards_S.ndim != 1:
        raise ValueError(f"rewards_S must be one-dimensional, got shape {rewards_S.shape}")
    returns_S = np.empty(len(rewards_S))
    following = 0.0
    for turn in range(len(rewards_S) - 1, -1, -1):
        following = returns_S[turn] = rewards_S[turn] + gamma * following
    return returns_S


def check_gamma(gamma: float) -> None:
    """Refuse a discount outside ``[0, 1]``."""
    if not 0 <= gamma <= 1:
        hint = f" (did you mean {gamma / 100:g}?)" if 1 < gamma <= 100 else ""
        raise ValueError(f"gamma must be in [0, 1], got {gamma}{hint}")


def outcome_returns(trajectory: Trajectory, gamma: float, *, signed: bool) -> NDArray[np.float64]:
    """Return-to-go of each step under the environment's reward, shape ``(S,)``; if ``signed``, in [-1, 1].

    The last reward ``r`` counts as ``2 r - 1`` if ``signed``, any earlier one as ``2 r``: together ``2 R - 1``.

    Raises:
        ValueError: ``signed``, and the outcome is not in [0, 1].
    """
    returns_S = returns_to_go(np.array([step.outcome_reward for step in trajectory.steps]), gamma)
    if not signed:
        return returns_S
    if not 0 <= trajectory.outcome <= 1:
        raise ValueError(f"signed targets need outcomes in [0, 1], got {trajectory.outcome} in {trajectory.task_id!r}")
    return np.asarray(2 * returns_S - gamma ** np.arange(len(returns_S) - 1, -1, -1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class QTarget:
    """Mean return of ``visits`` identical pairs of history and action; both are the first visit's."""

    history: History
    action: Action
    value: float
    visits: int


@dataclass(frozen=True, slots=True)
class ActionValues:
    """Actions after one history, each with its value and how many returns that is the mean of."""

    history: History
    actions: tuple[Action, ...]
    values: tuple[float, ...]
    visits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VTarget:
    """Mean return of ``visits`` identical histories; the history is the first visit's."""

    history: History
    value: float
    visits: int


def q_targets(trajectories: Iterable[Trajectory], gamma: float = GAMMA, *, signed: bool = True) -> list[QTarget]:
    """Monte-Carlo estimates of Q: the mean return-to-go over identical (history, action), in order of first visit.

    Args:
        trajectories: Rollouts of the policy whose Q is wanted; several of each task, or every pair is visited once.
        gamma: Discount per step, in ``[0, 1]``.
        signed: Map outcomes to [-1, 1] inside and the mean back to [0, 1], as the paper does.

    Source: arXiv:2502.10325, section 3 (16 rollouts of each task, gamma 0.95).
    """
    return [
        QTarget(trajectory.history(turn), trajectory.steps[turn].action, value, visits)
        for (trajectory, turn), value, visits in _means(trajectories, gamma, signed=signed, with_action=True)
    ]


def by_history(targets: Iterable[QTarget]) -> list[ActionValues]:
    """Q targets gathered by their history, in order of first occurrence."""
    groups: dict[int, list[QTarget]] = {}
    for target in targets:
        groups.setdefault(history_key(target.history), []).append(target)
    return [
        ActionValues(
            history=group[0].history,
            actions=tuple(target.action for target in group),
            values=tuple(target.value for target in group),
            visits=tuple(target.visits for target in group),
        )
        for group in groups.values()
    ]


def v_targets(trajectories: Iterable[Trajectory], gamma: float = GAMMA, *, signed: bool = True) -> list[VTarget]:
    """Monte-Carlo estimates of V: the mean return-to-go over identical histories; arguments as for ``q_targets``."""
    return [
        VTarget(trajectory.history(turn), value, visits)
        for (trajectory, turn), value, visits in _means(trajectories, gamma, signed=signed, with_action=False)
    ]


def _means(
    trajectories: Iterable[Trajectory], gamma: float, *, signed: bool, with_action: bool
) -> Iterator[tuple[tuple[Trajectory, int], float, int]]:
    """First visit, mean return and number of visits of each identity."""
    first: dict[tuple[int, str], tuple[Trajectory, int]] = {}
    returns: dict[tuple[int, str], list[float]] = {}
    for trajectory in trajectories:
        visits = zip(history_keys(trajectory), outcome_returns(trajectory, gamma, signed=signed), strict=True)
        for turn, (key, value) in enumerate(visits):
            identity = (key, trajectory.steps[turn].action.command if with_action else "")
            first.setdefault(identity, (trajectory, turn))
            returns.setdefault(identity, []).append(float(value))
    for identity, visit in first.items():
        mean = sum(returns[identity]) / len(returns[identity])
        yield visit, (mean + 1) / 2 if signed else mean, len(returns[identity])


@dataclass(frozen=True, slots=True)
class Preference:
    """After ``history``, ``chosen`` is worth ``margin`` more than ``rejected``."""

    history: History
    chosen: Action
    rejected: Action
    margin: float


def preference_pairs(targets: Iterable[QTarget], delta: float = PREFERENCE_MARGIN) -> list[Preference]:
    """All pairs of actions after one history whose Q differ by more than ``delta``, better one first.

    Args:
        targets: Q targets; each (history, command) once.
        delta: Smallest difference that counts, at least 0.

    Source: arXiv:2502.10325, section 4 (delta 0.03).
    """
    if delta < 0:
        raise ValueError(f"delta must be at least 0, got {delta}")
    keyed = sorted(((history_key(t.history), number, t) for number, t in enumerate(targets)), key=lambda k: k[:2])
    pairs: list[tuple[int, Preference]] = []
    for _, group in groupby(keyed, key=lambda k: k[0]):
        members = [(number, target) for _, number, target in group]
        pairs += [
            (members[0][0], Preference(better.history, better.action, worse.action, better.value - worse.value))
            for _, better in members
            for _, worse in members
            if better.value > worse.value + delta
        ]
    return [pair for _, pair in sorted(pairs, key=lambda p: p[0])]


@dataclass(frozen=True, eq=False, slots=True)
class ShapedTargets:
    """Shaped returns ``q_N`` and the soft labels made of them, step after step of the trajectories given."""

    q_N: NDArray[np.float64]
    labels_N: NDArray[np.float64]


def shaped_targets(
    trajectories: Sequence[Trajectory],
    value: Callable[[Sequence[History]], NDArray[np.float64]],
    gamma: float = GAMMA,
    *,
    c: float = SHAPING_CONSTANT,
) -> ShapedTargets:
    """Returns shaped by a reference policy's value: ``q = G_t + gamma V(h') - V(h)``, on the last turn ``q = G_t``.

    Args:
        trajectories: Rollouts; ``G`` is the plain return of the outcome, in its units.
        value: V of the reference policy for histories, shape ``(N,)``, in the same units; called once a trajectory.
        gamma: Discount per step, in ``[0, 1]``.
        c: Steepness of the labels, see ``soft_labels``.

    Source: arXiv:2502.10325, section 4 (process reward shaping).
    """
    shaped = []
    for trajectory in trajectories:
        q_S = outcome_returns(trajectory, gamma, signed=False)
        v_S = np.asarray(value([trajectory.history(turn) for turn in range(len(trajectory.steps))]), dtype=np.float64)
        if v_S.shape != q_S.shape:
            raise ValueError(f"value must return one number for each of {len(q_S)} histories, got shape {v_S.shape}")
        q_S[:-1] += gamma * v_S[1:] - v_S[:-1]
        shaped.append(q_S)
    q_N = np.concatenate(shaped) if shaped else np.zeros(0)
    return ShapedTargets(q_N, soft_labels(q_N, c))


def soft_labels(q_N: NDArray[np.float64], c: float = SHAPING_CONSTANT) -> NDArray[np.float64]:
    """``sigmoid(k (q - m))`` with the mean ``m`` and ``k = c / IQR(q)``: labels for binary cross-entropy.

    Raises:
        ValueError: There are no values, or the middle half of them is one value, so that ``k`` is infinite.
    """
    if len(q_N) == 0:
        raise ValueError("no values to make labels of")
    low, high = np.quantile(q_N, [0.25, 0.75])
    # A range that is only rounding would make labels of noise.
    if not high - low > 1e-9:
        raise ValueError(
            f"the middle half of {len(q_N)} values lies at {low:g}, so there is no scale to label them by: collect "
            "rollouts that both win and fail, or use a value function that tells histories apart"
        )
    logits_N = c / (high - low) * (q_N - np.mean(q_N))
    # In this form the exponential never overflows.
    small_N = np.exp(-np.abs(logits_N))
    return np.asarray(np.where(logits_N >= 0, 1, small_N) / (1 + small_N), dtype=np.float64)


def task_split(task_id: str, seed: int = 0, train_share: float = TRAIN_SHARE) -> Split:
    """Which side of the split a task is on: a function of its id and the seed alone, whatever else is in the data.

    A larger ``train_share`` only moves tasks to ``train``.
    """
    if not 0 <= train_share <= 1:
        raise ValueError(f"train_share must be in [0, 1], got {train_share}")
    digest = blake2b(f"{seed}:{task_id}".encode(), digest_size=8).digest()
    return "train" if int.from_bytes(digest, "little") < train_share * 2**64 else "held_out"
