import pytest

from agentgym_prm.inference.retry import (
    PermanentFailure,
    RetryPolicy,
    TemporaryFailure,
    parse_retry_after,
    status_failure,
)


def test_waits_double_up_to_the_longest_and_jitter_scales_them():
    policy = RetryPolicy(first_delay=0.5, longest_delay=3.0)
    assert [policy.delay(failures, 1.0) for failures in (1, 2, 3, 4, 99, 5000)] == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]
    assert [policy.delay(3, jitter) for jitter in (0.0, 0.25, 0.5)] == [0.0, 0.5, 1.0]


def test_jitter_comes_on_top_of_what_the_server_asks_for():
    policy = RetryPolicy(first_delay=0.5, longest_delay=3.0)
    assert policy.delay(2, 0.5, retry_after=7.0) == 7.5
    assert policy.delay(2, 0.0, retry_after=0.0) == 0.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:59:00 GMT"}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2026 13:00:10 +0100"}, 10.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "?", "retry-after": "2"}, 2.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers, seconds):
    noon = 1_795_262_400.0  # 2026-11-21 12:00:00 UTC
    assert parse_retry_after(headers, noon) == seconds


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_these_statuses_are_tried_again(status):
    failure = status_failure(status, {"retry-after": "4"}, "busy")
    assert isinstance(failure, TemporaryFailure)
    assert failure.retry_after == 4.0


@pytest.mark.parametrize("status", [307, 400, 401, 402, 403, 404, 413, 422, 501])
def test_these_statuses_are_not(status):
    failure = status_failure(status, {}, "no")
    assert isinstance(failure, PermanentFailure)
    assert failure.status == status


def test_a_used_up_quota_is_not_waited_for_and_the_server_has_the_last_word():
    assert isinstance(status_failure(429, {}, "no", exhausted=True), PermanentFailure)
    assert isinstance(status_failure(503, {"x-should-retry": "false"}, "no"), PermanentFailure)
    assert isinstance(status_failure(400, {"x-should-retry": "true"}, "no"), TemporaryFailure)


def test_a_wait_told_in_the_body_counts_for_want_of_a_header():
    assert status_failure(429, {}, "no", retry_after=17.0).retry_after == 17.0
    assert status_failure(429, {"retry-after": "2"}, "no", retry_after=17.0).retry_after == 2.0


@pytest.mark.parametrize("bad", [{"attempts": 0}, {"empty_attempts": 0}, {"first_delay": -1.0}, {"deadline": -1.0}])
def test_policies_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="must be at least"):
        RetryPolicy(**bad)
