"""A server that answers JSON with JSON: many requests side by side, retried, clear errors.

For what chat APIs do not have: scores, token ids, log-probabilities, reloading weights. Nothing is kept on disk, and
nothing is priced.
"""

import json
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any, Final, TypeVar

from agentgym_prm.errors import ServiceError
from agentgym_prm.inference.http import http_client
from agentgym_prm.inference.keys import Key, find_key
from agentgym_prm.inference.retry import PermanentFailure, RetryPolicy, TemporaryFailure, status_failure
from agentgym_prm.inference.vendor import checked_url, dropped_connection

_log = logging.getLogger(__name__)
_Read = TypeVar("_Read")
_RETRY: Final = RetryPolicy(attempts=6, longest_delay=10.0, deadline=120.0)
"""Shorter than for chat APIs: a server of one's own that stays away is down, not busy."""
_HINTS: Final = {
    401: "is the key right?",
    403: "is the key right?",
    404: "is the address right, and the model's name?",
    405: "is the address right?",
    413: "ask for fewer at a time",
}


class JSONService:
    """Requests to one server; safe to use from several threads.

    Args:
        base_url: Its address, without the paths.
        concurrency: Most requests out at a time, for all calls together.
        timeout: Seconds within which a whole reply has to arrive.
        retry: Which failures are tried again.
        key_variables: Variables of the environment, or of ``.env``, that may hold a key for it.
        jitter: Draws the jitter of waits, in ``[0, 1)``.

    Raises:
        UsageError: ``base_url`` is no http address, or holds a password.
    """

    def __init__(
        self,
        base_url: str,
        *,
        concurrency: int = 32,
        timeout: float = 120.0,
        retry: RetryPolicy | None = None,
        key_variables: Sequence[str] = (),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency}")
        if timeout <= 0:
            raise ValueError(f"timeout must be positive, got {timeout}")
        self.base_url = checked_url(base_url)
        self._concurrency, self._timeout, self._retry, self._jitter = concurrency, timeout, retry or _RETRY, jitter
        self._key_variables = tuple(key_variables)
        self._key = find_key(key_variables) or Key("")
        self._connected: tuple[int, Any, ThreadPoolExecutor] | None = None
        self._lock = threading.Lock()
        self._calls: set[threading.Event] = set()

    def get(self, path: str, *, attempts: int = 1) -> Any:
        """The JSON value at ``path``; ``None`` if the reply is empty.

        Raises:
            ServiceError: The server does not answer, or refuses.
        """
        return self._answer("GET", path, None, attempts, threading.Event())

    def tell(self, path: str, body: Any = None) -> Any:
        """The reply to one request, a text if it is no JSON.

        Raises:
            ServiceError: As ``post``.
        """
        return self.post(path, [body or {}], lambda _, reply: reply)[0]

    def give_up(self) -> None:
        """End the calls that run in other threads; what is out is waited for."""
        with self._lock:
            for stopped in self._calls:
                stopped.set()

    def post(self, path: str, bodies: Sequence[Any], read: Callable[[Any, Any], _Read]) -> list[_Read]:
        """What ``read`` makes of each body and its reply, in their order; all are sent side by side.

        ``read`` raises ``ValueError``, ``TypeError`` or ``LookupError`` for a reply of another form.

        Raises:
            ServiceError: One was refused, not answered in spite of retries, or answered in another form.
        """
        stopped = threading.Event()

        def ask(body: Any) -> _Read:
            reply = self._answer("POST", path, body, self._retry.attempts, stopped)
            try:
                return read(body, reply)
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                shown = self._key.redact(json.dumps(reply))[:200]
                raise ServiceError(
                    f"{self.base_url}{path} answered in another form ({error}): {shown} (is it the right kind of "
                    "server, with a model of the right kind?)"
                ) from None

        _, pool = self._connection()
        with self._lock:
            self._calls.add(stopped)
        futures: list[Future[_Read]] = []
        try:
            futures += [pool.submit(ask, body) for body in bodies]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if not all(future.done() for future in futures):
                stopped.set()
                for future in futures:
                    future.cancel()
                wait(futures)
            with self._lock:
                self._calls.discard(stopped)
        errors = [future.exception() for future in futures if not future.cancelled()]
        for error in errors:
            if error is not None and not isinstance(error, CancelledError):
                raise error
        return [future.result() for future in futures]

    def _answer(self, method: str, path: str, body: Any, attempts: int, stopped: threading.Event) -> Any:
        began, failures = time.monotonic(), 0
        content = None if body is None else json.dumps(body, default=plain).encode()
        while True:
            if stopped.is_set():
                raise CancelledError
            try:
                return self._attempt(method, path, content)
            except TemporaryFailure as error:
                failure = error
            except PermanentFailure as error:
                hint = _HINTS.get(error.status, "")
                if error.status in (401, 403) and self._key_variables:
                    hint += f" It is read from {' or '.join(self._key_variables)}"
                raise ServiceError(
                    f"{self.base_url}{path} refused a request (status {error.status}): {error}"
                    + (f" ({hint})" if hint else "")
                ) from None
            failures += 1
            pause = self._retry.delay(failures, self._jitter(), failure.retry_after)
            elapsed = time.monotonic() - began
            if failures >= attempts or elapsed + pause > self._retry.deadline:
                times = "" if failures == 1 else f" in {failures} attempts and {elapsed:.0f} s; the last time"
                raise ServiceError(
                    f"{self.base_url}{path} gave no usable answer{times}: {failure} (is the server running there?)"
                )
            _log.info("%s%s: %s; again in %.1f s", self.base_url, path, failure, pause)
            if stopped.wait(pause):
                raise CancelledError

    def _attempt(self, method: str, path: str, content: bytes | None) -> Any:
        client, _ = self._connection()
        headers = {"content-type": "application/json"}
        if self._key.value:
            headers["authorization"] = f"Bearer {self._key.value}"
        try:
            response = client.request(method, self.base_url + path, content=content, headers=headers)
        except Exception as error:  # the boundary to the HTTP library
            failure = dropped_connection(error)
            if failure is None:
                raise
            raise failure from None
        if response.status_code != 200:
            reason = self._key.redact(_reason(response.text))
            raise status_failure(response.status_code, response.headers, reason)
        if not response.content:
            return None  # an engine's /health says nothing more
        if "json" not in response.headers.get("content-type", ""):
            return response.text
        try:
            return response.json()
        except ValueError:
            raise TemporaryFailure("the reply is no JSON") from None

    def _connection(self) -> tuple[Any, ThreadPoolExecutor]:
        with self._lock:
            # Neither connections nor threads may be shared with a process that was forked.
            if self._connected is None or self._connected[0] != os.getpid():
                client = http_client(self._timeout, self._concurrency)
                pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="service")
                self._connected = os.getpid(), client, pool
                weakref.finalize(self, client.close)
            return self._connected[1:]


def plain(value: Any) -> Any:
    """A NumPy number or array as JSON knows it; what ``json.dumps`` asks for values that it does not know.

    Raises:
        TypeError: It is something else.
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _reason(text: str) -> str:
    """What a server says of an error: ours, OpenAI's form, or FastAPI's."""
    try:
        said: Any = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:300] or "no reason given"
    for name in ("error", "message", "detail"):
        if isinstance(said, Mapping) and said.get(name):
            said = said[name]
    return " ".join(str(said).split())[:500]
