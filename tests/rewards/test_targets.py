import math
from collections import defaultdict

import gymnasium as gym
import numpy as np
import pytest

from agentgym_prm import RandomAgent, collect
from agentgym_prm.envs import TOY
from agentgym_prm.envs.toy import optimal_q, policy_q, toy_engine, uniform
from agentgym_prm.rewards.targets import (
    outcome_returns,
    preference_pairs,
    q_targets,
    returns_to_go,
    shaped_targets,
    soft_labels,
    task_split,
    v_targets,
)
from agentgym_prm.types import Action, Step, Trajectory


def episode(commands: str, outcome: float, *, number: int = 0, task: str = "task") -> Trajectory:
    """One command a letter; what is seen depends on the commands so far."""
    steps = tuple(
        Step(
            commands[:turn],
            ("a", "b"),
            Action(command),
            outcome_reward=outcome if turn + 1 == len(commands) else 0.0,
            terminated=bool(outcome) and turn + 1 == len(commands),
        )
        for turn, command in enumerate(commands)
    )
    return Trajectory(task, 0, steps, "end", task_id=task, episode=number)


# --- returns ---


def test_returns_to_go_of_hand_made_rewards():
    # 4; 2 + 0.5 * 4 = 4; 1 + 0.5 * 4 = 3.
    assert returns_to_go(np.array([1.0, 2.0, 4.0]), 0.5).tolist() == [3.0, 4.0, 4.0]
    assert returns_to_go(np.array([1.0, 2.0, 4.0]), 0.0).tolist() == [1.0, 2.0, 4.0]
    assert returns_to_go(np.array([1.0, 2.0, 4.0]), 1.0).tolist() == [7.0, 6.0, 4.0]
    assert returns_to_go(np.zeros(0), 0.5).shape == (0,)


def test_the_discount_counts_from_the_step_and_not_from_the_start():
    # Counted from the start of the episode, the last step would be worth gamma**2 = 0.25.
    assert returns_to_go(np.array([0.0, 0.0, 1.0]), 0.5)[-1] == 1.0


def test_returns_to_go_agree_with_the_double_sum():
    rewards_S = np.random.default_rng(0).normal(size=40)
    slow = [sum(0.9 ** (k - t) * rewards_S[k] for k in range(t, 40)) for t in range(40)]
    assert returns_to_go(rewards_S, 0.9) == pytest.approx(slow, abs=1e-12)


def test_wrong_arguments_of_returns_are_named():
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\], got 99 .did you mean 0.99"):
        returns_to_go(np.zeros(1), 99)
    with pytest.raises(ValueError, match=r"must be one-dimensional, got shape \(1, 2\)"):
        returns_to_go(np.zeros((1, 2)), 0.5)


def test_signed_returns_are_those_of_the_outcome_mapped_to_minus_one_and_one():
    assert outcome_returns(episode("abb", 1.0), 0.5, signed=True).tolist() == [0.25, 0.5, 1.0]
    assert outcome_returns(episode("abb", 0.0), 0.5, signed=True).tolist() == [-0.25, -0.5, -1.0]
    assert outcome_returns(episode("abb", 0.75), 0.5, signed=True).tolist() == [0.125, 0.25, 0.5]
    assert outcome_returns(episode("abb", 0.0), 0.5, signed=False).tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"need outcomes in \[0, 1\], got 2.0"):
        outcome_returns(episode("a", 2.0), 0.5, signed=True)


# --- Monte-Carlo targets ---

EPISODES = [episode("ab", 1.0, number=0), episode("ab", 0.0, number=1), episode("ba", 0.0, number=2)]


def test_q_targets_are_means_over_identical_histories_and_actions():
    found = {(t.history.observation, t.action.command): (t.value, t.visits) for t in q_targets(EPISODES, 0.5)}
    assert found == {
        # Signed returns +0.5 and -0.5, mean 0, mapped to 0.5.
        ("", "a"): (0.5, 2),
        # +1 and -1.
        ("a", "b"): (0.5, 2),
        # -0.5 is mapped to 0.25, -1 to 0: failing later is better.
        ("", "b"): (0.25, 1),
        ("b", "a"): (0.0, 1),
    }


def test_unsigned_q_targets_are_plain_mean_returns():
    found = {(t.history.observation, t.action.command): t.value for t in q_targets(EPISODES, 0.5, signed=False)}
    assert found == {("", "a"): 0.25, ("a", "b"): 0.5, ("", "b"): 0.0, ("b", "a"): 0.0}


def test_v_targets_are_means_over_identical_histories():
    found = {t.history.observation: (t.value, t.visits) for t in v_targets(EPISODES, 0.5)}
    # At the start: +0.5, -0.5, -0.5, mean -1/6, mapped to 5/12.
    assert found == {"": (pytest.approx(5 / 12), 3), "a": (0.5, 2), "b": (0.0, 1)}


def test_other_tasks_and_other_admissible_commands_are_other_histories():
    other = episode("ab", 0.0, task="other task")
    assert {t.visits for t in q_targets([EPISODES[0], other], 0.5)} == {1}


def test_targets_keep_the_history_that_the_agent_saw():
    target = q_targets(EPISODES, 0.5)[1]
    assert target.history == EPISODES[0].history(1)
    assert target.action == EPISODES[0].steps[1].action


def test_monte_carlo_targets_of_random_rollouts_converge_to_the_exact_q():
    """Signed and not, wherever a pair was visited often enough; those of the best policy are told apart."""
    gamma, cap = 0.9, 8
    envs = gym.make_vec(TOY, num_envs=64, max_episode_steps=cap)
    trajectories = collect(RandomAgent(), envs, [4] * 4000)
    for signed in (False, True):
        returns = defaultdict(list)
        for trajectory in trajectories:
            for turn, value in enumerate(outcome_returns(trajectory, gamma, signed=signed)):
                # Commands alone identify a pair here: one task, and moves are deterministic.
                commands = tuple(step.action.command for step in trajectory.steps[: turn + 1])
                returns[commands].append((value + 1) / 2 if signed else value)
        failure = -1.0 if signed else 0.0
        exact = policy_q(4, uniform, gamma, cap, failure_reward=failure)
        best = optimal_q(4, gamma, cap, failure_reward=failure)
        errors, errors_of_best = [], []
        for target in q_targets(trajectories, gamma, signed=signed):
            sample = returns[(*target.history.commands, target.action.command)]
            assert (target.value, target.visits) == (pytest.approx(sum(sample) / len(sample)), len(sample))
            if target.visits < 100:
                continue
            # A floor under the spread, for pairs that have seen no win yet.
            standard_error = max(float(np.std(sample)), 0.05) / target.visits**0.5
            state, left = toy_engine(target.history).state, cap - len(target.history.steps)
            for table, collected in ((exact, errors), (best, errors_of_best)):
                q = table.q(state, target.action.command, left)
                collected.append(abs(target.value - ((q + 1) / 2 if signed else q)) / standard_error)
        assert len(errors) > 20
        # Of some thirty normal deviates none exceeds 4.5 but once in 5,000 seeds.
        assert max(errors) < 4.5
        assert np.median(errors_of_best) > 4.5


# --- preferences ---


def test_preference_pairs_are_all_pairs_beyond_the_margin():
    def first_step(command: str, outcome: float) -> Trajectory:
        return episode(command, outcome)

    # Values at the one history, unsigned: a 1.0, b 0.5, c 0.48, d 0.5 - 0.03 exactly is no pair.
    targets = q_targets(
        [first_step("a", 1.0), first_step("b", 0.5), first_step("c", 0.48), first_step("d", 0.46)], 1.0, signed=False
    )
    pairs = [(p.chosen.command, p.rejected.command, round(p.margin, 9)) for p in preference_pairs(targets, 0.03)]
    # c - d = 0.02 and b - c = 0.02 are too small.
    assert pairs == [("a", "b", 0.5), ("a", "c", 0.52), ("a", "d", 0.54), ("b", "d", 0.04)]
    assert len(preference_pairs(targets, 0.0)) == 6
    assert preference_pairs(targets, 1.0) == []


def test_histories_with_one_action_give_no_pair_and_histories_are_not_mixed():
    targets = q_targets([episode("a", 1.0), episode("b", 0.0, task="other")], 1.0)
    assert preference_pairs(targets) == []
    with pytest.raises(ValueError, match="delta must be at least 0, got -1"):
        preference_pairs(targets, -1)


# --- shaping ---


def test_shaped_targets_by_hand():
    """V is 0.2, 0.6, 0.4 along the first episode and 0.2, 0.1 along the second; gamma 0.5."""
    values = {"": 0.2, "a": 0.6, "ab": 0.4, "b": 0.1}

    def value(histories):
        return np.array([values[history.observation] for history in histories])

    targets = shaped_targets([episode("aba", 1.0), episode("ba", 0.0)], value, 0.5)
    # G: 0.25, 0.5, 1 and 0, 0. The last turns keep G alone.
    expected = [0.25 + 0.5 * 0.6 - 0.2, 0.5 + 0.5 * 0.4 - 0.6, 1.0, 0 + 0.5 * 0.1 - 0.2, 0.0]
    assert targets.q_N == pytest.approx(expected)
    # Sorted: -0.15, 0, 0.1, 0.35, 1: mean 0.26, quartiles 0 and 0.35.
    assert targets.labels_N == pytest.approx([1 / (1 + math.exp(-3 / 0.35 * (q - 0.26))) for q in expected])


def test_shaping_telescopes_but_for_the_last_turn():
    # sum_t gamma^t (gamma V_{t+1} - V_t) over the turns before the last = gamma^{T-1} V_{T-1} - V_0.
    trajectory, gamma = episode("abab", 1.0), 0.9
    v_S = np.array([0.3, 0.9, 0.1, 0.7])
    q_S = shaped_targets([trajectory], lambda histories: v_S, gamma).q_N
    shaping_S = q_S - outcome_returns(trajectory, gamma, signed=False)
    assert (gamma ** np.arange(4) * shaping_S).sum() == pytest.approx(gamma**3 * v_S[3] - v_S[0])


def test_soft_labels_do_not_change_when_values_are_scaled_and_shifted():
    q_N = np.random.default_rng(1).normal(size=50)
    assert soft_labels(10 * q_N - 3) == pytest.approx(soft_labels(q_N))
    assert (np.argsort(soft_labels(q_N)) == np.argsort(q_N)).all()
    # The mean itself is undecided.
    assert soft_labels(np.array([0.0, 1.0, 2.0]))[1] == 0.5


def test_extreme_values_saturate_without_overflow():
    labels_N = soft_labels(np.array([-1e9, 0.0, 0.1, 0.2, 1e9]))
    assert labels_N[0] == 0
    assert labels_N[-1] == 1


def test_values_without_a_spread_are_refused():
    with pytest.raises(ValueError, match="collect rollouts that both win and fail"):
        soft_labels(np.zeros(10))
    with pytest.raises(ValueError, match="no values"):
        shaped_targets([], lambda histories: np.zeros(0))
    with pytest.raises(ValueError, match="one number for each of 2 histories"):
        shaped_targets([episode("ab", 1.0)], lambda histories: np.zeros(3))


# --- split ---


def test_the_split_depends_on_task_and_seed_alone_and_has_the_share_asked_for():
    tasks = [f"task {number}" for number in range(4000)]
    sides = [task_split(task, 1) for task in tasks]
    assert sides == [task_split(task, 1) for task in tasks]
    # Binomial: standard deviation sqrt(4000 * 0.85 * 0.15) = 22.6, four of them allowed.
    assert abs(sides.count("train") - 3400) < 91
    assert sides != [task_split(task, 2) for task in tasks]
    assert {task_split(task, train_share=1.0) for task in tasks} == {"train"}
    assert {task_split(task, train_share=0.0) for task in tasks} == {"held_out"}


def test_a_larger_share_only_adds_training_tasks():
    tasks = [f"task {number}" for number in range(500)]
    small = {task for task in tasks if task_split(task, train_share=0.5) == "train"}
    large = {task for task in tasks if task_split(task, train_share=0.9) == "train"}
    assert small < large
    with pytest.raises(ValueError, match=r"train_share must be in \[0, 1\], got 85"):
        task_split("t", train_share=85)


def test_the_split_stays_the_same_across_versions():
    # Recorded once: a change would let earlier training tasks into later evaluations.
    sides = "".join(task_split(f"task {number}", 0, 0.5)[0] for number in range(8))
    assert sides == "thhtttht"
