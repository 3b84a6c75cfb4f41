from collections import Counter

import gymnasium as gym
import pytest

from agentgym_prm import ExpertAgent, Mixture, RandomAgent, Switch, collect
from agentgym_prm.envs import TOY
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.testing import ScriptedAgent, check_agent
from agentgym_prm.types import Action, History, Step

A, B, C = (ScriptedAgent(lambda history, name=name: name, name) for name in "abc")


def history(episode: int = 0, turns: int = 0, seed: int = 0) -> History:
    steps = tuple(Step("o", ("a", "b", "c"), Action("a")) for _ in range(turns))
    return History("task", "o", ("a", "b", "c"), steps, seed=seed, episode=episode)


def commands(agent, histories, n=1) -> list[str]:
    return ["".join(action.command for action in candidates) for candidates in agent.sample(histories, n)]


def test_the_contract_of_agents_holds():
    histories = [history(episode, turns) for episode in range(3) for turns in range(3)]
    for agent in (Mixture([A, B]), Mixture([A, RandomAgent()], "draw"), Switch(A, B, 1), Switch(A, B, range(5))):
        check_agent(agent, histories)


def test_an_even_split_gives_each_agent_its_share_in_order():
    assert commands(Mixture([A, B]), [history()] * 2, 4) == ["aabb"] * 2
    # Five by three: the first two give one more.
    assert commands(Mixture([A, B, C]), [history()], 5) == ["aabbc"]
    assert commands(Mixture([A, B, C]), [history()], 2) == ["ab"]
    assert Mixture([A, B]).act(history()).command == "a"


def test_a_draw_lets_one_agent_give_all_candidates_of_a_turn():
    histories = [history(episode) for episode in range(2000)]
    drawn = commands(Mixture([A, B], "draw"), histories, 3)
    counts = Counter(drawn)
    assert set(counts) == {"aaa", "bbb"}
    # Binomial: standard deviation sqrt(2000 / 4) = 22.4; four of them.
    assert abs(counts["aaa"] - 1000) < 90
    over_turns = commands(Mixture([A, B], "draw"), [history(0, turns) for turns in range(40)])
    assert set(over_turns) == {"a", "b"}
    assert commands(Mixture([A, B], "draw", seed=1), histories, 3) != drawn


def test_each_agent_is_asked_once_and_for_its_own_histories_only():
    asked = []

    class Counting(ScriptedAgent):
        def sample(self, histories, n=1):
            asked.append((self.name, len(histories), n))
            return super().sample(histories, n)

    both = [Counting(lambda history, name=name: f"{name}{history.episode}", name) for name in "ab"]
    histories = [history(episode) for episode in range(30)]
    answers = commands(Mixture(both, "draw"), histories, 1)
    assert [answer[1:] for answer in answers] == [str(episode) for episode in range(30)]
    assert [name for name, _, _ in asked] == ["a", "b"]
    assert sum(count for _, count, _ in asked) == 30


def test_a_switch_lets_the_other_agent_act_at_exactly_one_turn_of_each_episode():
    agent = Switch(A, B, range(2, 6))
    turns = []
    for episode in range(800):
        acted = commands(agent, [history(episode, turns) for turns in range(8)])
        assert acted.count("b") == 1
        turns.append(acted.index("b"))
    # Uniform over four turns: standard deviation sqrt(800 * 3/16) = 12.2; four of them.
    assert all(abs(turns.count(turn) - 200) < 49 for turn in range(2, 6))
    assert commands(Switch(A, B, 1), [history(0, turns) for turns in range(3)]) == ["a", "b", "a"]


def test_the_turn_of_a_switch_depends_on_seed_and_episode_alone():
    agent = Switch(A, B, range(1000))
    assert agent.turn(history(3, turns=0)) == agent.turn(history(3, turns=9))
    assert len({agent.turn(history(episode)) for episode in range(10)}) > 8
    assert len({agent.turn(history(0, seed=seed)) for seed in range(10)}) > 8
    assert agent.turn(history(3)) != Switch(A, B, range(1000), seed=1).turn(history(3))


@pytest.mark.parametrize("agent", [Mixture([RandomAgent(), A], "draw"), Switch(RandomAgent(), A, range(4))])
def test_the_number_of_slots_changes_no_episode(agent):
    one, many = (collect(agent, gym.make_vec(TOY, num_envs=slots), range(10)) for slots in (1, 7))
    assert one == many


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Mixture([]), ValueError, "at least one agent"),
        (lambda: Mixture([A], "drawn"), UnknownNameError, "did you mean 'draw'"),
        (lambda: Switch(A, B, -1), ValueError, "at must be a turn from 0 on"),
        (lambda: Switch(A, B, range(0)), ValueError, "at must be a turn from 0 on"),
    ],
)
def test_wrong_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_names_tell_what_is_inside():
    assert Mixture([A, ExpertAgent("planner")]).name == "mixture(a, planner)"
    assert Switch(A, B, 0).name == "switch(a, b)"
