from collections.abc import Sequence
from dataclasses import replace

import pytest

from agentgym_prm.agents.best_of_n import BestOfN
from agentgym_prm.agents.chat_api import ChatAgent
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.evaluate import EpisodeResult
from agentgym_prm.inference.core import ChatRequest, Completion, Usage
from agentgym_prm.rewards.core import FunctionScorer
from agentgym_prm.types import Action, History, Step, Trajectory

USAGE = Usage(prompt_tokens=50, completion_tokens=7, cached_tokens=5, requests=2, retries=1, cost=0.25)


class Scripted:
    """A chat model that says what it is told to, and keeps what it was asked."""

    name = "openai:org/some-model"

    def __init__(self, *texts, **fields):
        self.texts, self.fields, self.asked = list(texts), fields, []

    def complete(self, requests: Sequence[ChatRequest]) -> list[list[Completion]]:
        self.asked += requests
        return [
            [Completion(self.texts.pop(0), usage=USAGE, **self.fields) for _ in range(request.n)]
            for request in requests
        ]


def reply(command: str) -> str:
    return f"REASON:\nbecause\nACTION:\n{command}"


def history(turns: int = 0, **fields) -> History:
    steps = tuple(
        Step(f"You see room {turn}.", ("go north", "stay"), Action("go north", reply=reply("go north")))
        for turn in range(turns)
    )
    return History("find the apple", f"You see room {turns}.", ("go north", "stay"), steps, **fields)


def test_a_reply_becomes_an_action_with_its_usage():
    (action,) = ChatAgent(Scripted(reply("Go north."), stop_reason="end")).act([history()])
    assert (action.command, action.reasoning, action.reply) == ("go north", "because", reply("Go north."))
    assert action.usage == {
        "prompt_tokens": 50, "completion_tokens": 7, "cached_tokens": 5, "requests": 2, "retries": 1, "cost": 0.25,
    }  # fmt: skip
    assert (action.stop_reason, action.token_ids, action.scores) == ("end", (), {})


@pytest.mark.parametrize("text", ["", "I cannot help with that.", "REASON:\nbecause\nACTION:\n"])
def test_a_reply_without_a_command_is_an_empty_command_with_a_parse_error(text):
    (action,) = ChatAgent(Scripted(text, stop_reason="refusal")).act([history()])
    assert (action.command, action.scores, action.stop_reason) == ("", {"parse_error": 1.0}, "refusal")


def test_all_histories_go_into_one_call_and_candidates_stay_with_theirs():
    model = Scripted(*(reply(f"take {number}") for number in range(6)))
    candidates = ChatAgent(model).sample([history(), history(1)], n=3)
    assert [[action.command for action in group] for group in candidates] == [
        ["take 0", "take 1", "take 2"], ["take 3", "take 4", "take 5"],
    ]  # fmt: skip
    assert [request.n for request in model.asked] == [3, 3]


def test_the_model_sees_the_conversation_so_far():
    model = Scripted(reply("stay"))
    ChatAgent(model, temperature=0.4, max_tokens=33, stop=["END"]).act([history(1)])
    (request,) = model.asked
    assert [role for role, _ in request.messages] == ["system", "user", "assistant", "user"]
    assert request.messages[2][1] == reply("go north")
    assert "You see room 1." in request.messages[3][1]
    assert "go north\nstay" in request.messages[3][1]
    assert (request.temperature, request.max_tokens, request.stop) == (0.4, 33, ("END",))


def test_draws_are_told_apart_by_seed_episode_and_turn():
    agents = [ChatAgent(Scripted(*[reply("stay")] * 9), seed=seed) for seed in (0, 1)]
    histories = [history(), history(1), history(seed=1), history(seed=1, episode=4)]
    for agent in agents:
        agent.act(histories)
    draws = [request.draw for agent in agents for request in agent.model.asked]
    assert len(set(draws)) == 8
    # The same ones whatever stands beside them.
    agents[0].act([histories[3]])
    assert agents[0].model.asked[-1].draw == draws[3]


def test_turns_beyond_max_turns_are_not_shown_and_counted():
    model = Scripted(reply("stay"))
    (action,) = ChatAgent(model, Prompt.load("reason_action", max_turns=2)).act([history(3)])
    shown = " ".join(content for _, content in model.asked[0].messages)
    assert ["room 1" in shown, "room 2" in shown, "room 3" in shown] == [False, True, True]
    assert action.usage["dropped_turns"] == 2


def test_the_oldest_turns_go_first_when_the_conversation_is_too_long():
    prompt = Prompt.load("reason_action")

    def length(dropped):
        return sum(len(message.content) for message in prompt.messages(history(3), dropped))

    for limit, dropped in ((length(0), 0), (length(0) - 1, 1), (length(2), 2), (length(3), 3)):
        (action,) = ChatAgent(Scripted(reply("stay")), prompt, max_characters=limit).act([history(3)])
        assert action.usage.get("dropped_turns", 0) == dropped
    with pytest.raises(ValueError, match="turn 3 alone takes"):
        ChatAgent(Scripted(), prompt, max_characters=length(3) - 1).act([history(3)])


def test_a_completion_from_the_cache_says_so_and_an_unknown_cost_is_left_out():
    model = Scripted(reply("stay"), from_cache=True)
    (action,) = ChatAgent(model).act([history()])
    assert action.usage["from_cache"] == 1
    model = Scripted()
    model.complete = lambda requests: [[Completion(reply("stay"), usage=replace(USAGE, cost=None))]]
    assert "cost" not in ChatAgent(model).act([history()])[0].usage


def test_its_name_can_name_a_folder():
    assert ChatAgent(Scripted()).name == "openai-org-some-model"
    assert ChatAgent(Scripted(), name="mine").name == "mine"


def episode(*actions: Action) -> EpisodeResult:
    return EpisodeResult.of(Trajectory("t", 0, tuple(Step("o", (), action) for action in actions), "end"))


def test_usage_of_an_episode_counts_the_candidates_that_were_not_taken():
    agent = ChatAgent(Scripted(*[reply("stay")] * 8))
    best = BestOfN(agent, FunctionScorer(lambda history, action: 0.0), 4)
    result = episode(*best.act([history(), history(1)]))
    # Two turns of four candidates, each of which says 50 + 7 tokens, 2 requests and 0.25 USD.
    assert (result.prompt_tokens, result.completion_tokens, result.requests, result.cost) == (400, 56, 16, 2.0)


def test_the_cost_of_an_episode_is_unknown_if_that_of_one_reply_is():
    known, unknown = Action("a", usage={"requests": 1, "cost": 0.5}), Action("a", usage={"requests": 1})
    assert episode(known, known).cost == 1.0
    assert episode(known, unknown).cost is None
    # Whoever asks no server costs nothing that could be told.
    assert episode(Action("a", usage={"prompt_tokens": 3})).cost is None
