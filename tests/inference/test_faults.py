"""Every failure that networks and vendors have to offer, against the real SDKs and a real server."""

import gymnasium as gym
import pytest

import agentgym_prm  # noqa: F401 - registers the environments
from agentgym_prm.agents.chat_api import ChatAgent
from agentgym_prm.errors import BudgetExceededError, ServiceError
from agentgym_prm.inference import Budget, ChatRequest, CompletionCache, RetryPolicy, connect
from agentgym_prm.rollout import collect
from tests.inference.stub import MODELS, Fault, Stub

QUICK = RetryPolicy(first_delay=0.005, longest_delay=0.02)
TIMEOUT = 2.0
"""Long enough for a busy machine; the faults that reach it come close together, so that they cost it once."""
FAULTS = {
    1: Fault("status", 429, {"retry-after": "0.01"}),
    3: Fault("status", 429),
    5: Fault("status", 500),
    7: Fault("status", 503, {"retry-after-ms": "5"}),
    9: Fault("status", 529),
    11: Fault("cut"),
    13: Fault("garbage"),
    15: Fault("empty"),
    16: Fault("html"),
    17: Fault("reset"),
    19: Fault("drip", seconds=0.05),
}


def model(stub, vendor, **settings):
    settings = {"timeout": TIMEOUT, "retry": QUICK, **settings}
    return connect(f"{vendor}:{MODELS[vendor]}", base_url=stub.url(vendor), **settings)


def all_kinds(number):
    if 40 <= number < 43:
        return Fault("silence", seconds=TIMEOUT + 1)
    if 43 <= number < 46:
        return Fault("drip", seconds=1.6 * TIMEOUT, lost=True)
    return FAULTS.get(number % 20) if number < 400 else None


def test_two_hundred_episodes_under_all_faults_are_complete_without_duplicate_or_lost_usage(vendor, tmp_path):
    with Stub(all_kinds) as stub:
        asked = model(stub, vendor, cache=CompletionCache(tmp_path / "cache"))
        envs = gym.make_vec("agentgym_prm/Toy-v0", num_envs=32, max_episode_steps=2)
        trajectories = collect(ChatAgent(asked), envs, range(200), path=tmp_path / "t.jsonl")
        envs.close()
    assert [trajectory.episode for trajectory in trajectories] == list(range(200))
    actions = [step.action for trajectory in trajectories for step in trajectory.steps]
    assert all(trajectory.steps[-1].truncated or trajectory.steps[-1].terminated for trajectory in trajectories)
    assert len(actions) >= 390  # two steps an episode, less where the first or second one reaches the goal
    assert not any("parse_error" in action.scores for action in actions)
    # Each reply is numbered, so equal lists mean: every one used once, none twice, none lost.
    replies = [action.reply for action in actions]
    assert sorted(replies) == sorted(text for told in stub.told for text in told.texts if text)
    assert {number % 20 for number in range(len(stub.asked))} >= set(FAULTS)
    assert stub.most_at_once <= 32
    used = {name: sum(action.usage[name] for action in actions) for name in ("requests", "retries", "cost")}
    total = asked.budget.spent
    assert (used["requests"], used["retries"]) == (total.requests, total.retries)
    assert used["requests"] == len(stub.asked)
    assert used["retries"] == used["requests"] - len(actions)
    # The tokens of empty replies, which were asked for again, are counted too.
    for name in ("prompt_tokens", "completion_tokens"):
        assert sum(action.usage[name] for action in actions) == sum(getattr(told, name) for told in stub.told)
    assert used["cost"] == pytest.approx(total.cost)
