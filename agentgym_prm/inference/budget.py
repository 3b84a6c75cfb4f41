"""What may be spent, checked before each request is sent."""

import threading

from agentgym_prm.errors import BudgetExceededError
from agentgym_prm.inference.core import Usage


class Budget:
    """A limit on tokens, requests and money; safe to share between threads and models.

    What a request may take at most is set aside before it is sent: its prompt, estimated from above, and as many tokens
    as it allows for the reply. If that does not fit beside what is spent and what others have set aside, it waits for
    these to come back; if none is out, the budget is spent. So it is not exceeded, unless a server counts more tokens
    than the estimate. What it counts is this process's spending: a run that is resumed begins anew.

    Args:
        tokens: Most prompt and completion tokens together; ``None`` for no limit.
        requests: Most requests sent, retries included.
        cost: Most US dollars.

    Raises:
        ValueError: A limit is not positive.
    """

    def __init__(self, *, tokens: int | None = None, requests: int | None = None, cost: float | None = None) -> None:
        for name, limit in (("tokens", tokens), ("requests", requests), ("cost", cost)):
            if limit is not None and limit <= 0:
                raise ValueError(f"a budget of {name} must be positive, got {limit}")
        self.tokens, self.requests, self.cost = tokens, requests, cost
        self._spent, self._reserved, self._out = Usage(), Usage(), 0
        self._changed = threading.Condition()

    @property
    def spent(self) -> Usage:
        """What has been spent; also without a limit."""
        with self._changed:
            return self._spent

    def reserve(self, most: Usage) -> None:
        """Set aside what a request may take; ``settle`` gives it back.

        Raises:
            BudgetExceededError: It does not fit, with nothing out that could come back.
        """
        with self._changed:
            while not self._fits(most):
                if not self._out:
                    raise BudgetExceededError(self._message(most))
                self._changed.wait()
            self._reserved, self._out = self._reserved + most, self._out + 1

    def settle(self, reserved: Usage, used: Usage) -> None:
        """Replace what was set aside by what was used."""
        with self._changed:
            self._spent = self._spent + used
            self._out -= 1
            self._reserved = self._reserved - reserved if self._out else Usage()
            self._changed.notify_all()

    def _fits(self, most: Usage) -> bool:
        total = self._spent + self._reserved + most
        return (
            (self.tokens is None or total.tokens <= self.tokens)
            and (self.requests is None or total.requests <= self.requests)
            and (self.cost is None or (total.cost is not None and total.cost <= self.cost))
        )

    def _message(self, most: Usage) -> str:
        spent = self._spent
        limits = {"tokens": self.tokens, "requests": self.requests, "USD": self.cost}
        allowed = ", ".join(f"{limit:,} {name}" for name, limit in limits.items() if limit is not None)
        if self.cost is not None and (spent.cost is None or most.cost is None):
            return f"the budget is {allowed}, but the model's price is not known: give a price table"
        return (
            f"the budget of {allowed} does not allow another request, which may take {most.tokens:,} tokens; spent so "
            f"far: {spent}. What is finished is kept: raise the budget and resume"
        )
