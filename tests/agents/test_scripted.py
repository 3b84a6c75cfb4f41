from collections import Counter

import pytest

from agentgym_prm.agents import ExpertAgent, HandcodedAgent, HumanAgent, RandomAgent, ReplayAgent
from agentgym_prm.envs.alfworld import ALFWorldEnv
from agentgym_prm.testing import check_agent
from agentgym_prm.types import Action, History, Step


def history(episode: int = 0, turns: int = 0, commands: tuple[str, ...] = ("a", "b", "c", "d")) -> History:
    steps = tuple(Step("o", commands, Action("a")) for _ in range(turns))
    return History("task", "o", commands, steps, task_id="t", episode=episode, expert_action="b")


def test_every_scripted_agent_keeps_the_contract():
    histories = [history(episode) for episode in range(3)]
    for agent in (
        RandomAgent(),
        ReplayAgent({"t": ["a"]}),
        ExpertAgent("planner"),
        HumanAgent(lambda history: "typed"),
    ):
        check_agent(agent, histories)


def test_one_history_gives_one_action_and_many_give_many():
    agent = ExpertAgent("planner")
    assert agent.act(history()) == Action("b")
    assert agent.act([history(), history()]) == [Action("b"), Action("b")]


def test_the_random_agent_is_uniform_over_episodes_turns_and_candidates():
    agent = RandomAgent(seed=1)
    over_episodes = Counter(agent.act(history(episode)).command for episode in range(4000))
    over_turns = Counter(agent.act(history(0, turns)).command for turns in range(1000))
    over_candidates = Counter(action.command for action in agent.sample([history()], n=4000)[0])
    for counts, total in ((over_episodes, 4000), (over_turns, 1000), (over_candidates, 4000)):
        # Four equal shares: the standard deviation of a count is sqrt(total * 3/16), and five of them are allowed.
        tolerance = 5 * (total * 3 / 16) ** 0.5
        assert all(abs(counts[command] - total / 4) < tolerance for command in "abcd")


def test_another_seed_draws_otherwise():
    def draws(seed: int) -> list[str]:
        return [RandomAgent(seed).act(history(episode)).command for episode in range(50)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)


def test_the_random_agent_says_what_it_needs():
    with pytest.raises(ValueError, match="needs admissible commands"):
        RandomAgent().act(History("task", "o"))


def test_an_expert_agent_without_an_expert_in_the_environment_says_what_to_do():
    with pytest.raises(ValueError, match="make the environment with expert='planner'"):
        ExpertAgent("planner").act(History("task", "o", ("look",)))


def test_the_handcoded_agent_needs_nothing_but_the_history():
    agent, env = HandcodedAgent(), ALFWorldEnv(difficulty="small", split="valid_unseen", expert="handcoded")
    for seed in range(6):
        observation, info = env.reset(seed=seed)
        past = History(info["task"], observation, info["admissible_commands"], task_id=info["task_id"])
        for _ in range(30):
            action = agent.act(past)
            # The same expert inside the environment, told everything step by step, says the same.
            assert action.command == info["expert_action"]
            step = Step(past.observation, past.admissible_commands, action)
            observation, _, terminated, _, info = env.step(action.command)
            past = past.after(step, observation, {**info, "expert_action": None})
            if terminated:
                break
        assert info["won"]
