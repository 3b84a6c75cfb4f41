import numpy as np
import pytest

from agentgym_prm.errors import UnknownNameError
from agentgym_prm.rewards.step_labels import StepLabels, read_step_labels
from agentgym_prm.rewards.step_quality import (
    BASELINES,
    FunctionStepScorer,
    aggregate,
    aggregated,
    best_threshold,
    evaluate_steps,
    first_error,
    first_error_f1,
    step_accuracy,
)


def test_first_errors_are_judged_as_processbench_does():
    # With an error: 1 and 0 of 1, 2, 0 are found, 2/3. Without: one of two. 2 * 2/3 * 1/2 / (2/3 + 1/2) = 4/7.
    report = first_error_f1([1, -1, 0, -1, 3], [1, 2, 0, -1, -1])
    assert (report.errors, report.correct) == (3, 2)
    assert report.error_accuracy == pytest.approx(2 / 3)
    assert report.correct_accuracy == 0.5
    assert report.f1 == pytest.approx(4 / 7)


def test_no_answer_is_wrong_also_where_there_is_no_error():
    report = first_error_f1([None, 1], [-1, 1])
    assert (report.error_accuracy, report.correct_accuracy, report.f1) == (1.0, 0.0, 0.0)


def test_first_error_f1_needs_both_kinds():
    with pytest.raises(ValueError, match="got 2 with and 0 without"):
        first_error_f1([1, 1], [1, 0])


def test_the_first_error_is_the_first_step_below_the_threshold():
    assert first_error(np.array([0.9, 0.5, 0.4, 0.1])) == 2
    assert first_error(np.array([0.9, 0.5]), 0.5) == -1
    assert first_error(np.array([0.9, 0.5]), 0.6) == 1


def test_the_best_threshold_is_as_good_as_any():
    rng = np.random.default_rng(0)
    scores = [rng.random(int(rng.integers(1, 6))).round(2) for _ in range(40)]
    labels = [int(rng.integers(-1, len(each))) for each in scores]
    found = best_threshold(scores, labels)

    def quality(threshold):
        return first_error_f1([first_error(each, threshold) for each in scores], labels).f1

    assert quality(found) == max(quality(threshold) for threshold in np.linspace(-0.001, 1.01, 2000))


def test_a_threshold_is_chosen_by_attempts_of_both_kinds():
    with pytest.raises(ValueError, match="got 0 with and 0 without"):
        best_threshold([], [])
    with pytest.raises(ValueError, match="got 1 with and 0 without"):
        best_threshold([np.array([0.5])], [0])


def test_steps_are_told_apart_by_accuracy_and_auc():
    attempts = [StepLabels("p", ("a", "b", "c"), (1, -1, None)), StepLabels("p", ("a", "b", "c"), (1, 0, -1))]
    scores = [np.array([0.9, 0.6, 0.0]), np.array([0.6, 0.0, 0.1])]
    # Right: .9, .6; wrong: .6, .1. At .5: 2 + 1 of 4. Pairs: .9>.6, .9>.1, .6=.6 (half), .6>.1: 3.5 of 4.
    report = step_accuracy(scores, attempts)
    assert (report.accuracy, report.auc, report.right, report.wrong) == (0.75, 0.875, 2, 2)
    assert step_accuracy([np.array([0.9])], [StepLabels("p", ("a",), (1,))]).auc is None
    with pytest.raises(ValueError, match="no step of 1 attempts is labelled right or wrong"):
        step_accuracy([np.array([0.9])], [StepLabels("p", ("a",), (0,))])


def test_scores_of_steps_become_one_number():
    scores = np.array([0.5, 0.25, 1.0])
    values = {how: aggregate(scores, how) for how in ("last", "min", "mean", "product")}
    assert values == {"last": 1.0, "min": 0.25, "mean": pytest.approx(1.75 / 3), "product": 0.125}
    with pytest.raises(UnknownNameError, match="did you mean 'mean'"):
        aggregate(scores, "meen")
    with pytest.raises(ValueError, match="without steps"):
        aggregate(np.array([]), "min")
    judge = aggregated(FunctionStepScorer(lambda attempt, step: step / 2, "rising"), "mean")
    np.testing.assert_array_equal(judge([StepLabels("p", ("a",)), StepLabels("p", ("a", "b", "c"))]), [0.0, 0.5])


def test_a_scorer_that_knows_the_labels_is_perfect_and_its_inverse_is_not():
    attempts = [StepLabels("p", ("a", "b"), (1, -1)), StepLabels("p", ("a", "b"), (1, 1))]
    known = FunctionStepScorer(lambda attempt, step: float(attempt.labels[step] == 1), "known")
    found = evaluate_steps(known, attempts)
    assert (found.steps.accuracy, found.steps.auc, found.first_errors.f1) == (1.0, 1.0, 1.0)
    inverse = FunctionStepScorer(lambda attempt, step: float(attempt.labels[step] != 1), "inverse")
    found = evaluate_steps(inverse, attempts)
    assert (found.steps.accuracy, found.steps.auc, found.first_errors.f1) == (0.0, 0.0, 0.0)


def test_first_errors_are_judged_only_where_they_are_known():
    attempts = [StepLabels("p", ("a", "b"), (None, -1)), StepLabels("p", ("a",), (1,))]
    assert evaluate_steps(BASELINES["correct"], attempts).first_errors is None


# --- real files ---


@pytest.mark.parametrize(
    ("name", "baseline", "threshold", "printed"),
    [
        ("gsm8k", "length", 0.27, "28.5 49.7 36.2"),
        ("gsm8k", "random", 0.5, "24.6 3.6 6.3"),
        ("math", "length", 0.5, "19.2 1.0 1.9"),
    ],
)
def test_f1_on_processbench_is_what_its_own_script_prints(labels_folder, name, baseline, threshold, printed):
    """Recorded from the benchmark's ``run_eval.py``, given these predictions as its model's answers."""
    attempts = read_step_labels(labels_folder / f"processbench_{name}.jsonl.gz")
    found = evaluate_steps(BASELINES[baseline], attempts, threshold=threshold).first_errors
    shares = (found.error_accuracy, found.correct_accuracy, found.f1)
    assert " ".join(f"{100 * share:.1f}" for share in shares) == printed


def test_that_every_step_is_right_holds_as_often_as_people_said_so(labels_folder):
    found = evaluate_steps(
        BASELINES["correct"], read_step_labels(labels_folder / "agentprocessbench_hotpotqa.jsonl.gz")
    )
    assert found.steps.accuracy == pytest.approx(301 / 413)
    assert found.steps.auc == 0.5
