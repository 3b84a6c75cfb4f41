"""Which failures are worth another attempt, and how long to wait before it.

One policy for all vendors: their SDKs' own retries, which differ, are switched off. Waits grow exponentially with full
jitter (drawn from 0 on, so that clients that failed together do not come back together); a server's ``Retry-After``
is waited for in any case, and the jitter comes on top.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

_RETRIED: Final = frozenset({408, 409, 425, 429})
"""Besides 500 and above: time-out, lock, too early, rate limit."""
_NOT_IMPLEMENTED: Final = 501


class TemporaryFailure(Exception):
    """An attempt failed in a way that the next one may not.

    Args:
        reason: For a message.
        retry_after: Seconds that the server asks to wait, if it says.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class PermanentFailure(Exception):
    """An attempt failed, and would again. ``status`` is the HTTP status."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a request is tried.

    Attributes:
        attempts: Most attempts, the first one included.
        first_delay: Longest wait before the second attempt, in seconds; doubles from there on.
        longest_delay: Most that it grows to.
        deadline: Seconds after the first attempt began in which another one may begin.
        empty_attempts: Attempts that may bring an empty completion, the last of which is taken as it is: an agent then
            has a reply without a command. Their tokens are counted. Only replies that ended by themselves are tried
            again: a refusal, or thoughts that used up ``max_tokens``, would come out the same.
    """

    attempts: int = 12
    first_delay: float = 0.5
    longest_delay: float = 30.0
    deadline: float = 600.0
    empty_attempts: int = 3

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.empty_attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {self.attempts} and {self.empty_attempts}")
        if min(self.first_delay, self.longest_delay, self.deadline) < 0:
            raise ValueError("delays and the deadline must be at least 0 seconds")

    def delay(self, failures: int, uniform: float, retry_after: float | None = None) -> float:
        """Seconds to wait after so many failures.

        Args:
            failures: Of this request so far, at least 1.
            uniform: The jitter, in ``[0, 1)``.
            retry_after: What the server asks for.

        >>> RetryPolicy(first_delay=1.0, longest_delay=5.0).delay(3, 0.5)
        2.0
        >>> RetryPolicy(first_delay=1.0, longest_delay=5.0).delay(9, 0.5, retry_after=10.0)
        12.5
        """
        # An exponent of more than a thousand would overflow.
        longest = min(self.longest_delay, self.first_delay * 2.0 ** min(failures - 1, 64))
        return (retry_after or 0.0) + uniform * longest


def status_failure(
    status: int, headers: Mapping[str, str], reason: str, *, exhausted: bool = False, retry_after: float | None = None
) -> TemporaryFailure | PermanentFailure:
    """What a reply with an error status means.

    Args:
        status: HTTP status.
        headers: Of the reply, with names in any case if the mapping takes them so.
        reason: What the server says.
        exhausted: The reply tells that money or a day's quota is used up, which waiting does not mend.
        retry_after: Seconds to wait that the body tells, for want of a header.
    """
    told = headers.get("x-should-retry")
    retried = status in _RETRIED or (status >= 500 and status != _NOT_IMPLEMENTED)
    if exhausted or told == "false" or not (retried or told == "true"):
        return PermanentFailure(reason, status)
    after = parse_retry_after(headers, time.time())
    return TemporaryFailure(f"status {status}: {reason}", retry_after if after is None else after)


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a server asks to wait, from 0 on; ``None`` if it does not, or says it in no known form.

    Args:
        headers: ``retry-after-ms``, or ``retry-after`` as seconds or as an HTTP date.
        now: Seconds since the epoch.

    >>> parse_retry_after({"retry-after": "2.5"}, 0.0), parse_retry_after({"retry-after-ms": "40"}, 0.0)
    (2.5, 0.04)
    >>> parse_retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 45.0)
    15.0
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = _number(headers.get(name))
        if seconds is not None:
            return max(0.0, seconds * unit)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, date.timestamp() - now)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= abs(number) < float("inf") else None
