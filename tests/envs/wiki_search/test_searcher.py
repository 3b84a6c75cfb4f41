"""Experts inside the environment, and the agent that reads the same from histories."""

from functools import partial

import pytest

from agentgym_prm import ExpertAgent, SearcherAgent, collect
from agentgym_prm.envs.core import TextVectorEnv, opening_history
from agentgym_prm.envs.wiki_search.env import EXPERTS, WikiSearchEnv
from agentgym_prm.envs.wiki_search.protocols import PROTOCOLS
from agentgym_prm.envs.wiki_search.searcher import Searcher
from agentgym_prm.testing import check_agent, check_text_env
from agentgym_prm.types import InfoKey, Trajectory
from tests.envs.wiki_search.passages import QUESTIONS, make


def play(agent, episodes: int = 30, cap: int = 10, **kwargs) -> list[Trajectory]:
    options = {"difficulty": "small", "split": "valid", "suggestions": False, **kwargs}
    envs = TextVectorEnv(partial(WikiSearchEnv, **options), 4, max_episode_steps=cap)
    return collect(agent, envs, range(episodes))


def commands(trajectories) -> list[list[str]]:
    return [[step.action.command for step in each.steps] for each in trajectories]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_oracle_wins_with_one_search_for_each_support(protocol):
    played = play(ExpertAgent("oracle"), expert="oracle", protocol=protocol)
    assert all(each.won for each in played)
    questions = {question.id: question for question in WikiSearchEnv(difficulty="small", split="valid").questions}
    assert [len(each.steps) for each in played] == [len(questions[each.task_id].supports) + 1 for each in played]
    assert all(step.info[InfoKey.VALID_ACTION] for each in played for step in each.steps)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_agent_does_what_the_expert_that_reads_says(protocol):
    advised = play(ExpertAgent("reader"), expert="reader", protocol=protocol)
    assert commands(advised) == commands(play(SearcherAgent(), protocol=protocol))
    assert sum(each.won for each in advised) >= 10


@pytest.mark.parametrize("difficulty", ["small", "full"])
@pytest.mark.parametrize("expert", EXPERTS)
def test_the_text_env_contract_holds_with_experts(expert, difficulty):
    check_text_env(WikiSearchEnv(difficulty=difficulty, expert=expert), seeds=(0, 1))


@pytest.mark.parametrize("expert", EXPERTS)
def test_experts_answer_before_they_search_too_often(expert):
    played = play(ExpertAgent(expert), expert=expert, max_searches=1)
    assert all(len(each.steps) <= 2 and each.steps[-1].info[InfoKey.ANSWER] for each in played)
    assert {len(each.steps) for each in played} == {2}


def test_the_agent_answers_before_its_steps_are_over():
    assert {len(each.steps) for each in play(SearcherAgent(2), cap=2)} == {2}
    assert all(each.steps[-1].info[InfoKey.ANSWER] for each in play(SearcherAgent(2), cap=2))
    assert {len(each.steps) for each in play(SearcherAgent(1), cap=1)} == {1}
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        SearcherAgent(0)


def test_experts_play_on_from_where_others_led():
    env = make(expert="oracle", protocol="react")
    _, info = env.reset(seed=0)
    assert info[InfoKey.EXPERT_ACTION] == "search[Anna Ek]"
    for command in ("look", "search[Oslo]"):
        *_, info = env.step(command)
        assert info[InfoKey.EXPERT_ACTION] == "search[Anna Ek]"
    *_, info = env.step("search[Anna Ek]")
    assert info[InfoKey.EXPERT_ACTION] == "search[Falun]"
    *_, info = env.step("search[Falun]")
    assert info[InfoKey.EXPERT_ACTION] == "finish[Runn]"
    *_, info = env.step("finish[Oslo]")
    assert info[InfoKey.EXPERT_ACTION] == ""


def test_the_agents_contract_holds_in_the_middle_of_episodes():
    played = play(SearcherAgent(), episodes=3, protocol="xml")
    histories = [history for each in played for history in (*each.histories(), each.final_history())]
    check_agent(SearcherAgent(), histories)
    after = SearcherAgent().act([each.final_history() for each in played])
    assert {action.command for action in after} == {""}


def test_a_copy_of_what_was_read_goes_on_alone():
    env = make(protocol="xml")
    observation, info = env.reset(seed=0)
    reading = Searcher.begin(info[InfoKey.TASK], observation, ())
    first = reading.choose()
    twin = reading.copy()
    twin.observe(first, env.step(first)[0], ())
    assert reading.choose() == first != twin.choose()


def test_an_opening_of_another_environment_is_refused():
    with pytest.raises(ValueError, match="no protocol opens with 'You are in a room'"):
        SearcherAgent().act(opening_history("You are in a room", {InfoKey.TASK: QUESTIONS[0].text}))
