import pytest

from agentgym_prm.inference import ChatRequest, Usage

SAID = (("user", "Hello"),)


def test_shares_of_usage_add_up_to_it():
    whole = Usage(prompt_tokens=101, completion_tokens=8, cached_tokens=2, requests=1, retries=1, cost=0.3)
    shares = whole.shares(3)
    # 101 = 34 + 34 + 33, 8 = 3 + 3 + 2, 2 = 1 + 1 + 0, and 1 = 1 + 0 + 0.
    assert [share.prompt_tokens for share in shares] == [34, 34, 33]
    assert [share.completion_tokens for share in shares] == [3, 3, 2]
    assert [share.cached_tokens for share in shares] == [1, 1, 0]
    assert [share.requests for share in shares] == [share.retries for share in shares] == [1, 0, 0]
    assert [share.cost for share in shares] == [pytest.approx(0.1)] * 3


def test_an_unknown_cost_stays_unknown_when_usage_is_added():
    assert (Usage(cost=None) + Usage(requests=1, cost=2.0)).cost is None
    assert (Usage(cost=1.0) + Usage(cost=2.0)).cost == 3.0
    assert Usage(cost=None).shares(2)[0].cost is None


def test_usage_survives_json_with_and_without_a_cost():
    for usage in (Usage(1, 2, 3, 4, 5, 0.25), Usage(1, 2, 3, 4, 5, None)):
        assert Usage.from_json(usage.to_json()) == usage
    assert "cost" not in Usage(cost=None).to_json()
    assert str(Usage(1000, 200, 0, 3, 1, None)) == "3 requests (1 retries), 1,200 tokens, cost unknown"


def test_seeds_differ_between_draws_and_samples_and_are_none_without_a_draw():
    request = ChatRequest(SAID, draw=(0, 5, 1, 2))
    seeds = {request.seed(sample) for sample in range(20)}
    seeds |= {ChatRequest(SAID, draw=(0, 5, 1, turn)).seed(0) for turn in range(3, 23)}
    assert len(seeds) == 40
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert request.seed(3) == ChatRequest(SAID, draw=(0, 5, 1, 2)).seed(3)
    assert ChatRequest(SAID).seed(0) is None


@pytest.mark.parametrize("bad", [{"n": 0}, {"max_tokens": 0}, {"temperature": -0.1}, {"messages": ()}])
def test_requests_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=r"must be at least|needs at least"):
        ChatRequest(**{"messages": SAID, **bad})
