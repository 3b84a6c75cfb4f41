"""How good a step scorer is: its scores against reference Q values of held-out histories.

What a scorer is for decides the figure to read. Best-of-N needs the order of the actions after one history: pairwise
accuracy, top-1 with its regret, the AUC and the rank correlation within histories. Filtering steps across histories
needs pooled figures, which a scorer can also reach by knowing which *histories* are good. Rewards need calibration.

Actions whose reference values differ by at most ``delta`` count as equally good, as they do in the preferences that
reward models are trained on (arXiv:2502.10325, section 4, delta 0.03). The paper judges its reward models by the
policies trained with them only; all figures here are this package's.

Not in here: the noise of the reference values themselves, beyond leaving pairs out (``standard_errors``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.errors import needs_extra
from agentgym_prm.rewards.core import StepScorer
from agentgym_prm.rewards.targets import PREFERENCE_MARGIN, TRAIN_SHARE, ActionValues, task_split

BINS: Final = 10
BOOTSTRAP_DRAWS: Final = 1000
STANDARD_ERRORS: Final = 2.0
"""A pair counts if its values differ by more than so many standard errors of the difference, where those are given."""
_SMALLEST_PROBABILITY: Final = 1e-7


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs of history and action whose score lies in ``[low, high)``; the last bin includes 1."""

    low: float
    high: float
    count: int
    mean_score: float
    mean_target: float


@dataclass(frozen=True, slots=True)
class Decile:
    """A tenth of all pairs by rank of their score; 10 is the best. Equal scores are never torn apart."""

    decile: int
    count: int
    mean_score: float
    mean_target: float


@dataclass(frozen=True, slots=True)
class Quality:
    """Scores against reference values.

    Attributes:
        pairwise_accuracy: Share of the pairs of actions after one history that the scores order as the values do; equal
            scores count one half. A pair is two actions whose values differ by more than ``delta``.
        pairwise_low: Lower end of its 95 % interval: percentiles of a bootstrap over tasks, too narrow for few tasks.
        pairwise_high: Upper end.
        pairs: How many pairs.
        histories: Histories with at least one pair.
        tasks: Tasks with at least one pair.
        top1: Share of those histories whose best-scored action is worth the best up to ``delta``; the first of equals.
        regret: Mean over those histories of the best value minus that of the best-scored action.
        auc: Share of pairs of a good and a bad action *after the same history* that the scores order rightly, equal
            scores one half. Good is worth the history's best up to ``delta``, bad is the rest.
        pooled_auc: Area under the ROC curve of good against bad actions over all histories together.
        rank_correlation: Spearman's, over all actions of all histories; 0 if all scores are equal.
        within_rank_correlation: Mean of Spearman's within each history whose values are not all equal; a history where
            the scores are all equal counts as 0.
        calibration_error: Mean over all actions of the gap between mean score and mean value of the action's bin
            (expected calibration error); like the following three ``None`` unless all scores lie in [0, 1].
        loss: Mean binary cross-entropy with the values as soft targets; scores are kept 1e-7 off 0 and 1.
        squared_error: Mean squared difference of score and value.
        bins: Ten of equal width over [0, 1]; empty ones are left out.
        deciles: Ten of equal count, as far as equal scores allow; empty ones are left out.
    """

    pairwise_accuracy: float
    pairwise_low: float
    pairwise_high: float
    pairs: int
    histories: int
    tasks: int
    top1: float
    regret: float
    auc: float
    pooled_auc: float
    rank_correlation: float
    within_rank_correlation: float
    calibration_error: float | None
    loss: float | None
    squared_error: float | None
    bins: tuple[Bin, ...] | None
    deciles: tuple[Decile, ...]

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        bins = None if self.bins is None else [asdict(each) for each in self.bins]
        return {**asdict(self), "bins": bins, "deciles": [asdict(each) for each in self.deciles]}

    def __str__(self) -> str:
        lines = [
            f"pairwise accuracy  {self.pairwise_accuracy:.3f} [{self.pairwise_low:.3f}, {self.pairwise_high:.3f}] of "
            f"{self.pairs} pairs, {self.histories} histories, {self.tasks} tasks",
            f"top-1              {self.top1:.3f}, regret {self.regret:.4f}",
            f"AUC                {self.auc:.3f}, pooled {self.pooled_auc:.3f}",
            f"rank correlation   {self.within_rank_correlation:.3f}, pooled {self.rank_correlation:.3f}",
        ]
        if self.bins is not None:
            lines.append(
                f"calibration error  {self.calibration_error:.4f}, loss {self.loss:.4f}, "
                f"squared error {self.squared_error:.4f}"
            )
            lines += _table("score", [(f"{each.low:.1f} to {each.high:.1f}", each) for each in self.bins])
        lines += _table("decile", [(str(each.decile), each) for each in self.deciles])
        return "\n".join(lines)


def _table(heading: str, rows: Iterable[tuple[str, Bin | Decile]]) -> list[str]:
    lines = ["", f"{heading:<12}{'count':>8}{'mean score':>12}{'mean value':>12}"]
    return lines + [f"{name:<12}{row.count:>8}{row.mean_score:>12.4f}{row.mean_target:>12.4f}" for name, row in rows]


def quality_table(qualities: Mapping[str, Quality]) -> str:
    """One line a scorer, by the names given; "within" is the rank correlation within histories."""
    width = max([len("scorer"), *map(len, qualities)]) + 2
    headings = ("pairwise", "95 % interval", "top-1", "regret", "AUC", "pooled", "within", "ECE", "loss")
    lines = [f"{'scorer':<{width}}" + _row(headings)]
    for name, quality in qualities.items():
        error, loss = ("-" if each is None else f"{each:.3f}" for each in (quality.calibration_error, quality.loss))
        cells = (
            f"{quality.pairwise_accuracy:.3f}",
            f"[{quality.pairwise_low:.3f}, {quality.pairwise_high:.3f}]",
            f"{quality.top1:.3f}",
            f"{quality.regret:.4f}",
            f"{quality.auc:.3f}",
            f"{quality.pooled_auc:.3f}",
            f"{quality.within_rank_correlation:.3f}",
            error,
            loss,
        )
        lines.append(f"{name:<{width}}" + _row(cells))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"{cells[0]:>8}{cells[1]:>16}" + "".join(f"{cell:>8}" for cell in cells[2:])


def split_groups(
    groups: Iterable[ActionValues], seed: int = 0, train_share: float = TRAIN_SHARE
) -> tuple[list[ActionValues], list[ActionValues]]:
    """Groups to train on and groups to judge on, by ``targets.task_split``: no task is on both sides."""
    train: list[ActionValues] = []
    held_out: list[ActionValues] = []
    for group in groups:
        (train if task_split(group.history.task_id, seed, train_share) == "train" else held_out).append(group)
    return train, held_out


def judge(
    scorer: StepScorer,
    groups: Sequence[ActionValues],
    *,
    delta: float = PREFERENCE_MARGIN,
    standard_errors: Sequence[Sequence[float]] | None = None,
    seed: int = 0,
) -> Quality:
    """Judge a scorer on histories that it was not trained on, with one call of ``score``.

    Args:
        scorer: What is judged.
        groups: Actions after held-out histories (see ``split_groups``) with their reference values in [0, 1].
        delta: Largest difference of values that counts as none, at least 0.
        standard_errors: Those of the values, group by group as ``branch_q`` gives them. Pairs that differ by no more
            than twice the standard error of their difference are then left out too; other figures stay the same.
        seed: Of the bootstrap.

    Raises:
        ValueError: There is no pair to judge by, a value, standard error or ``delta`` is out of range, or the scorer
            gave another number of scores or one that is not finite.
    """
    if delta < 0:
        raise ValueError(f"delta must be at least 0, got {delta}")
    scores, values = _scores(scorer, groups), _values(groups)
    better = _better(values, delta, standard_errors)
    judged = [number for number, better_N_N in enumerate(better) if better_N_N.any()]
    if not judged:
        raise ValueError(
            f"no two actions after one of {len(groups)} histories differ in value by more than delta={delta}"
            f"{'' if standard_errors is None else ' and their standard errors'}: there is nothing to judge by"
        )
    orders = [_order(scores[number], better[number]) for number in judged]
    tasks = [groups[number].history.task_id or groups[number].history.task for number in judged]
    low, high = _interval(tasks, orders, seed)
    good = [value_N + delta >= value_N.max() for value_N in values]
    regrets = [values[number].max() - values[number][scores[number].argmax()] for number in judged]
    scores_N, values_N = np.concatenate(scores), np.concatenate(values)
    with needs_extra("train"):
        from sklearn.metrics import roc_auc_score
    return Quality(
        pairwise_accuracy=_share(orders),
        pairwise_low=low,
        pairwise_high=high,
        pairs=sum(count for _, count in orders),
        histories=len(judged),
        tasks=len(set(tasks)),
        top1=float(np.mean([good[number][scores[number].argmax()] for number in judged])),
        regret=float(np.mean(regrets)),
        auc=_share(_order(score_N, np.outer(good_N, ~good_N)) for score_N, good_N in zip(scores, good, strict=True)),
        pooled_auc=float(roc_auc_score(np.concatenate(good), scores_N)),
        rank_correlation=_rank_correlation(scores_N, values_N),
        within_rank_correlation=_within_rank_correlation(scores, values),
        deciles=_deciles(scores_N, values_N),
        **_calibration(scores_N, values_N),
    )


def _scores(scorer: StepScorer, groups: Sequence[ActionValues]) -> list[NDArray[np.float64]]:
    """One array a group."""
    histories = [group.history for group in groups for _ in group.actions]
    scores_N = scorer.score(histories, [action for group in groups for action in group.actions])
    if np.shape(scores_N) != (len(histories),):
        raise ValueError(f"scorer {scorer.name!r} gave shape {np.shape(scores_N)} for {len(histories)} pairs")
    if not np.isfinite(scores_N).all():
        wrong = int(np.flatnonzero(~np.isfinite(scores_N))[0])
        raise ValueError(f"scores must be finite, scorer {scorer.name!r} gave {scores_N[wrong]} for pair {wrong}")
    return np.split(scores_N, np.cumsum([len(group.actions) for group in groups])[:-1])


def _values(groups: Sequence[ActionValues]) -> list[NDArray[np.float64]]:
    values = [np.array(group.values, dtype=np.float64) for group in groups]
    for group, value_N in zip(groups, values, strict=True):
        if len(value_N) != len(group.actions):
            raise ValueError(f"{len(group.actions)} actions need as many values, got {len(value_N)}")
        # Written so that NaN is refused.
        if not ((value_N >= 0) & (value_N <= 1)).all():
            raise ValueError(f"values must be in [0, 1], got {group.values} in {group.history.task_id!r}")
    return values


def _better(
    values: Sequence[NDArray[np.float64]], delta: float, standard_errors: Sequence[Sequence[float]] | None
) -> list[NDArray[np.bool_]]:
    """For each history, whether the row's action is worth more than the column's."""
    better = [value_N[:, None] > value_N + delta for value_N in values]
    if standard_errors is None:
        return better
    for value_N, better_N_N, errors in zip(values, better, standard_errors, strict=True):
        error_N = np.array(errors, dtype=np.float64)
        if error_N.shape != value_N.shape or not (error_N >= 0).all():
            raise ValueError(
                f"each of {len(value_N)} values needs a standard error of at least 0, got {error_N} (one continuation "
                "alone has none: estimate with n >= 2)"
            )
        better_N_N &= value_N[:, None] - value_N > STANDARD_ERRORS * np.hypot(error_N[:, None], error_N)
    return better


def _order(score_N: NDArray[np.float64], better_N_N: NDArray[np.bool_]) -> tuple[float, int]:
    """How many pairs the scores order rightly, equal scores one half, of how many."""
    rows, columns = np.nonzero(better_N_N)
    gaps = score_N[rows] - score_N[columns]
    return float((gaps > 0).sum() + (gaps == 0).sum() / 2), len(rows)


def _share(orders: Iterable[tuple[float, int]]) -> float:
    right, count = np.sum(list(orders), axis=0)
    return float(right / count)


def _interval(tasks: Sequence[str], orders: Sequence[tuple[float, int]], seed: int) -> tuple[float, float]:
    names, places = np.unique(tasks, return_inverse=True)
    right_T, count_T = (np.bincount(places, [order[part] for order in orders]) for part in (0, 1))
    # How often each task is drawn says as much as which.
    drawn_D_T = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), BOOTSTRAP_DRAWS
    )
    low, high = np.quantile((drawn_D_T @ right_T) / (drawn_D_T @ count_T), [0.025, 0.975])
    return float(low), float(high)


def _rank_correlation(score_N: NDArray[np.float64], value_N: NDArray[np.float64]) -> float:
    """Spearman's; the values are not all equal."""
    if np.ptp(score_N) == 0:
        return 0.0
    with needs_extra("train"):
        from scipy.stats import spearmanr
    return float(spearmanr(score_N, value_N).statistic)


def _within_rank_correlation(scores: Sequence[NDArray[np.float64]], values: Sequence[NDArray[np.float64]]) -> float:
    varied = [(score_N, value_N) for score_N, value_N in zip(scores, values, strict=True) if np.ptp(value_N) > 0]
    return float(np.mean([_rank_correlation(score_N, value_N) for score_N, value_N in varied]))


def _deciles(scores_N: NDArray[np.float64], values_N: NDArray[np.float64]) -> tuple[Decile, ...]:
    with needs_extra("train"):
        from scipy.stats import rankdata
    # Ranks are half numbers from 1 on, and equal scores share one: in the middle of its rank, none lies on an edge.
    deciles_N = np.floor(10 * (rankdata(scores_N) - 0.5) / len(scores_N)).astype(np.intp)
    return tuple(
        Decile(int(number) + 1, int(here_N.sum()), float(scores_N[here_N].mean()), float(values_N[here_N].mean()))
        for number in np.unique(deciles_N)
        for here_N in [deciles_N == number]
    )


def _calibration(scores_N: NDArray[np.float64], values_N: NDArray[np.float64]) -> dict[str, Any]:
    if scores_N.min() < 0 or scores_N.max() > 1:
        return {"calibration_error": None, "loss": None, "squared_error": None, "bins": None}
    # Quotients, because linspace has 0.30000000000000004, which would put a score of 0.3 one bin too low.
    edges = np.arange(BINS + 1) / BINS
    numbers_N = np.searchsorted(edges[1:-1], scores_N, side="right")
    bins = tuple(
        Bin(float(low), float(high), int(here_N.sum()), float(scores_N[here_N].mean()), float(values_N[here_N].mean()))
        for number, (low, high) in enumerate(pairwise(edges))
        for here_N in [numbers_N == number]
        if here_N.any()
    )
    kept_N = np.clip(scores_N, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    return {
        "calibration_error": sum(each.count * abs(each.mean_score - each.mean_target) for each in bins) / len(scores_N),
        "loss": float(-np.mean(values_N * np.log(kept_N) + (1 - values_N) * np.log1p(-kept_N))),
        "squared_error": float(np.mean((scores_N - values_N) ** 2)),
        "bins": bins,
    }
