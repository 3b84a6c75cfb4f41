import threading
import time

import pytest

from agentgym_prm.errors import BudgetExceededError
from agentgym_prm.inference import Budget, Usage

MOST = Usage(prompt_tokens=60, completion_tokens=40, requests=1, cost=0.01)
USED = Usage(prompt_tokens=20, completion_tokens=10, requests=1, cost=0.003)


@pytest.mark.parametrize(
    ("limits", "requests"),
    [
        # Each request may take 100 tokens and takes 30. The k-th fits if 30 (k - 1) + 100 <= 250: k <= 6.
        ({"tokens": 250}, 6),
        ({"requests": 4}, 4),
        # 0.003 (k - 1) + 0.01 <= 0.02: k <= 4.33.
        ({"cost": 0.02}, 4),
        ({"tokens": 250, "requests": 9, "cost": 0.02}, 4),
    ],
)
def test_requests_one_after_the_other_stop_before_the_limit(limits, requests):
    budget = Budget(**limits)
    for _ in range(requests):
        budget.reserve(MOST)
        budget.settle(MOST, USED)
    with pytest.raises(BudgetExceededError, match="does not allow another request"):
        budget.reserve(MOST)
    assert budget.spent.requests == requests


def test_what_is_out_counts_and_is_waited_for():
    budget = Budget(tokens=250)
    budget.reserve(MOST)
    budget.reserve(MOST)
    reserved = threading.Event()

    def third():
        budget.reserve(MOST)
        reserved.set()

    thread = threading.Thread(target=third, daemon=True)
    thread.start()
    assert not reserved.wait(0.05)  # 200 tokens are out: a third request might make it 300
    budget.settle(MOST, USED)
    assert reserved.wait(5)  # 30 spent, 100 out, and 100 more are 230
    thread.join()


def test_a_budget_that_is_spent_while_one_waits_ends_the_wait():
    budget = Budget(requests=1)
    budget.reserve(MOST)
    errors = []

    def second():
        try:
            budget.reserve(MOST)
        except BudgetExceededError as error:
            errors.append(error)

    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    time.sleep(0.02)
    budget.settle(MOST, USED)
    thread.join(5)
    assert len(errors) == 1
    assert "1 requests (0 retries), 30 tokens, 0.0030 USD" in str(errors[0])


def test_without_a_limit_spending_is_counted_all_the_same():
    budget = Budget()
    for _ in range(3):
        budget.reserve(MOST)
        budget.settle(MOST, USED)
    assert (budget.spent.tokens, budget.spent.cost) == (90, pytest.approx(0.009))


@pytest.mark.parametrize("limit", [{"tokens": 0}, {"requests": -1}, {"cost": 0.0}])
def test_a_limit_must_be_positive(limit):
    with pytest.raises(ValueError, match="must be positive"):
        Budget(**limit)
