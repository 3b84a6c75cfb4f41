"""Serves passages to others in the protocol of Search-R1's retrieval server, with the standard library alone.

``POST /retrieve`` with ``{"queries": [...], "topk": k, "return_scores": bool}`` finds passages; a document is
``{id, title, contents}``, and stands alone where no scores are wanted. ``GET /health`` tells that the server is up, and
of how many passages. Requests are answered side by side. An error's answer is ``{"detail": message}``.
"""

import json
import logging
import sys
from collections.abc import Mapping, Sized
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from agentgym_prm.search.core import Found, PassageSearch
from agentgym_prm.search.corpus import contents_of
from agentgym_prm.search.remote import PATH

LONGEST_BODY: Final = 1 << 24
"""Bytes that a request may have."""
MOST_PASSAGES: Final = 1000
"""What ``topk`` may be at most."""
_logger = logging.getLogger(__name__)


class SearchServer(ThreadingHTTPServer):
    """Serves a ``PassageSearch``; ``serve_forever`` runs it, ``address`` is where.

    Args:
        search: What is served.
        host: The interface to listen on: ``127.0.0.1`` for this machine alone, ``0.0.0.0`` for all that can reach it.
        port: 0 takes a free one.
        topk: Passages for a query where a request names no number; 3 as the original.

    Raises:
        OSError: The port is taken, or there is no such interface.
        ValueError: ``topk`` is out of range.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128  # with the standard 5, some of many clients that come at once wait a second

    def __init__(self, search: PassageSearch, *, host: str = "127.0.0.1", port: int = 0, topk: int = 3) -> None:
        if not 1 <= topk <= MOST_PASSAGES:
            raise ValueError(f"topk must be in [1, {MOST_PASSAGES}], got {topk}")
        self.search = search
        self.topk = topk
        super().__init__((host, port), _Handler)

    @property
    def address(self) -> str:
        """Where it can be reached."""
        return f"http://{self.server_address[0]!s}:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; anything else is one, and the server goes on."""
        if not isinstance(sys.exception(), OSError):
            _logger.exception("a request from %s failed", client_address)


class _RefusedError(Exception):
    """A request is not answered; the message says why."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: SearchServer
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"  # also what is no HTTP is answered with a status
    timeout = 60
    disable_nagle_algorithm = True  # headers and body are sent apart, and the second would wait

    def do_GET(self) -> None:
        if urlsplit(self.path).path != "/health":
            self._refuse(HTTPStatus.NOT_FOUND, f"there is POST {PATH} and GET /health")
            return
        size = {"passages": len(self.server.search)} if isinstance(self.server.search, Sized) else {}
        self._send(HTTPStatus.OK, {"status": "ok", **size})

    def do_POST(self) -> None:
        try:
            body = self._body()
            if urlsplit(self.path).path.rstrip("/") != PATH:
                raise _RefusedError(HTTPStatus.NOT_FOUND, f"there is POST {PATH} and GET /health")
            queries, topk, with_scores = _request(body, self.server.topk)
        except _RefusedError as error:
            self._refuse(error.status, str(error))
            return
        try:
            found = self.server.search.search(queries, topk)
        except Exception as error:  # whatever a search meets, the server goes on and the client is told
            _logger.exception("a search failed")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"the search failed: {type(error).__name__}: {error}")
            return
        self._send(HTTPStatus.OK, {"result": [[_item(each, with_scores) for each in some] for some in found]})

    def log_message(self, format: str, *args: Any) -> None:
        """Thousands of requests a minute are not worth a line each."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses, in the same form."""
        self.close_connection = True
        self._refuse(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def _body(self) -> bytes:
        """What was sent; a body of which the end is not known leaves the connection unusable."""
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not length:
            self.close_connection = True
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "a request needs a Content-Length")
        if not (length.isascii() and length.isdigit()):
            self.close_connection = True
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"Content-Length must be a number, got {length[:50]!r}")
        if len(length) > 15 or int(length) > LONGEST_BODY:
            self.close_connection = True
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request may have {LONGEST_BODY:,} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"{length} bytes were announced, {len(body)} came")
        return body

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send(status, {"detail": reason})

    def _send(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _request(body: bytes, default_topk: int) -> tuple[list[str], int, bool]:
    """The queries, how many passages are wanted for each, and whether with scores."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, f"the request is no JSON: {error}") from error
    if not isinstance(request, dict):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, 'expected {"queries": [...], "topk": k, "return_scores": true}')
    queries = request.get("queries")
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "'queries' must be a list of strings")
    topk = request.get("topk") or default_topk  # none or 0: the default, as in the original
    if isinstance(topk, bool) or not isinstance(topk, int) or not 1 <= topk <= MOST_PASSAGES:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, f"'topk' must be a whole number in [1, {MOST_PASSAGES}]")
    with_scores = request.get("return_scores", False)
    if not isinstance(with_scores, bool):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "'return_scores' must be true or false")
    return queries, topk, with_scores


def _item(found: Found, with_score: bool) -> Mapping[str, Any]:
    passage = found.passage
    document = {"id": passage.id, "title": passage.title, "contents": contents_of(passage)}
    return {"document": document, "score": found.score} if with_score else document
