"""Every failure that networks and vendors have to offer, against the real SDKs and a real server."""

import threading
import time
from dataclasses import replace
from email.utils import formatdate

import gymnasium as gym
import pytest

import agentgym_prm  # noqa: F401 - registers the environments
from agentgym_prm.agents.chat_api import ChatAgent
from agentgym_prm.errors import BudgetExceededError, ServiceError
from agentgym_prm.inference import Budget, ChatRequest, CompletionCache, RetryPolicy, connect
from agentgym_prm.rollout import collect
from tests.inference.stub import MODELS, Fault, Stub

QUICK = RetryPolicy(first_delay=0.005, longest_delay=0.02)
PATIENT = RetryPolicy(attempts=200, first_delay=0.005, longest_delay=0.02, empty_attempts=20)
"""More than half of the replies fail below: nobody is to be so unlucky that it shows."""
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
        asked = model(stub, vendor, retry=PATIENT, cache=CompletionCache(tmp_path / "cache"))
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


ONE = ChatRequest((("user", "COMMANDS:\ngo"),))


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault("status", status) for status in (408, 409, 425, 429, 500, 502, 503, 529)),
        *(Fault(kind) for kind in ("cut", "reset", "garbage", "html", "empty")),
        Fault("status", 200, body={}),
        Fault("status", 200, body={"choices": [], "content": None, "candidates": []}),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_a_failure_that_passes_is_tried_again(vendor, fault):
    with Stub(lambda number: fault if number < 2 else None) as stub:
        asked = model(stub, vendor)
        ((completion,),) = asked.complete([ONE])
    assert completion.text.startswith("REASON:")
    assert (completion.usage.requests, completion.usage.retries, len(stub.asked)) == (3, 2, 3)
    assert asked.budget.spent == completion.usage


@pytest.mark.parametrize("kind", ["silence", "drip"])
def test_a_reply_that_is_not_whole_in_time_is_asked_for_again(vendor, kind):
    # Each piece of the slow one comes in less than the limit: it is the whole that is late.
    fault = Fault(kind, seconds=0.6, lost=True)
    with Stub(lambda number: fault if number < 1 else None) as stub:
        ((completion,),) = model(stub, vendor, timeout=0.3).complete([ONE])
    assert (completion.usage.requests, len(stub.asked)) == (2, 2)


def test_a_slow_reply_that_is_whole_in_time_is_taken(vendor):
    with Stub(lambda number: Fault("drip", seconds=0.2)) as stub:
        ((completion,),) = model(stub, vendor).complete([ONE])
    assert (completion.usage.requests, completion.text) == (1, stub.told[0].texts[0])


def test_what_the_server_asks_to_wait_is_waited_for(vendor):
    began = time.monotonic()
    with Stub(lambda number: Fault("status", 429, {"retry-after": "0.3"}) if number < 1 else None) as stub:
        model(stub, vendor).complete([ONE])
    assert 0.3 <= time.monotonic() - began < 3.0


def test_a_wait_until_a_date_is_waited_for(openai_sdk):
    began = time.time()
    until = int(began) + 2.0
    fault = Fault("status", 503, {"retry-after": formatdate(until, usegmt=True)})
    with Stub(lambda number: fault if number < 1 else None) as stub:
        model(stub, "openai").complete([ONE])
    assert until <= time.time() < until + 3


def test_gemini_tells_its_wait_in_the_body():
    pytest.importorskip("google.genai", reason="needs the vendors' SDKs: pip install -e '.[api]'")
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.3s"}]
    body = {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED", "details": details}}
    began = time.monotonic()
    with Stub(lambda number: Fault("status", 429, body=body) if number < 1 else None) as stub:
        model(stub, "gemini").complete([ONE])
    assert time.monotonic() - began >= 0.3


def test_a_server_that_never_recovers_is_given_up_after_the_attempts(vendor):
    with Stub(lambda number: Fault("status", 503, message="down for good")) as stub:
        asked = model(stub, vendor, retry=RetryPolicy(attempts=3, first_delay=0.001))
        with pytest.raises(ServiceError, match=r"in 3 attempts .* the last time: status 503: down for good") as caught:
            asked.complete([ONE])
    assert f"{vendor}:{MODELS[vendor]} at {stub.url(vendor)}" in str(caught.value)
    assert (asked.budget.spent.requests, len(stub.asked)) == (3, 3)


def test_a_wait_past_the_deadline_is_not_begun(vendor):
    with Stub(lambda number: Fault("status", 429, {"retry-after": "3600"})) as stub:
        asked = model(stub, vendor, retry=RetryPolicy(deadline=60.0))
        with pytest.raises(ServiceError, match="the next may begin in 3600 s only"):
            asked.complete([ONE])
    assert len(stub.asked) == 1


def test_a_server_that_is_not_there_is_told_with_its_address(vendor):
    with Stub() as stub:
        url = stub.url(vendor)
    asked = connect(f"{vendor}:m", base_url=url, retry=RetryPolicy(attempts=2, first_delay=0.001))
    with pytest.raises(ServiceError, match="the connection failed") as caught:
        asked.complete([ONE])
    assert url in str(caught.value)


@pytest.mark.parametrize(
    ("status", "hint"),
    [(400, "too long"), (401, "API key"), (402, "credit"), (403, "API_KEY"), (404, "base URL"), (422, "as the API")],
)
def test_a_failure_that_lasts_is_told_at_once(vendor, status, hint):
    said = rf"refused a request \(status {status}\).*because.*{hint}"
    with Stub(lambda number: Fault("status", status, message="because")) as stub:
        asked = model(stub, vendor)
        with pytest.raises(ServiceError, match=said) as caught:
            asked.complete([ONE])
    assert f"{vendor}:{MODELS[vendor]} at {stub.url(vendor)}" in str(caught.value)
    assert len(stub.asked) == 1


def test_a_redirect_is_not_followed_with_the_key(vendor):
    with Stub(lambda number: Fault("status", 307, {"location": "http://127.0.0.1:1/elsewhere"})) as stub:
        asked = model(stub, vendor)
        with pytest.raises(ServiceError, match="the address that it redirects to"):
            asked.complete([ONE])
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("openai", {"error": {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}}),
        ("anthropic", {"type": "error", "error": {"type": "billing_error", "message": "credit"}}),
        ("gemini", {"error": {"code": 429, "details": [{"violations": [{"quotaId": "RequestsPerDayPerModel"}]}]}}),
    ],
)
def test_a_used_up_quota_is_not_waited_for(name, body):
    pytest.importorskip({"gemini": "google.genai"}.get(name, name), reason="needs the SDKs: pip install -e '.[api]'")
    with Stub(lambda number: Fault("status", 429, body=body)) as stub:
        asked = model(stub, name)
        with pytest.raises(ServiceError, match="the quota is used up"):
            asked.complete([ONE])
    assert len(stub.asked) == 1


def test_a_reply_that_stays_empty_is_taken_as_it_is_and_its_tokens_are_counted(vendor):
    with Stub(lambda number: Fault("empty")) as stub:
        ((completion,),) = model(stub, vendor).complete([ONE])
    assert completion.text == ""
    assert completion.usage.requests == len(stub.asked) == 3
    assert completion.usage.prompt_tokens == sum(told.prompt_tokens for told in stub.told) == 100 + 101 + 102


def many(count):
    return [ChatRequest((("user", f"COMMANDS:\ngo {number}"),)) for number in range(count)]


def test_an_error_loses_none_of_what_was_finished_before_it(vendor, tmp_path):
    cache = CompletionCache(tmp_path)
    with Stub(lambda number: Fault("status", 400) if number == 3 else None) as stub:
        asked = model(stub, vendor, cache=cache, concurrency=1)
        with pytest.raises(ServiceError, match="status 400"):
            asked.complete(many(10))
        assert len(stub.asked) == asked.budget.spent.requests == 4
        stub.fault = lambda number: None
        completions = model(stub, vendor, cache=cache).complete(many(10))
    assert len(stub.asked) == 4 + 7
    assert [group[0].from_cache for group in completions] == [True] * 3 + [False] * 7
    assert [group[0].text.splitlines()[-1] for group in completions] == [f"go {number}" for number in range(10)]


def test_requests_that_are_out_when_one_fails_are_waited_for_and_kept(openai_sdk, tmp_path):
    cache = CompletionCache(tmp_path)
    with Stub(lambda number: Fault("status", 400) if number == 3 else Fault("drip", seconds=0.3)) as stub:
        asked = model(stub, "openai", cache=cache, concurrency=4)
        with pytest.raises(ServiceError):
            asked.complete(many(20))
        assert len(stub.asked) == 4
        stub.fault = lambda number: None
        completions = model(stub, "openai", cache=cache).complete(many(20))
    assert sum(group[0].from_cache for group in completions) == 3
    assert asked.budget.spent.prompt_tokens == sum(told.prompt_tokens for told in stub.told[:3])


def test_a_request_in_its_pause_gives_up_when_another_fails(openai_sdk):
    faults = {0: Fault("status", 429, {"retry-after": "30"}), 1: Fault("status", 401)}
    began = time.monotonic()
    with Stub(faults.get) as stub, pytest.raises(ServiceError, match="status 401"):
        model(stub, "openai", concurrency=2).complete(many(2))
    assert time.monotonic() - began < 5


def test_one_limit_holds_for_all_calls_of_a_model(openai_sdk):
    with Stub(delay=0.03) as stub:
        asked = model(stub, "openai", concurrency=4)
        threads = [threading.Thread(target=asked.complete, args=(many(8),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(stub.asked) == 24
    assert stub.most_at_once == 4


def test_completions_come_in_the_order_of_their_requests(openai_sdk):
    with Stub(lambda number: Fault("drip", seconds=0.2) if number < 4 else None) as stub:
        completions = model(stub, "openai").complete(many(30))
    assert [group[0].text.splitlines()[-1] for group in completions] == [f"go {number}" for number in range(30)]


def test_a_second_run_asks_for_nothing_and_one_with_another_draw_for_everything(vendor, tmp_path):
    cache = CompletionCache(tmp_path)
    drawn = [ChatRequest((("user", "COMMANDS:\na\nb"),), n=2, draw=(0, episode)) for episode in range(3)]
    with Stub() as stub:
        first = model(stub, vendor, cache=cache).complete(drawn)
        sent = len(stub.asked)
        again = model(stub, vendor, cache=cache)
        second = again.complete(drawn)
        assert len(stub.asked) == sent
        assert again.budget.spent.requests == 0
        assert [[replace(each, from_cache=False) for each in group] for group in second] == first
        # Equal conversations of other episodes are draws of their own.
        assert len({each.text for group in first for each in group}) == 6
        model(stub, vendor, cache=cache).complete([replace(each, draw=(1, *each.draw[1:])) for each in drawn])
    assert len(stub.asked) == 2 * sent


def test_more_samples_of_a_cached_request_are_asked_for_alone(openai_sdk, tmp_path):
    cache = CompletionCache(tmp_path)
    with Stub() as stub:
        asked = model(stub, "openai", cache=cache)
        (two,) = asked.complete([replace(ONE, n=2)])
        (five,) = asked.complete([replace(ONE, n=5)])
    assert [each.text for each in five[:2]] == [each.text for each in two]
    assert [each.body.get("n") for each in stub.asked] == [2, 3]


def test_the_budget_counts_what_is_out_and_stops_exactly(vendor):
    with Stub(delay=0.02) as stub:
        asked = model(stub, vendor, budget=Budget(requests=10))
        with pytest.raises(BudgetExceededError, match="budget of 10 requests"):
            asked.complete(many(40))
    assert len(stub.asked) == asked.budget.spent.requests == 10


def test_retries_use_up_a_budget_of_requests_too(vendor):
    with Stub(lambda number: Fault("status", 500)) as stub, pytest.raises(BudgetExceededError):
        model(stub, vendor, budget=Budget(requests=4)).complete([ONE])
    assert len(stub.asked) == 4


def test_a_budget_of_tokens_is_never_exceeded_and_not_given_up_while_replies_are_out(openai_sdk):
    # A request may take 8 + 7 tokens of prompt, more than the text of 13 bytes has, and 500 of reply; it takes 101 to
    # 158. Two fit side by side, so 40 at a time have to wait for each other.
    requests = [replace(request, max_tokens=500) for request in many(6)]
    with Stub() as stub:
        asked = model(stub, "openai", budget=Budget(tokens=1200))
        asked.complete(requests)
        assert asked.budget.spent.tokens < 1200
        with pytest.raises(BudgetExceededError, match="budget of 1,200 tokens"):
            asked.complete(many(40))
    assert asked.budget.spent.tokens <= 1200
