import json
from collections.abc import Sequence

import gymnasium as gym
import numpy as np
import pytest

from agentgym_prm import BestOfN, FunctionScorer, Mixture, RandomAgent, RandomScorer, collect
from agentgym_prm.agents.core import Agent
from agentgym_prm.envs import TOY
from agentgym_prm.envs.toy import TOY_TASKS, optimal_q, policy_q, uniform
from agentgym_prm.rewards.oracle import ToyOracle
from agentgym_prm.testing import check_agent
from agentgym_prm.types import Action, History

CAP = 20


class Lister(Agent):
    """Proposes given commands in turn and counts how often it is asked."""

    name = "lister"

    def __init__(self, *commands: str) -> None:
        self.commands = commands
        self.calls: list[tuple[int, int]] = []

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        self.calls.append((len(histories), n))
        listed = [Action(self.commands[i % len(self.commands)], reply=f"number {i}") for i in range(n)]
        return [listed for _ in histories]


class Table:
    """Scores commands by a table and keeps what it was asked."""

    name = "table"

    def __init__(self, **scores: float) -> None:
        self.scores = scores
        self.asked: list[list[str]] = []

    def score(self, histories, actions):
        self.asked.append([action.command for action in actions])
        return np.array([self.scores[action.command] for action in actions])


def history(task: str = "t", commands: tuple[str, ...] = ("a", "b", "c")) -> History:
    return History(task, "o", commands, task_id=task)


def test_the_contract_of_agents_holds():
    check_agent(BestOfN(RandomAgent(), RandomScorer(), 4), [history("t"), history("u")])
    check_agent(BestOfN(RandomAgent(), RandomScorer(), 1), [history("t"), history("u")])


def test_the_best_candidate_is_executed_and_the_others_stay_visible():
    action = BestOfN(Lister("a", "b", "c"), Table(a=0.1, b=0.7, c=0.4), 3).act(history())
    assert (action.command, action.reply, dict(action.scores)) == ("b", "number 1", {"table": 0.7})
    assert [(a.command, dict(a.scores)) for a in action.candidates] == [("a", {"table": 0.1}), ("c", {"table": 0.4})]
    assert dict(action.usage) == {"candidates": 3, "distinct_candidates": 3, "admissible_candidates": 3}
    assert Action.from_json(json.loads(json.dumps(action.to_json()))) == action


def test_one_generation_and_one_scoring_serve_all_histories():
    generator, scorer = Lister("a", "b"), Table(a=1, b=2)
    BestOfN(generator, scorer, 2).act([history("t"), history("u"), history("v")])
    assert generator.calls == [(3, 2)]
    assert scorer.asked == [["a", "b"] * 3]


def test_duplicates_are_scored_once_for_each_history():
    scorer = Table(a=1, b=2)
    here, there = history("t"), history("u")
    (first, second), (third, _) = BestOfN(Lister("a", "b", "b"), scorer, 3).sample([here, there], n=2)
    # Two histories with two commands each, although twelve candidates were drawn.
    assert scorer.asked == [["a", "b", "a", "b"]]
    assert {a.command for a in (first, second, third)} == {"b"}
    assert first.usage["distinct_candidates"] == 2


def test_of_equal_scores_the_earliest_candidate_wins():
    action = BestOfN(Lister("c", "a", "b", "a"), Table(a=1, b=1, c=0), 4).act(history())
    assert (action.command, action.reply) == ("a", "number 1")


def test_inadmissible_candidates_are_neither_scored_nor_executed_while_there_are_others():
    scorer = Table(a=0.0, fly=9.0)
    action = BestOfN(Lister("fly", "a", "fly"), scorer, 3).act(history())
    assert action.command == "a"
    assert scorer.asked == [["a"]]
    assert action.usage["admissible_candidates"] == 1
    assert [dict(candidate.scores) for candidate in action.candidates] == [{}, {}]
    unrestricted = BestOfN(Lister("fly", "a", "fly"), scorer, 3, admissible_only=False).act(history())
    assert (unrestricted.command, unrestricted.usage["admissible_candidates"]) == ("fly", 1)


def test_a_turn_without_admissible_candidates_executes_the_best_and_says_so():
    scorer = Table(fly=1.0, sing=2.0, a=0.0)
    none, some = BestOfN(Lister("fly", "sing"), scorer, 2).act([history(), history("u", ("fly",))])
    assert (none.command, none.usage["admissible_candidates"]) == ("sing", 0)
    assert (some.command, some.usage["admissible_candidates"]) == ("fly", 1)
    # Where an environment lists no commands, none is inadmissible.
    free = BestOfN(Lister("fly", "sing"), scorer, 2).act(history("v", ()))
    assert (free.command, free.usage["admissible_candidates"]) == ("sing", 2)


def test_best_of_1_is_the_generator_and_never_calls_the_scorer():
    def fail(history: History, action: Action) -> float:
        raise AssertionError("the scorer was called")

    generator = RandomAgent(seed=5)
    one = BestOfN(generator, FunctionScorer(fail), 1)
    histories = [history(str(number)) for number in range(20)]
    assert one.sample(histories, 3) == generator.sample(histories, 3)
    envs = gym.make_vec(TOY, num_envs=4)
    assert collect(one, envs, range(12)) == collect(generator, envs, range(12))


def test_no_histories_give_no_actions():
    assert BestOfN(RandomAgent(), RandomScorer(), 3).act([]) == []
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        BestOfN(RandomAgent(), RandomScorer(), 0)


@pytest.mark.parametrize("scores", [np.array([1.0, np.nan]), np.zeros(3), np.zeros((2, 1))])
def test_a_scorer_that_fails_is_named_and_nothing_is_executed(scores):
    class Failing:
        name = "failing"

        def score(self, histories, actions):
            return scores

    with pytest.raises(ValueError, match="scorer 'failing' must give one finite score for each of 2 pairs"):
        BestOfN(Lister("a", "b"), Failing(), 2).act(history())


def test_a_mixture_can_generate_the_candidates():
    mixture = Mixture([Lister("a"), Lister("b")])
    action = BestOfN(mixture, Table(a=0, b=1), 4).act(history())
    assert action.command == "b"
    assert [candidate.command for candidate in action.candidates] == ["a", "a", "b"]


# --- against the exact solution ---


def best_of_n_policy(n: int):
    """Best-of-N of uniform candidates under exact Q, as probabilities.

    All ``n`` draws lie among the ``k`` worst of ``K`` commands with probability ``(k / K)**n``; of commands with equal
    Q the earliest draw wins, so they share their probability evenly.
    """

    def policy(state, commands):
        table = optimal_q(state.task_index, 0.95)
        values = [round(table.q(state, command), 12) for command in commands]
        chances = []
        for value in values:
            worse, equal = sum(v < value for v in values), values.count(value)
            total = len(values)
            chances.append((((worse + equal) / total) ** n - (worse / total) ** n) / equal)
        return chances

    return policy


def exact_success(policy) -> list[float]:
    tables = [policy_q(task, policy, 1.0, CAP) for task in range(len(TOY_TASKS))]
    return [table.v(table.model.states[0]) for table in tables]


def success(agent: Agent, episodes: int) -> float:
    envs = gym.make_vec(TOY, num_envs=60)
    return sum(t.outcome for t in collect(agent, envs, range(episodes))) / episodes


def exact_oracle() -> ToyOracle:
    # Rounded as above, so that commands of equal value tie in both.
    class Rounded(ToyOracle):
        def score(self, histories, actions):
            return super().score(histories, actions).round(12)

    return Rounded(lambda task: optimal_q(task, 0.95))


@pytest.mark.parametrize(("n", "gain"), [(2, 0.2), (4, 0.6)])
def test_best_of_n_with_exact_q_gains_what_exact_computation_predicts(n, gain):
    episodes = 600
    predicted, base = np.mean(exact_success(best_of_n_policy(n))), np.mean(exact_success(uniform))
    assert predicted - base > gain
    # Each task is played equally often, which only makes the spread smaller than binomial.
    tolerance = 4 * (predicted * (1 - predicted) / episodes) ** 0.5
    assert abs(success(BestOfN(RandomAgent(), exact_oracle(), n), episodes) - predicted) < tolerance
    assert abs(success(RandomAgent(), episodes) - base) < 4 * (base * (1 - base) / episodes) ** 0.5


def test_a_random_scorer_does_not_gain():
    episodes = 600
    base = float(np.mean(exact_success(uniform)))
    # The best of random numbers is a uniform draw again, so nothing changes in expectation.
    gained = success(BestOfN(RandomAgent(), RandomScorer(), 4), episodes) - base
    assert abs(gained) < 4 * (base * (1 - base) / episodes) ** 0.5


def test_a_scorer_that_prefers_the_worst_does_harm():
    worst = FunctionScorer(lambda history, action: -float(exact_oracle().score([history], [action])[0]))
    assert success(BestOfN(RandomAgent(), worst, 4), 120) < np.mean(exact_success(uniform)) / 2
