"""A model server of one's own that is asked for JSON: many requests side by side, with retries.

For what chat APIs do not have: token ids, log-probabilities, reloading weights. Nothing is kept on disk and nothing is
priced. What is tried again, and when, is the same as for chat APIs (``RetryPolicy``).
"""

import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any
from urllib.parse import urlsplit

from agentgym_prm.errors import ServiceError, UsageError
from agentgym_prm.inference.http import http_client
from agentgym_prm.inference.keys import find_key
from agentgym_prm.inference.retry import PermanentFailure, RetryPolicy, TemporaryFailure, status_failure
from agentgym_prm.inference.vendor import dropped_connection


class JSONServer:
    """A server that takes and gives JSON; safe to share between threads.

    Args:
        base_url: Where its paths begin, e.g. ``http://localhost:8000``.
        key_variables: The first of these that is set, in the environment or ``.env``, is sent as a bearer token.
        concurrency: Most requests out at a time, at least 1.
        timeout: Seconds within which a whole reply has to arrive.
        retry: Which failures are tried again.

    Raises:
        UsageError: ``base_url`` is no http address.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key_variables: Sequence[str] = (),
        concurrency: int = 64,
        timeout: float = 300.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise UsageError("the base URL must be http://HOST:PORT, without a user name or a query")
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency}")
        self.base_url = base_url.rstrip("/")
        self._key, self._retry = find_key(key_variables), retry or RetryPolicy()
        self._concurrency, self._timeout = concurrency, timeout
        self._made: tuple[int, Any, ThreadPoolExecutor] | None = None
        self._lock = threading.Lock()
        self._calls: set[threading.Event] = set()

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The reply to one request; a text if it is no JSON.

        Raises:
            ServiceError: As ``post_all``.
        """
        return self.post_all(path, [body or {}])[0]

    def post_all(
        self, path: str, bodies: Sequence[Mapping[str, Any]], read: Callable[[Any], Any] = lambda reply: reply
    ) -> list[Any]:
        """The replies, in the order of the requests, as ``read`` makes them.

        Args:
            path: Below ``base_url``.
            bodies: What is sent.
            read: Takes a reply apart; an error of a value that is not what it should be is a malformed reply, which is
                asked for again.

        Raises:
            ServiceError: A request was refused, or not answered in spite of retries. The others are given up.
        """
        client, pool = self._connected()
        stopped = threading.Event()
        with self._lock:
            self._calls.add(stopped)
        futures: list[Future[Any]] = []
        try:
            futures += [pool.submit(self._asked, client, path, body, read, stopped) for body in bodies]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()
            for future in futures:
                future.cancel()
            wait(futures)
            with self._lock:
                self._calls.discard(stopped)
        errors = [future.exception() for future in futures if not future.cancelled()]
        for error in sorted(filter(None, errors), key=lambda each: isinstance(each, CancelledError)):
            raise error
        return [future.result() for future in futures]

    def give_up(self) -> None:
        """End the calls that run in other threads; what is out is waited for."""
        with self._lock:
            for stopped in self._calls:
                stopped.set()

    def _asked(
        self, client: Any, path: str, body: Mapping[str, Any], read: Callable[[Any], Any], stopped: threading.Event
    ) -> Any:
        began, failures = time.monotonic(), 0
        while not stopped.is_set():
            try:
                return self._attempt(client, path, body, read)
            except PermanentFailure as error:
                stopped.set()
                raise ServiceError(
                    f"{self.base_url}{path} refused a request (status {error.status}): {error}"
                ) from None
            except TemporaryFailure as error:
                failures += 1
                pause = self._retry.delay(failures, random.random(), error.retry_after)
                elapsed = time.monotonic() - began
                if failures >= self._retry.attempts or elapsed + pause > self._retry.deadline:
                    stopped.set()
                    raise ServiceError(
                        f"{self.base_url}{path} gave no usable answer in {failures} attempts and {elapsed:.0f} s; the "
                        f"last time: {error}. Is the server up?"
                    ) from None
            stopped.wait(pause)
        raise CancelledError

    def _attempt(self, client: Any, path: str, body: Mapping[str, Any], read: Callable[[Any], Any]) -> Any:
        headers = {"authorization": f"Bearer {self._key.value}"} if self._key else {}
        try:
            reply = client.post(f"{self.base_url}{path}", json=dict(body), headers=headers)
        except Exception as error:  # the boundary to the HTTP library
            failure = dropped_connection(error)
            if failure is None:
                raise
            raise failure from None
        if reply.status_code != 200:
            text = " ".join(reply.text.split())[:500]
            raise status_failure(reply.status_code, reply.headers, self._key.redact(text) if self._key else text)
        try:
            is_json = "json" in reply.headers.get("content-type", "")
            return read(reply.json() if is_json else reply.text)
        except (ValueError, TypeError, LookupError) as error:
            raise TemporaryFailure(f"the reply is not what it should be ({error})") from None

    def _connected(self) -> tuple[Any, ThreadPoolExecutor]:
        with self._lock:
            # Threads and connections do not survive a fork.
            if self._made is None or self._made[0] != os.getpid():
                client = http_client(self._timeout, self._concurrency)
                self._made = os.getpid(), client, ThreadPoolExecutor(self._concurrency)
                weakref.finalize(self, client.close)
            return self._made[1:]
