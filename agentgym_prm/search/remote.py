"""Passages that a server finds: a client of Search-R1's retrieval server, ours (``server.py``) or any other like it.

``POST /retrieve`` with ``{"queries": [...], "topk": k, "return_scores": true}`` is answered by
``{"result": [[{"document": {id, contents}, "score": s}, …], …]}``, a list for each query. Such servers differ: some
know no scores, leave out ids, or return more than was asked for; what they send is taken as far as it states passages.
"""

import http
import http.client
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from agentgym_prm.errors import SearchServerError
from agentgym_prm.search.core import Found, Passage
from agentgym_prm.search.corpus import passage_of

PATH: Final = "/retrieve"
_BUSY: Final = 429
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 8.0


class RemoteSearch:
    """The passages of a retrieval server; several threads may search at once. Connections are kept for the next search.

    Args:
        url: Where it is, ``http://host:port``; ``/retrieve`` is added where no path is given.
        timeout: Seconds to wait for a connection, and for each part of an answer.
        retries: How often a request is repeated after a time-out, a dropped connection or an error of the server (5xx,
            429), after pauses of 0.25 s, 0.5 s, 1 s, … up to 8 s.

    Raises:
        ValueError: ``url`` is none of a server, or a number is out of range.
    """

    def __init__(self, url: str, *, timeout: float = 60.0, retries: int = 4) -> None:
        parts = urlsplit(url)
        try:
            known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:  # a port that is no number
            known = False
        if not known:
            raise ValueError(f"a server is given as http://HOST:PORT or https://HOST:PORT, got {url!r}")
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout}")
        if retries < 0:
            raise ValueError(f"retries must be at least 0, got {retries}")
        path = PATH if parts.path in ("", "/") else parts.path
        self._target = f"{path}?{parts.query}" if parts.query else path
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._target}"
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._timeout = timeout
        self._retries = retries
        self._idle: deque[http.client.HTTPConnection] = deque()

    def __repr__(self) -> str:
        return f"RemoteSearch({self.url!r})"

    def close(self) -> None:
        """Close the connections that are kept; a search opens new ones."""
        while self._idle:
            self._idle.pop().close()

    def __del__(self) -> None:
        if hasattr(self, "_idle"):
            self.close()

    def search(self, queries: Sequence[str], k: int) -> list[list[Found]]:
        """For each query the ``k`` passages that the server holds for the best; scores are its own, 0 if it tells none.

        Raises:
            ValueError: ``k`` is not positive.
            SearchServerError: The server could not be reached, refused the request, or answered something else.
        """
        if k < 1:
            raise ValueError(f"k must be positive, got {k}")
        if not queries:
            return []
        request = {"queries": list(queries), "topk": k, "return_scores": True}
        answer = self._answer(json.dumps(request).encode())
        try:
            return _found(answer, len(queries), k)
        except ValueError as error:
            raise SearchServerError(f"{self.url} does not speak the protocol of retrieval servers: {error}") from error

    def _answer(self, body: bytes) -> bytes:
        """What the server answers with status 200."""
        pause = _FIRST_PAUSE_S
        for attempt in range(self._retries + 1):
            try:
                status, answer = self._exchanged(body)
            except (OSError, http.client.HTTPException) as error:
                problem: str = f"{type(error).__name__}: {error}"
                cause: Exception | None = error
            else:
                if status == http.HTTPStatus.OK:
                    return answer
                problem, cause = f"status {status}: {_said(answer)}", None
                if status < http.HTTPStatus.INTERNAL_SERVER_ERROR and status != _BUSY:
                    raise SearchServerError(f"{self.url} refused the request with {problem}")
            if attempt < self._retries:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        tries = f"{self._retries + 1} tries" if self._retries else "one try"
        raise SearchServerError(f"no answer from {self.url} in {tries}; the last ended with {problem}") from cause

    def _exchanged(self, body: bytes) -> tuple[int, bytes]:
        with suppress(IndexError):
            connection = self._idle.pop()
            # One that was kept for longer than the server keeps it is dropped: a new one is no second try.
            with suppress(ConnectionError, http.client.HTTPException):
                return self._sent(connection, body)
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return self._sent(kind(self._host, self._port, timeout=self._timeout), body)

    def _sent(self, connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
        """Send a request over a connection, which is kept if it can be used again."""
        kept = False
        try:
            connection.request("POST", self._target, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            kept = not answer.will_close
        finally:
            if not kept:
                connection.close()
        if kept:
            self._idle.append(connection)
        return answer.status, content


def _said(answer: bytes) -> str:
    """The message in an error's answer, which is JSON with a ``detail``, or any text."""
    text = answer.decode("utf-8", "replace").strip()
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        text = str(json.loads(text)["detail"])
    return text if len(text) <= 300 else f"{text[:300]}…"


def _found(answer: bytes, queries: int, k: int) -> list[list[Found]]:
    try:
        content = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the answer is no JSON ({error})") from error
    result = content.get("result") if isinstance(content, dict) else None
    if not isinstance(result, list) or not all(isinstance(each, list) for each in result):
        raise ValueError("the answer holds no 'result' that is a list of lists")
    if len(result) != queries:
        raise ValueError(f"{queries} queries were answered by {len(result)} lists")
    return [[_item(item) for item in each[:k]] for each in result]


def _item(item: Any) -> Found:
    """A passage with its score, without one, or as a mere text."""
    score = 0.0
    if isinstance(item, Mapping) and "document" in item:
        stated = item.get("score")
        if isinstance(stated, bool) or not isinstance(stated, int | float | None):
            raise ValueError(f"a score must be a number, got {stated!r}")
        score, item = float(stated or 0.0), item["document"]
    return Found(_passage(item), score)


def _passage(document: Any) -> Passage:
    if isinstance(document, str):
        return passage_of({"contents": document})
    if not isinstance(document, Mapping):
        raise ValueError(f"a document must be an object, got {document!r}"[:200])
    try:
        return passage_of(document)
    except ValueError as error:
        raise ValueError(f"a document states no passage: {error}") from error
