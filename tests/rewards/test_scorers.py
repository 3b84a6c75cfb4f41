import gymnasium as gym
import numpy as np
import pytest

from agentgym_prm import FunctionScorer, HandcodedAgent, RandomAgent, RandomScorer, collect
from agentgym_prm.envs import ALFWORLD, TOY, WEBSHOP
from agentgym_prm.envs.core import opening_history
from agentgym_prm.envs.toy import TOY_TASKS, optimal_q, policy_q, toy_engine, uniform
from agentgym_prm.envs.webshop.experts import Oracle
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.rewards.oracle import BranchingScorer, EnvReplay, ExpertScorer, GameReplay, PlannerScorer, ToyOracle
from agentgym_prm.testing import check_scorer
from agentgym_prm.types import Action, History


def toy_pairs(episodes: int = 4) -> tuple[list[History], list[Action]]:
    trajectories = collect(RandomAgent(), gym.make_vec(TOY, num_envs=4), range(episodes))
    places = [(trajectory, turn) for trajectory in trajectories for turn in range(0, len(trajectory.steps), 3)]
    return [t.history(turn) for t, turn in places], [t.steps[turn].action for t, turn in places]


def household_pairs() -> tuple[list[History], list[Action]]:
    envs = gym.make_vec(ALFWORLD, num_envs=4, difficulty="small", max_episode_steps=12)
    trajectories = collect(RandomAgent(), envs, range(6))
    places = [(trajectory, turn) for trajectory in trajectories for turn in range(0, len(trajectory.steps), 4)]
    return [t.history(turn) for t, turn in places], [t.steps[turn].action for t, turn in places]


def test_every_scorer_keeps_the_contract():
    histories, actions = toy_pairs()
    for scorer in (
        RandomScorer(),
        FunctionScorer(lambda history, action: len(action.command)),
        ToyOracle(),
        BranchingScorer(toy_engine, RandomAgent(), n=2, max_episode_steps=20),
    ):
        check_scorer(scorer, histories, actions)
    histories, actions = household_pairs()
    replay = GameReplay(difficulty="small")
    check_scorer(PlannerScorer(replay), histories, actions)
    check_scorer(BranchingScorer(replay, HandcodedAgent(), n=1, max_episode_steps=30), histories[:6], actions[:6])


class Broken:
    """Breaks one promise at a time."""

    name = "broken"

    def __init__(self, how: str) -> None:
        self.how, self.calls = how, 0

    def score(self, histories, actions):
        self.calls += 1
        scores = np.array([float(len(action.command)) for action in actions])
        if self.how == "list":
            return scores.tolist()
        if self.how == "shape":
            return scores[:, None]
        if self.how == "nan":
            return scores * np.nan
        if self.how == "int":
            return scores.astype(int)
        if self.how == "moody":
            return scores + self.calls
        if self.how == "batch":
            return scores - scores.mean() if len(scores) else scores
        return scores


@pytest.mark.parametrize("how", ["list", "shape", "nan", "int", "moody", "batch"])
def test_a_scorer_that_breaks_the_contract_is_caught(how):
    histories, actions = toy_pairs()
    check_scorer(Broken("not at all"), histories, actions)
    with pytest.raises(AssertionError):
        check_scorer(Broken(how), histories, actions)


def test_a_function_scorer_calls_the_function_for_each_pair():
    def length(history: History, action: Action) -> float:
        return 10 * len(history.steps) + len(action.command)

    scorer = FunctionScorer(length)
    assert scorer.name == "length"
    assert scorer.score([History("t", "o")] * 2, [Action("ab"), Action("abc")]).tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match="shorter"):
        scorer.score([History("t", "o")], [])


def test_random_scores_are_uniform_and_depend_on_seed_history_and_command():
    history = History("t", "o")
    actions = [Action(str(number)) for number in range(4000)]
    scores_N = RandomScorer().score([history] * 4000, actions)
    # Standard deviation of the mean of uniform numbers: sqrt(1/12/4000) = 0.0046; five of them.
    assert abs(scores_N.mean() - 0.5) < 0.023
    assert abs(np.mean(scores_N < 0.1) - 0.1) < 0.024
    assert scores_N.min() >= 0
    assert scores_N.max() < 1
    assert (RandomScorer(1).score([history] * 4000, actions) != scores_N).all()
    assert RandomScorer().score([History("t", "other")], actions[:1])[0] != scores_N[0]


def test_the_toy_oracle_gives_exact_q_and_counts_the_steps_left():
    histories, actions = toy_pairs()
    endless = ToyOracle(lambda task: optimal_q(task, 0.9)).score(histories, actions)
    capped = ToyOracle(lambda task: policy_q(task, uniform, 1.0, 20)).score(histories, actions)
    for number, (history, action) in enumerate(zip(histories, actions, strict=True)):
        task, state = history.seed % len(TOY_TASKS), toy_engine(history).state
        assert endless[number] == optimal_q(task, 0.9).q(state, action.command)
        left = 20 - len(history.steps)
        assert capped[number] == policy_q(task, uniform, 1.0, 20).q(state, action.command, left)


def test_branching_scores_approach_the_toy_oracles():
    histories, actions = toy_pairs(2)
    settings = {"n": 600, "max_episode_steps": 20, "gamma": 1.0}
    estimated = BranchingScorer(toy_engine, RandomAgent(), **settings).score(histories, actions)
    exact = ToyOracle(lambda task: policy_q(task, uniform, 1.0, 20)).score(histories, actions)
    # With gamma 1 an estimate is a binomial share.
    spread = np.maximum(np.sqrt(exact * (1 - exact)), 0.05)
    assert (np.abs(estimated - exact) < 4 * spread / 600**0.5).all()


def test_replaying_a_household_game_reaches_the_state_of_the_history():
    histories, _ = household_pairs()
    replay = GameReplay(difficulty="small")
    for history in histories:
        engine = replay(history)
        assert engine.admissible_commands() == history.admissible_commands


def test_replaying_an_environment_reaches_the_state_that_its_own_replay_reaches():
    histories, _ = household_pairs()
    by_env, by_games = EnvReplay(ALFWORLD, difficulty="small"), GameReplay(difficulty="small")
    for history in histories:
        engine = by_env(history)
        assert engine.admissible_commands() == by_games(history).admissible_commands() == history.admissible_commands
    first = by_env(histories[0])
    by_env(histories[-1])  # another replay leaves the engine that was handed out alone
    assert first.admissible_commands() == histories[0].admissible_commands
    with pytest.raises(ValueError, match="it comes from another game"):
        by_env(History("t", "something else", task_id=histories[0].task_id))


def test_an_expert_that_plays_on_scores_an_action_by_the_discounted_outcome():
    def shopping():
        return gym.make(WEBSHOP, difficulty="small", split="test", expert="oracle")

    env = shopping()
    observation, info = env.reset(options={"task": 1})
    history = opening_history(observation, info)
    best = []  # what the oracle does, to the purchase
    while info["expert_action"]:
        best.append(info["expert_action"])
        *_, info = env.step(best[-1])
    assert info["won"]
    assert len(best) > 3
    scorer = ExpertScorer(EnvReplay(WEBSHOP, difficulty="small", split="test"), Oracle, max_episode_steps=15, gamma=0.9)
    check_scorer(scorer, [history] * 2, [Action(best[0]), Action("look")])
    scores = scorer.score([history] * 3, [Action(best[0]), Action("look"), Action("search[nothing of the kind]")])
    # The purchase comes len(best) - 1 steps after the first command; one step later after one that does nothing; after
    # another search it has to go back first.
    assert scores.tolist() == pytest.approx([0.9 ** (len(best) - 1), 0.9 ** len(best), 0.9 ** (len(best) + 1)])
    short = ExpertScorer(
        EnvReplay(WEBSHOP, difficulty="small", split="test"), Oracle, max_episode_steps=len(best), gamma=0.9
    )
    assert short.score([history] * 2, [Action(best[0]), Action("look")]).tolist() == [scores[0], 0.0]


def test_replaying_needs_an_engine_that_can_be_cloned():
    with pytest.raises(ValueError, match="has no native engine"):
        EnvReplay("CartPole-v1")


def test_replaying_on_the_wrong_games_is_noticed():
    histories, _ = household_pairs()
    with pytest.raises(UnknownNameError, match="unknown task id"):
        GameReplay(difficulty="full")(histories[0])
    with pytest.raises(ValueError, match="it comes from another game"):
        GameReplay(difficulty="small")(History("t", "something else", task_id=histories[0].task_id))


def test_planner_scores_fall_by_one_along_a_shortest_plan():
    envs = gym.make_vec(ALFWORLD, num_envs=2, difficulty="small", expert="planner")
    from agentgym_prm import ExpertAgent

    for trajectory in collect(ExpertAgent("planner"), envs, range(4)):
        length = len(trajectory.steps)
        histories = [trajectory.history(turn) for turn in range(length)]
        scorer = PlannerScorer(GameReplay(difficulty="small"))
        scores = scorer.score(histories, [step.action for step in trajectory.steps])
        assert scores.tolist() == [float(turn + 1 - length) for turn in range(length)]
        # A wasted step leaves the plan as long as it was.
        assert scorer.score(histories[:1], [Action("look")]).tolist() == [float(-length)]
