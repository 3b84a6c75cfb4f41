from collections.abc import Sequence

import gymnasium as gym
import numpy as np
import pytest

from agentgym_prm import BestOfN, FunctionScorer, RandomAgent, collect
from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.tree_search import TreeSearch
from agentgym_prm.envs import TOY
from agentgym_prm.envs.toy import TOY_TASKS, optimal_q, toy_engine
from agentgym_prm.rewards.oracle import EnvReplay, ToyOracle
from agentgym_prm.rewards.targets import GAMMA
from agentgym_prm.testing import check_agent
from agentgym_prm.types import Action, History

CAP = 20


class Game:
    """A game given by where each command leads; states in ``outcomes`` end it."""

    def __init__(self, moves, outcomes, state="start"):
        self.moves, self.outcomes, self.state, self.valid = moves, outcomes, state, True

    done = property(lambda self: self.state in self.outcomes)
    outcome = property(lambda self: self.outcomes.get(self.state, 0.0))
    won = property(lambda self: self.outcome == 1.0)

    def step(self, command):
        self.state = self.moves.get(self.state, {}).get(command, self.state)
        return self.state

    def clone(self):
        return Game(self.moves, self.outcomes, self.state)

    def admissible_commands(self):
        return tuple(sorted(self.moves.get(self.state, {})))


class Everything(Agent):
    """Proposes the admissible commands in turn and counts how often it is asked."""

    name = "everything"

    def __init__(self):
        self.calls = []

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        self.calls.append((len(histories), n))
        return [
            [Action(h.admissible_commands[i % len(h.admissible_commands)], reply=f"{i}") for i in range(n)]
            for h in histories
        ]


def scored(**scores):
    """Scores an action by the name of the state and the command."""
    return FunctionScorer(lambda history, action: scores[f"{history.observation}_{action.command}"], "table")


def opening(game, task="t"):
    return History(task, game.state, game.admissible_commands())


def search(game, scorer, generator=None, **settings):
    return TreeSearch(generator or Everything(), scorer, lambda history: game, **settings)


# "l" looks best and leads to a dead end, which shows one step later.
TRAP = Game(
    {"start": {"l": "left", "r": "right"}, "left": {"a": "left", "b": "left"}, "right": {"a": "right", "b": "goal"}},
    {"goal": 1.0},
)
LOOKS = {"start_l": 0.9, "start_r": 0.4, "left_a": 0.1, "left_b": 0.2, "right_a": 0.3, "right_b": 0.5}


def test_a_trap_that_the_scorer_notices_too_late_is_seen_from_one_step_ahead():
    assert BestOfN(Everything(), scored(**LOOKS), 2).act(opening(TRAP)).command == "l"
    assert search(TRAP, scored(**LOOKS), beam_width=2, beam_factor=2, depth=1).act(opening(TRAP)).command == "l"
    action = search(TRAP, scored(**LOOKS), beam_width=2, beam_factor=2, depth=2).act(opening(TRAP))
    # The plan r, b reaches the goal, which is worth its outcome, not the 0.5 that the scorer gives.
    assert (action.command, dict(action.scores)) == ("r", {"table": 0.4, "plan_value": 1.0})
    assert [(each.command, each.scores["table"]) for each in action.candidates] == [("l", 0.9)]
    assert dict(action.usage) == {"plan_steps": 2, "expanded_states": 3, "scored_actions": 6}
    assert TRAP.state == "start"


def test_a_beam_too_narrow_for_the_good_start_misses_it():
    action = search(TRAP, scored(**LOOKS), beam_width=1, beam_factor=2, depth=2).act(opening(TRAP))
    assert (action.command, action.scores["plan_value"]) == ("l", 0.2)


def test_with_one_plan_and_one_command_the_generator_acts_and_nothing_is_scored():
    def refuse(*_):
        raise AssertionError("not to be asked")

    generator = Everything()
    agent = TreeSearch(generator, FunctionScorer(refuse), refuse, beam_width=1, beam_factor=1)
    histories = [opening(TRAP), History("u", "o", ("x", "y"))]
    assert agent.sample(histories, 2) == generator.sample(histories, 2)
    assert generator.calls == [(2, 2), (2, 2)]


def test_an_end_is_worth_its_outcome_whatever_the_scorer_thinks_of_it():
    game = Game(
        {"start": {"buy": "sold", "look": "more"}, "more": {"buy": "sold better"}}, {"sold": 0.3, "sold better": 0.8}
    )
    looks = {"start_buy": 5.0, "start_look": 0.4, "more_buy": -5.0}
    action = search(game, scored(**looks), beam_width=2, beam_factor=2, depth=2).act(opening(game))
    assert (action.command, action.scores["plan_value"]) == ("look", 0.8)
    # One step ahead the look is worth .4 and the sale .3, though the scorer gives it 5.
    action = search(game, scored(**looks), beam_width=2, beam_factor=2, depth=1).act(opening(game))
    assert action.command == "look"


def test_a_search_ends_with_its_best_plan():
    game = Game({"start": {"a": "goal", "b": "on"}, "on": {"a": "on"}}, {"goal": 1.0})
    generator = Everything()
    action = search(game, scored(start_a=0, start_b=0.9), generator, beam_width=2, beam_factor=2, depth=5).act(
        opening(game)
    )
    assert action.command == "a"
    assert generator.calls == [(1, 4)]


def test_of_plans_worth_the_same_the_first_proposed_wins_and_equal_commands_count_once():
    game = Game({"start": {"a": "x", "b": "y"}, "x": {"c": "x"}, "y": {"c": "y"}}, {})
    # a, b and a again are drawn.
    action = search(game, scored(start_a=0.5, start_b=0.5), beam_width=1, beam_factor=3, depth=1).act(opening(game))
    assert (action.command, action.reply) == ("a", "0")
    assert action.usage["scored_actions"] == 2


def test_inadmissible_commands_count_only_where_there_are_no_others():
    class Slips(Agent):
        def sample(self, histories, n=1):
            return [[Action("fly"), Action("b")][:n] for _ in histories]

    looks = scored(start_fly=9.0, start_a=0.1, start_b=0.2)
    game = Game({"start": {"a": "x", "b": "y"}}, {})
    assert search(game, looks, Slips(), beam_width=1, beam_factor=2, depth=1).act(opening(game)).command == "b"
    free = History("t", "start")
    assert search(game, looks, Slips(), beam_width=1, beam_factor=2, depth=1).act(free).command == "fly"


def test_wrong_settings_and_scores_are_refused():
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        search(TRAP, scored(**LOOKS), depth=0)
    scorer = FunctionScorer(lambda history, action: np.nan, "broken")
    with pytest.raises(ValueError, match="'broken' must give one finite score for each of 2 pairs"):
        search(TRAP, scorer).act(opening(TRAP))


# --- the toy environment ---


def successes(agent):
    trajectories = collect(agent, gym.make_vec(TOY, num_envs=6, max_episode_steps=CAP), range(len(TOY_TASKS)))
    return [trajectory.won for trajectory in trajectories], [len(trajectory.steps) for trajectory in trajectories]


class Deceived(ToyOracle):
    """Exact values, but what is thrown into the pond seems well placed."""

    def score(self, histories, actions):
        thrown = np.array([action.command.startswith("throw") for action in actions])
        return np.where(thrown, 0.99, super().score(histories, actions))


def test_the_contract_of_agents_holds():
    histories = [opening_of(task) for task in range(2)]
    check_agent(TreeSearch(RandomAgent(), ToyOracle(), toy_engine, beam_width=2, beam_factor=2), histories)


def opening_of(task):
    env = gym.make(TOY)
    observation, info = env.reset(seed=task)
    return History(info["task"], observation, info["admissible_commands"], task_id=info["task_id"], seed=task)


def test_several_histories_are_searched_as_they_are_alone():
    histories = [opening_of(task) for task in range(4)]
    scorer = FunctionScorer(lambda history, action: len(history.observation + action.command) % 7 / 7, "odd")
    agent = TreeSearch(RandomAgent(3), scorer, toy_engine, beam_width=2, beam_factor=2, depth=3)
    assert agent.act(histories) == [agent.act(history) for history in histories]


def test_with_exact_values_every_task_is_solved_by_a_shortest_way():
    agent = TreeSearch(Everything(), ToyOracle(), EnvReplay(TOY), beam_width=2, beam_factor=8, depth=2)
    won, lengths = successes(agent)
    # From the start on best play is worth GAMMA ** (shortest - 1).
    shortest = [round(1 + np.log(optimal_q(task, GAMMA).v_L_S[0, 0]) / np.log(GAMMA)) for task in range(len(TOY_TASKS))]
    assert won == [True] * len(TOY_TASKS)
    assert lengths == shortest


def test_tree_search_solves_tasks_that_the_same_scorer_without_it_throws_away():
    without, _ = successes(BestOfN(Everything(), Deceived(), 8))
    within, _ = successes(TreeSearch(Everything(), Deceived(), EnvReplay(TOY), beam_width=4, beam_factor=8, depth=2))
    # The cup lies in the garden, and the pond with it: task 2 takes it up there.
    assert not without[2]
    assert within == [True] * len(TOY_TASKS)
