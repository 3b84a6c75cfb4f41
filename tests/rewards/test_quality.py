import json

import numpy as np
import pytest

from agentgym_prm import FunctionScorer, RandomScorer
from agentgym_prm.rewards.quality import judge, quality_table, split_groups
from agentgym_prm.rewards.targets import ActionValues, task_split
from agentgym_prm.types import Action, History


def group(values: str, scores: str, task: str = "t") -> ActionValues:
    """One action for each value; its score is written into the command."""
    commands = [f"{number} {score}" for number, score in enumerate(scores.split())]
    numbers = tuple(float(value) for value in values.split())
    return ActionValues(
        History(task, f"{values}; {scores}", task_id=task), tuple(map(Action, commands)), numbers, (1,) * len(numbers)
    )


WRITTEN = FunctionScorer(lambda history, action: float(action.command.split()[1]), "written")

# Values three apart, scores in the order 1, 3, 2; a tie at the top that the worse action leads; and no pair at all.
GROUPS = [
    group("1.0 0.6 0.2", "0.9 0.1 0.5", "a"),
    group("0.5 1.0 0.5", "0.8 0.8 0.15", "b"),
    group("0.40 0.42", "0.3 0.6", "c"),
]


def random_groups(count: int, seed: int = 0, actions: int = 3) -> list[ActionValues]:
    rng = np.random.default_rng(seed)
    return [
        group(
            " ".join(map(str, rng.random(actions).round(2))),
            " ".join(map(str, rng.random(actions).round(2))),
            f"task {number // 4}",
        )
        for number in range(count)
    ]


# --- each figure by hand ---


def test_pairs_are_counted_within_histories_and_ties_count_one_half():
    quality = judge(WRITTEN, GROUPS)
    # a: 1.0 > 0.6 right, 1.0 > 0.2 right, 0.6 > 0.2 wrong. b: a tie and one right. c: 0.02 is no difference.
    assert (quality.pairs, quality.histories, quality.tasks) == (5, 2, 2)
    assert quality.pairwise_accuracy == pytest.approx(3.5 / 5)


def test_only_differences_of_more_than_delta_are_pairs():
    assert judge(WRITTEN, GROUPS, delta=0.4).pairs == 3
    assert judge(WRITTEN, GROUPS, delta=0.0).pairs == 6
    # Exactly as much is not more: 0.5 and 0.25 are exact in binary.
    assert judge(WRITTEN, [group("0.25 0.5 1", "0 0 0")], delta=0.25).pairs == 2


def test_top1_and_regret_take_the_first_of_the_best_scored():
    quality = judge(WRITTEN, GROUPS)
    # a chooses 1.0; b chooses 0.5 although 1.0 has the same score; c has no pair and does not count.
    assert quality.top1 == 0.5
    assert quality.regret == 0.25
    # Within delta of the best is good enough, but what is lost counts as regret.
    close = judge(WRITTEN, [group("0.98 1.0 0.5", "0.9 0.8 0.1")])
    assert close.top1 == 1
    assert close.regret == pytest.approx(0.02)


def test_auc_compares_good_and_bad_actions_of_one_history():
    quality = judge(WRITTEN, GROUPS)
    # a: 1.0 is good and beats both bad ones. b: a tie and a win. c: both are good. The pair 0.6 > 0.2 is bad and bad.
    assert quality.auc == pytest.approx(3.5 / 4)
    # Good scores 0.9, 0.8, 0.3, 0.6 against bad 0.1, 0.5, 0.8, 0.15: wins 4, 3.5, 2, 3.
    assert quality.pooled_auc == pytest.approx(12.5 / 16)


def test_pooled_auc_sees_differences_between_histories_that_auc_does_not():
    # All orders within histories are right, but the second history's scores are all higher.
    groups = [group("0.9 0.1", "0.2 0.1"), group("0.9 0.1", "0.9 0.8")]
    quality = judge(WRITTEN, groups)
    assert quality.auc == 1
    # 0.2 beats 0.1 only; 0.9 beats both.
    assert quality.pooled_auc == 0.75


def test_rank_correlations_by_hand():
    quality = judge(WRITTEN, GROUPS)
    # a: rank differences 0, 1, 1, so 1 - 6 * 2 / (3 * 8) = 0.5. b: ranks 1.5, 3, 1.5 and 2.5, 2.5, 1 have covariance
    # 0.75 and variances 1.5 and 1.5, so 0.5. c: 1.
    assert quality.within_rank_correlation == pytest.approx((0.5 + 0.5 + 1) / 3)
    # Pooled without ties: values 1, 2, 4, 3 and scores 1, 4, 3, 2: 1 - 6 * (0 + 4 + 1 + 1) / (4 * 15) = 0.4.
    pooled = judge(WRITTEN, [group("0.1 0.2", "0.1 0.7"), group("0.4 0.3", "0.5 0.2")])
    assert pooled.rank_correlation == pytest.approx(0.4)


def test_histories_without_different_values_are_skipped_and_without_different_scores_count_as_zero():
    right = group("0.1 0.9", "0.1 0.9")
    assert judge(WRITTEN, [right, group("0.5 0.5", "0.1 0.2")]).within_rank_correlation == pytest.approx(1)
    assert judge(WRITTEN, [right, group("0.1 0.9", "0.5 0.5")]).within_rank_correlation == pytest.approx(0.5)


def test_calibration_by_hand():
    # Bins: 0.1 is the first edge above 0, 0.3 belongs to the bin that it starts, 1.0 to the last.
    quality = judge(WRITTEN, [group("0.0 0.5 1.0 0.5", "0.05 0.3 1.0 0.35")])
    bins = [(each.low, each.count, each.mean_score, each.mean_target) for each in quality.bins]
    expected = [(0.0, 1, 0.05, 0.0), (0.3, 2, 0.325, 0.5), (0.9, 1, 1.0, 1.0)]
    assert np.array(bins) == pytest.approx(np.array(expected))
    # (0.05 + 2 * 0.175 + 0) / 4
    assert quality.calibration_error == pytest.approx(0.1)
    # (0.0025 + 0.04 + 0 + 0.0225) / 4
    assert quality.squared_error == pytest.approx(0.01625)
    # -(log 0.95 + (log 0.3 + log 0.7) / 2 + log 1 + (log 0.35 + log 0.65) / 2) / 4
    assert quality.loss == pytest.approx((0.0512933 + 0.7803239 + 0 + 0.7403025) / 4, abs=1e-6)


def test_confident_mistakes_have_a_finite_loss():
    # -log(1e-7) for each.
    assert judge(WRITTEN, [group("0 1", "1 0")]).loss == pytest.approx(16.118, abs=1e-3)


@pytest.mark.parametrize("scores", ["0.5 1.01", "-0.01 0.5"])
def test_scores_outside_the_unit_interval_have_no_calibration(scores):
    quality = judge(WRITTEN, [group("0.1 0.9", scores)])
    assert quality.calibration_error is quality.loss is quality.squared_error is quality.bins is None
    assert len(quality.deciles) == 2


def test_deciles_hold_equal_counts_and_the_mean_value_by_rank_of_score():
    values, scores = np.linspace(0, 1, 40), np.linspace(-3, 5, 40)
    quality = judge(WRITTEN, [group(" ".join(map(str, values)), " ".join(map(str, scores)))])
    assert [(each.decile, each.count) for each in quality.deciles] == [(number, 4) for number in range(1, 11)]
    assert quality.deciles[9].mean_target == pytest.approx(values[36:].mean())
    assert quality.deciles[0].mean_score == pytest.approx(scores[:4].mean())


def test_equal_scores_share_a_decile():
    # Ranks 1, 3, 3, 3, 5 of 5: tenths (0.5, 2.5, 4.5) / 5, so deciles 2, 6 and 10.
    quality = judge(WRITTEN, [group("0.1 0.2 0.3 0.4 0.9", "0 0.5 0.5 0.5 1")])
    assert [(each.decile, each.count) for each in quality.deciles] == [(2, 1), (6, 3), (10, 1)]
    assert quality.deciles[1].mean_target == pytest.approx(0.3)


# --- limits ---


def test_the_values_themselves_are_a_perfect_scorer_and_their_negation_the_worst():
    groups = random_groups(40)
    values = {
        (each.history, action.command): value
        for each in groups
        for action, value in zip(each.actions, each.values, strict=True)
    }
    perfect = judge(FunctionScorer(lambda history, action: values[history, action.command]), groups)
    assert (perfect.pairwise_accuracy, perfect.pairwise_low, perfect.pairwise_high) == (1, 1, 1)
    assert (perfect.top1, perfect.regret, perfect.auc) == (1, 0, 1)
    assert perfect.rank_correlation == pytest.approx(1)
    assert perfect.within_rank_correlation == pytest.approx(1)
    assert perfect.calibration_error == pytest.approx(0, abs=1e-12)
    assert perfect.squared_error == 0
    worst = judge(FunctionScorer(lambda history, action: -values[history, action.command]), groups)
    assert (worst.pairwise_accuracy, worst.auc, worst.top1) == (0, 0, 0)
    assert worst.within_rank_correlation == pytest.approx(-1)


def test_equal_scores_are_worth_exactly_one_half():
    quality = judge(FunctionScorer(lambda history, action: 0.3), random_groups(40))
    assert (quality.pairwise_accuracy, quality.pairwise_low, quality.pairwise_high) == (0.5, 0.5, 0.5)
    assert (quality.auc, quality.pooled_auc) == (0.5, 0.5)
    assert (quality.rank_correlation, quality.within_rank_correlation) == (0, 0)
    (decile,) = quality.deciles
    assert decile.count == 120


def test_random_scores_are_near_one_half():
    quality = judge(RandomScorer(), random_groups(2000, actions=2))
    # At least 1,800 pairs, one a history: five standard deviations of a share are 5 * 0.5 / sqrt(1800) = 0.059.
    assert quality.pairs > 1800
    assert abs(quality.pairwise_accuracy - 0.5) < 0.059
    assert abs(quality.auc - 0.5) < 0.059
    assert abs(quality.top1 - 0.5) < 0.07
    assert abs(quality.rank_correlation) < 0.08
    assert quality.pairwise_low < 0.5 < quality.pairwise_high


def test_figures_of_rank_do_not_change_under_a_monotone_transform():
    groups = random_groups(60)
    plain = judge(WRITTEN, groups)
    stretched = judge(FunctionScorer(lambda h, a: np.exp(3 * float(a.command.split()[1])) - 7), groups)
    names = (
        "pairwise_accuracy", "pairwise_low", "pairwise_high", "pairs", "top1", "regret", "auc", "pooled_auc",
        "rank_correlation", "within_rank_correlation",
    )  # fmt: skip
    assert [getattr(stretched, name) for name in names] == [getattr(plain, name) for name in names]
    assert [each.mean_target for each in stretched.deciles] == [each.mean_target for each in plain.deciles]
    assert stretched.bins is None


def test_pairwise_accuracy_agrees_with_the_double_loop():
    groups = random_groups(50, seed=3, actions=5)
    right, count = 0.0, 0
    for each in groups:
        scores = [float(action.command.split()[1]) for action in each.actions]
        for i, better in enumerate(each.values):
            for j, worse in enumerate(each.values):
                if better > worse + 0.1:
                    count += 1
                    right += 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
    quality = judge(WRITTEN, groups, delta=0.1)
    assert (quality.pairs, quality.pairwise_accuracy) == (count, pytest.approx(right / count))


# --- the interval ---


def test_the_interval_of_independent_tasks_is_that_of_a_binomial_share():
    wins = [group("0.1 0.9", "0.1 0.9", f"won {number}") for number in range(75)]
    losses = [group("0.1 0.9", "0.9 0.1", f"lost {number}") for number in range(25)]
    quality = judge(WRITTEN, wins + losses)
    # 1.96 * sqrt(0.75 * 0.25 / 100) = 0.085; a quantile of 1,000 draws is off by some tenth of that.
    assert quality.pairwise_accuracy == 0.75
    assert quality.pairwise_low == pytest.approx(0.75 - 0.085, abs=0.02)
    assert quality.pairwise_high == pytest.approx(0.75 + 0.085, abs=0.02)
    assert judge(WRITTEN, wins + losses) == quality
    assert judge(WRITTEN, wins + losses, seed=1) != quality


def test_histories_of_one_task_do_not_make_the_interval_narrower():
    def groups(repeats: int) -> list[ActionValues]:
        scores = ["0.1 0.9"] * 30 + ["0.9 0.1"] * 10
        return [group("0.1 0.9", each, f"task {task}") for task, each in enumerate(scores) for _ in range(repeats)]

    once, often = judge(WRITTEN, groups(1)), judge(WRITTEN, groups(20))
    assert often.pairs == 20 * once.pairs
    assert (often.pairwise_low, often.pairwise_high) == (once.pairwise_low, once.pairwise_high)


def test_pairs_within_the_noise_of_their_values_can_be_left_out():
    groups = [group("0.5 0.6 0.9", "0.5 0.4 0.9")]
    assert judge(WRITTEN, groups).pairwise_accuracy == pytest.approx(2 / 3)
    # Twice the error of a difference is 2 * sqrt(2) * 0.05 = 0.14: 0.5 and 0.6 cannot be told apart.
    sure = judge(WRITTEN, groups, standard_errors=[[0.05] * 3])
    assert (sure.pairs, sure.pairwise_accuracy) == (2, 1)
    assert judge(WRITTEN, groups, standard_errors=[[0.0] * 3]) == judge(WRITTEN, groups)
    with pytest.raises(ValueError, match="estimate with n >= 2"):
        judge(WRITTEN, groups, standard_errors=[[np.nan] * 3])
    with pytest.raises(ValueError, match="and their standard errors: there is nothing to judge by"):
        judge(WRITTEN, groups, standard_errors=[[1.0] * 3])


# --- errors, forms ---


def test_no_pairs_are_an_error():
    with pytest.raises(ValueError, match=r"after one of 1 histories differ in value by more than delta=0.03"):
        judge(WRITTEN, GROUPS[2:])
    with pytest.raises(ValueError, match="after one of 0 histories"):
        judge(WRITTEN, [])


def test_a_score_that_is_no_number_names_the_scorer():
    with pytest.raises(ValueError, match="scorer 'written' gave nan for pair 1"):
        judge(WRITTEN, [group("0.1 0.9", "0 nan")])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="delta must be at least 0, got -1"):
        judge(WRITTEN, GROUPS, delta=-1)
    with pytest.raises(ValueError, match=r"values must be in \[0, 1\], got .0.1, 1.5. in 't'"):
        judge(WRITTEN, [group("0.1 1.5", "0 1")])
    with pytest.raises(ValueError, match="2 actions need as many values, got 1"):
        judge(WRITTEN, [group("0.1", "0 1")])


def test_the_scorer_is_called_once_with_the_groups_own_histories():
    calls = []

    class Counting:
        name = "counting"

        def score(self, histories, actions):
            calls.append([id(history) for history in histories])
            return WRITTEN.score(histories, actions)

    judge(Counting(), GROUPS)
    a, b, c = (id(each.history) for each in GROUPS)
    assert calls == [[a] * 3 + [b] * 3 + [c] * 2]


def test_json_holds_all_figures_under_their_names():
    record = json.loads(json.dumps(judge(WRITTEN, GROUPS).to_json(), allow_nan=False))
    assert set(record) == {
        "pairwise_accuracy", "pairwise_low", "pairwise_high", "pairs", "histories", "tasks", "top1", "regret", "auc",
        "pooled_auc", "rank_correlation", "within_rank_correlation", "calibration_error", "loss", "squared_error",
        "bins", "deciles",
    }  # fmt: skip
    assert record["pairwise_accuracy"] == pytest.approx(0.7)
    assert record["bins"][-1] == {"low": 0.9, "high": 1.0, "count": 1, "mean_score": 0.9, "mean_target": 1.0}
    assert set(record["deciles"][0]) == {"decile", "count", "mean_score", "mean_target"}
    unbounded = judge(WRITTEN, [group("0.1 0.9", "5 6")]).to_json()
    assert unbounded["bins"] is None


def test_tables_show_the_figures():
    quality, unbounded = judge(WRITTEN, GROUPS), judge(WRITTEN, [group("0.1 0.9", "5 6")])
    text = str(quality)
    assert "pairwise accuracy  0.700" in text
    assert "5 pairs, 2 histories, 2 tasks" in text
    assert "0.9 to 1.0         1      0.9000      1.0000" in text
    assert "calibration" not in str(unbounded)
    heading, first, second = quality_table({"written": quality, "another": unbounded}).splitlines()
    assert " ".join(heading.split()) == "scorer pairwise 95 % interval top-1 regret AUC pooled within ECE loss"
    assert first.split()[:2] == ["written", "0.700"]
    assert second.split()[-2:] == ["-", "-"]
    assert len({len(line) for line in (heading, first, second)}) == 1


def test_groups_are_split_by_task():
    groups = random_groups(200)
    train, held_out = split_groups(groups, seed=1, train_share=0.5)
    assert len(train) + len(held_out) == 200
    assert {task_split(each.history.task_id, 1, 0.5) for each in train} == {"train"}
    assert {task_split(each.history.task_id, 1, 0.5) for each in held_out} == {"held_out"}
