import math
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from agentgym_prm import FunctionScorer, HandcodedAgent, RandomAgent, RandomScorer, collect
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.envs import ALFWORLD, TOY
from agentgym_prm.errors import MissingDependencyError
from agentgym_prm.rewards.baselines import BagOfWords, CombinedScorer, LikelihoodScorer, MajorityScorer, _features
from agentgym_prm.rewards.branching import Branch, branch_targets
from agentgym_prm.rewards.identity import history_key
from agentgym_prm.rewards.oracle import GameReplay, ToyOracle
from agentgym_prm.rewards.quality import judge, split_groups
from agentgym_prm.rewards.targets import ActionValues, by_history
from agentgym_prm.testing import check_scorer
from agentgym_prm.types import Action, History, Trajectory


def different_histories(trajectories: list[Trajectory]) -> list[History]:
    found: dict[int, History] = {}
    for trajectory in trajectories:
        for history in trajectory.histories():
            found.setdefault(history_key(history), history)
    return list(found.values())


@pytest.fixture(scope="module")
def toy() -> list[ActionValues]:
    """All admissible commands after the histories of a random agent, with their exact Q under the best play."""
    trajectories = collect(RandomAgent(), gym.make_vec(TOY, num_envs=4, max_episode_steps=15), range(24))
    groups = []
    for history in different_histories(trajectories):
        actions = tuple(Action(command) for command in history.admissible_commands)
        values = ToyOracle().score([history] * len(actions), actions)
        groups.append(ActionValues(history, actions, tuple(values.tolist()), (1,) * len(actions)))
    return groups


@pytest.fixture(scope="module")
def household() -> tuple[list[ActionValues], list[ActionValues]]:
    """States of builtin games that a random agent strays into, with returns of the handcoded expert; split by game."""
    envs = gym.make_vec(ALFWORLD, num_envs=8, difficulty="small", max_episode_steps=12)
    histories = different_histories(collect(RandomAgent(), envs, range(80)))[::3]
    replay = GameReplay(difficulty="small")
    branches = [Branch(history, replay(history), history.admissible_commands) for history in histories]
    groups = by_history(branch_targets(branches, HandcodedAgent(), n=1, max_episode_steps=50, signed=False))
    return split_groups(groups, train_share=0.75)


@pytest.fixture(scope="module")
def memory_prompt() -> Prompt:
    return Prompt.load("memory")


class ToyLikelihood:
    """Commands are the likelier the shorter, whatever the history."""

    name = "short"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def score_commands(self, histories):
        self.asked.append(len(histories))
        return [[-float(len(command)) for command in history.admissible_commands] for history in histories]


def test_every_baseline_keeps_the_contract(toy, memory_prompt):
    scorers = [
        MajorityScorer.fit(toy),
        BagOfWords.fit(toy, Prompt.load("exploration")),
        BagOfWords.fit(toy, memory_prompt),
        LikelihoodScorer(ToyLikelihood()),
        CombinedScorer([LikelihoodScorer(ToyLikelihood()), ToyOracle()], [1.0, 2.0]),
    ]
    histories = [group.history for group in toy[::20] for _ in range(3)]
    actions = [action for group in toy[::20] for action in (*group.actions[:2], Action("émoji 🙂 \ud800"))]
    for scorer in scorers:
        check_scorer(scorer, histories, actions)


# --- majority ---


def test_the_majority_baseline_gives_the_mean_of_the_verb():
    groups = [
        ActionValues(History("t", "o"), (Action("go to hall"), Action("take cup")), (0.5, 1.0), (1, 1)),
        ActionValues(History("t", "p"), (Action("go to attic"),), (0.75,), (1,)),
    ]
    scorer = MajorityScorer.fit(groups)
    assert scorer.values == {"go": 0.625, "take": 1.0}
    # A verb never met gets the mean of all three: 2.25 / 3.
    commands = [Action(command) for command in ("go to cellar", "take book", "sing")]
    assert scorer.score([History("t", "q")] * 3, commands).tolist() == [0.625, 1.0, 0.75]
    with pytest.raises(ValueError, match="no actions to fit"):
        MajorityScorer.fit([])


# --- bag of words ---


def test_on_toy_a_linear_model_lies_between_random_and_the_oracle(toy, memory_prompt):
    # Six tasks are too few to generalise over, so train and test share tasks here, but no histories.
    held_out = toy[1::2]
    random, oracle = judge(RandomScorer(), held_out), judge(ToyOracle(), held_out)
    assert oracle.pairwise_accuracy == oracle.top1 == oracle.auc == 1
    assert oracle.calibration_error == pytest.approx(0, abs=1e-12)
    assert abs(random.pairwise_accuracy - 0.5) < 0.1
    learned = judge(BagOfWords.fit(toy[::2], memory_prompt), held_out)
    assert random.pairwise_accuracy + 0.1 < learned.pairwise_accuracy < 1
    assert learned.pairwise_accuracy > judge(MajorityScorer.fit(toy[::2]), held_out).pairwise_accuracy


def test_on_unseen_household_games_it_orders_commands_and_keeps_calibrated(household, memory_prompt):
    train, held_out = household
    assert not {group.history.task_id for group in train} & {group.history.task_id for group in held_out}
    learned = judge(BagOfWords.fit(train, memory_prompt), held_out)
    majority = judge(MajorityScorer.fit(train), held_out)
    assert learned.pairwise_low > majority.pairwise_high
    assert learned.pairwise_accuracy > 0.7
    assert learned.calibration_error < 0.1


def test_taking_out_the_means_of_histories_improves_the_order(household, memory_prompt):
    train, held_out = household
    plain = judge(BagOfWords.fit(train, memory_prompt, between_share=1.0), held_out)
    assert judge(BagOfWords.fit(train, memory_prompt), held_out).pairwise_accuracy > plain.pairwise_accuracy


def test_from_shuffled_values_nothing_is_learned(household, memory_prompt):
    train, held_out = household
    rng = np.random.default_rng(0)
    shuffled = [replace(group, values=tuple(rng.permutation(group.values).tolist())) for group in train]
    control = judge(BagOfWords.fit(shuffled, memory_prompt), held_out)
    # What is fitted to noise prefers some kinds of commands by chance, in all games alike: over five shuffles the
    # standard deviation was 0.05. Three of them.
    assert abs(control.pairwise_accuracy - 0.5) < 0.15


@pytest.mark.parametrize("between_share", [0.0, 0.3, 1.0])
def test_the_weights_are_those_of_the_closed_form(toy, memory_prompt, between_share):
    """Ridge regression in its dual form, with the means taken out by a dense matrix."""
    groups = toy[:12]
    histories = [group.history for group in groups for _ in group.actions]
    actions = [action for group in groups for action in group.actions]
    values_N = np.array([value for group in groups for value in group.values])
    features_N_F = _features(histories, actions, memory_prompt)
    kernel_N_N = (features_N_F @ features_N_F.T).toarray()
    same_N_N = np.array([[a is b for a in histories] for b in histories], dtype=np.float64)
    demean_N_N = np.eye(len(actions)) - (1 - between_share) * same_N_N / same_N_N.sum(axis=1)
    system_N_N = demean_N_N @ kernel_N_N @ demean_N_N + 5.0 * np.eye(len(actions))
    dual_N = np.linalg.solve(system_N_N, demean_N_N @ (values_N - values_N.mean()))
    expected_N = np.clip(values_N.mean() + kernel_N_N @ demean_N_N @ dual_N, 0, 1)
    scorer = BagOfWords.fit(groups, memory_prompt, ridge=5.0, between_share=between_share)
    # lsqr stops at a relative tolerance of 1e-5.
    assert scorer.score(histories, actions) == pytest.approx(expected_N, abs=1e-3)
    assert np.ptp(expected_N) > 0.05


def test_the_same_groups_give_the_same_scorer(toy, memory_prompt):
    histories, actions = [group.history for group in toy], [group.actions[0] for group in toy]
    first, second = (BagOfWords.fit(toy[::4], memory_prompt).score(histories, actions) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert first.min() >= 0
    assert first.max() <= 1


def test_wrong_settings_and_missing_libraries_are_named(toy, memory_prompt, monkeypatch):
    with pytest.raises(ValueError, match=r"got 0 and 0.3"):
        BagOfWords.fit(toy, memory_prompt, ridge=0)
    with pytest.raises(ValueError, match=r"got 30.0 and 2"):
        BagOfWords.fit(toy, memory_prompt, between_share=2)
    with pytest.raises(ValueError, match="no actions to fit"):
        BagOfWords.fit([], memory_prompt)
    for module in ("sklearn.feature_extraction", "sklearn.metrics"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'agentgym_prm\[train\]'"):
        BagOfWords.fit(toy, memory_prompt)
    with pytest.raises(MissingDependencyError, match=r"pip install 'agentgym_prm\[train\]'"):
        judge(RandomScorer(), toy)


# --- likelihood ---


def test_likelihoods_are_normalised_over_the_admissible_commands():
    class Fixed:
        name = "fixed"

        def score_commands(self, histories):
            return [[math.log(0.2), math.log(0.1), math.log(0.1)] for _ in histories]

    scorer = LikelihoodScorer(Fixed())
    assert scorer.name == "likelihood_fixed"
    history = History("t", "o", ("a", "b", "c"))
    scores = scorer.score([history] * 4, [Action("a"), Action("b"), Action(" c "), Action("sing")])
    # Shares 0.2 / 0.4 and 0.1 / 0.4; what is not admissible lies 1 below the least likely.
    assert scores.tolist() == pytest.approx([math.log(0.5), math.log(0.25), math.log(0.25), math.log(0.25) - 1])


def test_the_agent_is_asked_once_for_each_history():
    agent = ToyLikelihood()
    histories = [History("t", "o", ("a", "bb")), History("t", "p", ("a", "ccc"))]
    scores = LikelihoodScorer(agent).score([histories[0], histories[1], histories[0]], [Action("a")] * 3)
    assert agent.asked == [2]
    # 1 / (1 + e^-1) and 1 / (1 + e^-2).
    expected = [-math.log1p(math.exp(-1)), -math.log1p(math.exp(-2)), -math.log1p(math.exp(-1))]
    assert scores.tolist() == pytest.approx(expected)


# --- combined ---


def test_combined_scores_are_weighted_sums():
    length = FunctionScorer(lambda history, action: float(len(action.command)), "length")
    turn = FunctionScorer(lambda history, action: float(len(history.steps)) + 3, "turn")
    scorer = CombinedScorer([length, turn], [1.0, -0.5])
    assert scorer.name == "1*length+-0.5*turn"
    # 2 - 0.5 * 3 and 4 - 0.5 * 3.
    assert scorer.score([History("t", "o")] * 2, [Action("ab"), Action("abcd")]).tolist() == [0.5, 2.5]
    assert CombinedScorer([length], [1.0], "mine").name == "mine"
    with pytest.raises(ValueError, match="got 1 for 2"):
        CombinedScorer([length, turn], [1.0])
    with pytest.raises(ValueError, match="got 0 for 0"):
        CombinedScorer([], [])
