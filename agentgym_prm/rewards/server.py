"""A step scorer behind HTTP: ``POST /score`` takes histories and actions, ``GET /health`` says that it is there.

Requests of several clients that arrive within a short window are scored in one call, so that a network reads them in
one batch; scores then differ from those of a request alone by rounding, about 1e-6. ``RemoteScorer`` is the client.
"""

import hmac
import json
import logging
import queue
import time
from collections.abc import Sequence
from concurrent.futures import Future
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.inference.keys import Key, find_key
from agentgym_prm.rewards.core import StepScorer
from agentgym_prm.rewards.remote import HEALTH_PATH, KEY_VARIABLE, SCORE_PATH, read_score_request
from agentgym_prm.types import Action, History

_log = logging.getLogger(__name__)
_LONGEST_BODY: Final = 1 << 26
_MOST_PAIRS: Final = 4096
_MOST_WAITING: Final = 1024
_LOCAL: Final = ("127.0.0.1", "localhost", "::1")


class _Asked(NamedTuple):
    histories: list[History]
    actions: list[Action]
    scores: "Future[NDArray[np.float64]]"


class Batcher:
    """Scores what several threads ask for in common calls, one at a time.

    Args:
        scorer: Is called from one thread only.
        window: Seconds to wait for more after the first request.
        pairs: No more is waited for once so many pairs are there.
    """

    def __init__(self, scorer: StepScorer, *, window: float = 0.005, pairs: int = 1024) -> None:
        if window < 0:
            raise ValueError(f"window must be at least 0 seconds, got {window}")
        if pairs < 1:
            raise ValueError(f"pairs must be at least 1, got {pairs}")
        self.scorer, self._window, self._pairs = scorer, window, pairs
        self.requests = self.calls = 0
        self._waiting: queue.Queue[_Asked | None] = queue.Queue(_MOST_WAITING)
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def score(self, histories: list[History], actions: list[Action]) -> NDArray[np.float64]:
        """As ``scorer.score``.

        Raises:
            queue.Full: Too many are waiting.
        """
        asked = _Asked(histories, actions, Future())
        self._waiting.put_nowait(asked)
        return asked.scores.result()

    def close(self) -> None:
        """Finish what is waiting, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, end = [first], time.monotonic() + self._window
            closing = False
            while sum(len(asked.actions) for asked in batch) < self._pairs and not closing:
                try:
                    more = self._waiting.get(timeout=max(0.0, end - time.monotonic()))
                except queue.Empty:
                    break
                if more is None:
                    closing = True
                else:
                    batch.append(more)
            self._answer(batch)
            if closing:
                return

    def _answer(self, batch: Sequence[_Asked]) -> None:
        histories = [history for asked in batch for history in asked.histories]
        actions = [action for asked in batch for action in asked.actions]
        self.requests += len(batch)
        self.calls += 1
        try:
            scores = np.asarray(self.scorer.score(histories, actions), dtype=np.float64)
            if scores.shape != (len(actions),) or not np.isfinite(scores).all():
                raise RuntimeError(f"scorer {self.scorer.name!r} gave no finite score for each action")
        except Exception as error:  # of whatever scorer: those who asked are told
            if len(batch) == 1:
                batch[0].scores.set_exception(error)
                return
            # One of them asks for what cannot be scored: the others are not to suffer.
            self.requests -= len(batch)
            for asked in batch:
                self._answer([asked])
            return
        ends = np.cumsum([len(asked.actions) for asked in batch])
        for asked, part in zip(batch, np.split(scores, ends[:-1]), strict=True):
            asked.scores.set_result(part)


class ScorerServer(ThreadingHTTPServer):
    """Serves a scorer; ``serve_forever`` runs it, ``address`` is where. A context manager.

    If ``SCORER_API_KEY`` is set, requests have to bring it (``Authorization: Bearer KEY``).

    Args:
        scorer: What is served.
        host: Name or address to listen on. Anything but the machine itself is open to the network.
        port: 0 takes a free one.
        window: Seconds to wait for further requests before scoring.
        pairs: Most pairs that are waited for.

    Raises:
        OSError: The port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(
        self,
        scorer: StepScorer,
        *,
        host: str = _LOCAL[0],
        port: int = 0,
        window: float = 0.005,
        pairs: int = 1024,
    ) -> None:
        self.key: Key | None = find_key((KEY_VARIABLE,))
        self.host = host
        # First, as the server is closed if its port is taken.
        self.batcher = Batcher(scorer, window=window, pairs=pairs)
        super().__init__((host, port), _Handler)

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"http://{self.host}:{self.server_port}"

    @property
    def is_open(self) -> bool:
        """Whether others than this machine may ask without a key."""
        return self.key is None and self.host not in _LOCAL

    def server_close(self) -> None:
        super().server_close()
        self.batcher.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""

    def health(self) -> dict[str, Any]:
        """What ``GET /health`` tells."""
        batcher = self.batcher
        return {"status": "ok", "scorer": batcher.scorer.name, "requests": batcher.requests, "calls": batcher.calls}


class _Handler(BaseHTTPRequestHandler):
    server: ScorerServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120

    def do_GET(self) -> None:
        if self.path != HEALTH_PATH:
            self._refuse(HTTPStatus.NOT_FOUND, f"there is GET {HEALTH_PATH} and POST {SCORE_PATH}")
        elif self._is_allowed():
            self._send(HTTPStatus.OK, self.server.health())

    def do_POST(self) -> None:
        body = self._body()
        if body is None or not self._is_allowed():
            return
        if self.path != SCORE_PATH:
            self._refuse(HTTPStatus.NOT_FOUND, f"there is GET {HEALTH_PATH} and POST {SCORE_PATH}")
            return
        try:
            histories, actions = read_score_request(json.loads(body))
        except (ValueError, RecursionError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        if len(actions) > _MOST_PAIRS:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request may ask for {_MOST_PAIRS} pairs")
            return
        self._score(histories, actions)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are counted, not listed."""

    def _score(self, histories: list[History], actions: list[Action]) -> None:
        try:
            scores = self.server.batcher.score(histories, actions)
        except queue.Full:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_WAITING} requests are waiting")
        except ValueError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except Exception as error:  # the boundary to the network: the client hears of it, and so does the log
            _log.exception("scoring failed")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"scoring failed: {type(error).__name__}: {error}")
        else:
            self._send(HTTPStatus.OK, {"scores": scores.tolist()})

    def _body(self) -> bytes | None:
        """The request's body; ``None`` if it was refused."""
        length = self.headers.get("Content-Length", "")
        # Pages of other sites can send such a request without asking first, unless it says that it is JSON.
        is_json = self.headers.get_content_type() == "application/json"
        if length.isascii() and length.isdigit() and len(length) < 12 and int(length) <= _LONGEST_BODY and is_json:
            return self.rfile.read(int(length))
        self.close_connection = True
        if is_json:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {_LONGEST_BODY} bytes")
        else:
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json")
        return None

    def _is_allowed(self) -> bool:
        key = self.server.key
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if key is None or hmac.compare_digest(given.encode(), key.value.encode()):
            return True
        self._refuse(HTTPStatus.UNAUTHORIZED, "this server asks for a key")
        return False

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send(status, {"error": {"message": reason, "code": status.value}})

    def _send(self, status: HTTPStatus, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
