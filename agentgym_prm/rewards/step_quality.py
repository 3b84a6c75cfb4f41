"""How well a scorer tells right steps from wrong ones, by labelled attempts.

Two evaluations: the F1 of first errors as ProcessBench defines it, and accuracy and AUC over single steps, which is
what labels of agents' steps allow. Also baselines, and how scores of steps become one number for an attempt.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.draws import uniform
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.rewards.step_labels import RIGHT, WRONG, StepLabels

THRESHOLD: Final = 0.5
_REDUCTIONS: Final[Mapping[str, Callable[[NDArray[np.float64]], Any]]] = {
    "last": lambda scores_S: scores_S[-1],
    "min": np.min,
    "mean": np.mean,
    "product": np.prod,
}
AGGREGATES: Final = tuple(_REDUCTIONS)


class StepTextScorer(Protocol):
    """Scores each step of an attempt."""

    @property
    def name(self) -> str:
        """What the scorer is called in tables."""

    def step_scores(self, attempts: Sequence[StepLabels]) -> list[NDArray[np.float64]]:
        """How likely each step is right, one array of shape ``(S,)`` for each attempt; labels are not read."""


class FunctionStepScorer:
    """Scores with a plain function of an attempt and the index of a step."""

    def __init__(self, function: Callable[[StepLabels, int], float], name: str) -> None:
        self.name, self._function = name, function

    def step_scores(self, attempts: Sequence[StepLabels]) -> list[NDArray[np.float64]]:
        return [
            np.array([self._function(each, step) for step in range(len(each.steps))], dtype=np.float64)
            for each in attempts
        ]


def _drawn(attempt: StepLabels, step: int) -> float:
    text = "\0".join((attempt.input, *attempt.steps[: step + 1]))
    return uniform(zlib.crc32(text.encode("utf-8", "surrogatepass")))


BASELINES: Final = {
    "correct": FunctionStepScorer(lambda attempt, step: 1.0, "correct"),
    "length": FunctionStepScorer(lambda attempt, step: 1 / (1 + len(attempt.steps[step]) / 100), "length"),
    "random": FunctionStepScorer(_drawn, "random"),
}
"""What a scorer has to beat: every step is right; long steps are wrong (one half at 100 characters); a draw."""


def aggregate(scores_S: NDArray[np.float64], how: str) -> float:
    """One number for an attempt from the scores of its steps, by one of ``AGGREGATES``.

    Raises:
        ValueError: There are no steps.
        UnknownNameError: There is no such way.

    >>> aggregate(np.array([0.5, 0.25, 1.0]), "product")
    0.125
    """
    if how not in AGGREGATES:
        raise UnknownNameError.of("aggregate", how, AGGREGATES)
    if not len(scores_S):
        raise ValueError("an attempt without steps has no score")
    return float(_REDUCTIONS[how](scores_S))


def aggregated(scorer: StepTextScorer, how: str) -> Callable[[Sequence[StepLabels]], NDArray[np.float64]]:
    """The scorer as a judge of whole attempts: their scores, shape ``(N,)``."""
    if how not in AGGREGATES:
        raise UnknownNameError.of("aggregate", how, AGGREGATES)

    def judge(attempts: Sequence[StepLabels]) -> NDArray[np.float64]:
        return np.array([aggregate(scores_S, how) for scores_S in scorer.step_scores(attempts)], dtype=np.float64)

    return judge


# --- evaluation ---


@dataclass(frozen=True, slots=True)
class FirstErrorF1:
    """How well first errors are found.

    Attributes:
        error_accuracy: Share of the attempts with an error whose first wrong step is found exactly, in [0, 1].
        correct_accuracy: Share of the attempts without an error in which none is found, in [0, 1].
        f1: Harmonic mean of the two; 0 if both are 0.
        errors: Attempts with an error.
        correct: Attempts without one.
    """

    error_accuracy: float
    correct_accuracy: float
    f1: float
    errors: int
    correct: int


def first_error(scores_S: NDArray[np.float64], threshold: float = THRESHOLD) -> int:
    """Index of the first step that scores below ``threshold``; -1 if none does."""
    below = np.flatnonzero(scores_S < threshold)
    return int(below[0]) if len(below) else -1


def first_error_f1(predictions: Sequence[int | None], labels: Sequence[int]) -> FirstErrorF1:
    """ProcessBench's measure: the harmonic mean of the accuracies on attempts with and without an error.

    Args:
        predictions: Index of the first wrong step of each attempt, -1 for none; ``None`` (no answer) is never right.
        labels: The same as people found it.

    Raises:
        ValueError: There are no attempts with an error, or none without, so the measure is not defined.

    Source: arXiv:2412.06559, section 4, and the benchmark's ``run_eval.py``, which gives percentages, and ``nan`` where
    no prediction is right.

    >>> first_error_f1([1, 0, -1, -1], [1, 2, -1, -1]).f1
    0.6666666666666666
    """
    matches = {True: [], False: []}  # type: dict[bool, list[bool]]
    for prediction, label in zip(predictions, labels, strict=True):
        matches[label != -1].append(prediction == label)
    if not matches[True] or not matches[False]:
        raise ValueError(
            f"first-error F1 needs attempts with and without an error, got {len(matches[True])} with and "
            f"{len(matches[False])} without"
        )
    wrong, right = (sum(found) / len(found) for found in (matches[True], matches[False]))
    f1 = 2 * wrong * right / (wrong + right) if wrong + right else 0.0
    return FirstErrorF1(wrong, right, f1, len(matches[True]), len(matches[False]))


def best_threshold(scores: Sequence[NDArray[np.float64]], labels: Sequence[int]) -> float:
    """The threshold with the highest first-error F1; of several the one nearest to one half.

    ProcessBench chooses it on its gsm8k part and keeps it for the others.

    Args:
        scores: Scores of the steps of each attempt.
        labels: Index of its first wrong step, -1 for none.

    Raises:
        ValueError: As for ``first_error_f1``.
    """
    first_error_f1(labels, labels)
    # Between two neighbouring scores all thresholds find the same.
    values_N = np.unique(np.concatenate(scores))
    candidates = [THRESHOLD, *((values_N[1:] + values_N[:-1]) / 2), values_N[0], np.nextafter(values_N[-1], np.inf)]
    lowest_S = [np.minimum.accumulate(scores_S) for scores_S in scores]

    def quality(threshold: float) -> tuple[float, float]:
        # Falling, so the first below is where bisection says.
        found = [int(np.searchsorted(-each, -threshold, "right")) for each in lowest_S]
        predictions = [-1 if place == len(each) else place for place, each in zip(found, lowest_S, strict=True)]
        return first_error_f1(predictions, labels).f1, -abs(threshold - THRESHOLD)

    return float(max(candidates, key=quality))


@dataclass(frozen=True, slots=True)
class StepAccuracy:
    """How well single steps are told apart; neutral ones and those that nobody judged do not count.

    Attributes:
        accuracy: Share of the steps on the right side of the threshold: right ones at or above it, wrong ones below.
        auc: Share of the pairs of a right and a wrong step that the scores order rightly, equal scores one half;
            ``None`` without such a pair.
        right: Right steps.
        wrong: Wrong steps.
    """

    accuracy: float
    auc: float | None
    right: int
    wrong: int


def step_accuracy(
    scores: Sequence[NDArray[np.float64]], attempts: Sequence[StepLabels], threshold: float = THRESHOLD
) -> StepAccuracy:
    """Accuracy and AUC over all judged steps of all attempts.

    Raises:
        ValueError: No step is right or wrong.
    """
    sides: dict[int | None, list[float]] = {RIGHT: [], WRONG: []}
    for scores_S, attempt in zip(scores, attempts, strict=True):
        for score, label in zip(scores_S.tolist(), attempt.labels, strict=True):
            if label in sides:
                sides[label].append(score)
    right_N, wrong_N = np.array(sides[RIGHT]), np.array(sides[WRONG])
    count = len(right_N) + len(wrong_N)
    if not count:
        raise ValueError(
            f"no step of {len(attempts)} attempts is labelled right or wrong: there is nothing to judge by"
        )
    hits = int((right_N >= threshold).sum() + (wrong_N < threshold).sum())
    return StepAccuracy(hits / count, area_under_curve(right_N, wrong_N), len(right_N), len(wrong_N))


def area_under_curve(right_N: NDArray[np.float64], wrong_N: NDArray[np.float64]) -> float | None:
    """Share of the pairs that the scores order rightly, equal ones one half; ``None`` if there are none."""
    if not len(right_N) or not len(wrong_N):
        return None
    ordered_N = np.sort(wrong_N)
    below = np.searchsorted(ordered_N, right_N, "left").sum()
    up_to = np.searchsorted(ordered_N, right_N, "right").sum()
    return float((below + up_to) / 2 / (len(right_N) * len(wrong_N)))


@dataclass(frozen=True, slots=True)
class StepEvaluation:
    """What a scorer makes of labelled attempts."""

    threshold: float
    """Below it a step counts as wrong."""
    steps: StepAccuracy
    """Over single steps."""
    first_errors: FirstErrorF1 | None
    """Over the attempts whose first error is known; ``None`` without those that have one and those that have none."""


def evaluate_steps(
    scorer: StepTextScorer, attempts: Sequence[StepLabels], *, threshold: float = THRESHOLD
) -> StepEvaluation:
    """Judge a scorer by labelled attempts.

    Raises:
        ValueError: No step is labelled right or wrong.
    """
    scores = scorer.step_scores(attempts)
    known = [(first_error(s, threshold), a.first_error) for s, a in zip(scores, attempts, strict=True)]
    pairs = [(found, label) for found, label in known if label is not None]
    labels = [label for _, label in pairs]
    both = -1 in labels and any(label >= 0 for label in labels)
    return StepEvaluation(
        threshold,
        step_accuracy(scores, attempts, threshold),
        first_error_f1([found for found, _ in pairs], labels) if both else None,
    )
