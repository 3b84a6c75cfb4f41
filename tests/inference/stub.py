"""A server on this machine that speaks the three vendors' protocols, and fails as it is told to."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

KEY_VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5", "gemini": "gemini-2.5-flash"}
PIECES = 4


@dataclass(frozen=True)
class Fault:
    """What happens instead of an ordinary reply.

    Kinds: ``status`` (an error reply), ``silence`` (nothing for ``seconds``), ``cut`` (the connection ends in
    mid-reply), ``reset``, ``garbage`` (cut-off JSON), ``html``, ``empty`` (an ordinary reply without text) and ``drip``
    (the reply in pieces, ``seconds`` in all; ``lost`` if nobody is expected to wait for it).
    """

    kind: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "the stub fails as it was told to"
    body: Mapping[str, Any] | None = None
    seconds: float = 0.0
    lost: bool = False


@dataclass(frozen=True)
class Asked:
    """A request as it arrived: vendor, JSON body, headers in lower case, and its messages as pairs."""

    vendor: str
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def last(self) -> str:
        """The text of the last message."""
        if self.vendor == "gemini":
            return str(self.body["contents"][-1]["parts"][0]["text"])
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Told:
    """A whole reply that is sent to someone who waits for it: its texts, and the tokens that it says it took."""

    texts: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int


def first_command(asked: Asked, serial: int) -> str:
    """A reply that takes the first of the admissible commands, and says which reply it is."""
    commands = asked.last.rpartition("COMMANDS:\n")[2].splitlines()
    return f"REASON:\nreply {serial}\nACTION:\n{commands[serial % len(commands)]}"


class Stub:
    """The server; a context manager.

    ``fault`` is asked with the number of each request in the order of arrival; ``reply`` writes the text from the
    request and the number of texts written before; ``key`` is the only one accepted, if it is set.
    """

    def __init__(
        self,
        fault: Callable[[int], Fault | None] = lambda number: None,
        reply: Callable[[Asked, int], str] = first_command,
        *,
        key: str | None = None,
        delay: float = 0.0,
        port: int = 0,
    ) -> None:
        self.fault, self.reply, self.key, self.delay = fault, reply, key, delay
        self.asked: list[Asked] = []
        self.told: list[Told] = []
        self.most_at_once = 0
        self.count_usage = True
        self.choices: int | None = None
        self._at_once = self._serial = 0
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.stub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    def url(self, vendor: str) -> str:
        return f"http://127.0.0.1:{self.port}" + ("/v1" if vendor == "openai" else "")

    def __enter__(self) -> "Stub":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def arrived(self, asked: Asked) -> int:
        with self._lock:
            self.asked.append(asked)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            return len(self.asked) - 1

    def left(self) -> None:
        with self._lock:
            self._at_once -= 1

    def texts(self, asked: Asked, empty: bool) -> tuple[tuple[str, ...], int]:
        count = self.choices or int(asked.body.get("n", 1))
        with self._lock:
            start, self._serial = self._serial, self._serial + count
        return tuple("" if empty else self.reply(asked, start + index) for index in range(count)), start


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    stub: Stub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        stub = self.server.stub
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): text for name, text in self.headers.items()}
        asked = Asked(_vendor(self.path), self.path, body, headers)
        number = stub.arrived(asked)
        try:
            self._answer(asked, stub.fault(number))
        finally:
            stub.left()

    def _answer(self, asked: Asked, fault: Fault | None) -> None:
        stub = self.server.stub
        if stub.delay:
            time.sleep(stub.delay)
        given = asked.headers.get("x-goog-api-key") or asked.headers.get("authorization", "").removeprefix("Bearer ")
        if stub.key is not None and given != stub.key:
            fault = Fault("status", 401, message=f"Incorrect API key provided: {given}.")
        kind = fault.kind if fault else ""
        if fault and kind == "status":
            said = fault.body or {"error": {"message": fault.message, "code": fault.status, "status": "SAD"}}
            self._send(json.dumps(said).encode(), fault.status, fault.headers)
        elif fault and kind == "silence":
            stub.closing.wait(fault.seconds)
            self.close_connection = True
        elif kind == "reset":
            # Linger 0: the connection is reset, not closed.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif kind == "html":
            self._send(b"<html><body>Bad gateway</body></html>", content_type="text/html")
        else:
            texts, serial = stub.texts(asked, kind == "empty")
            told = Told(texts, 100 + serial % 50, len(texts) * (1 + serial % 9))
            whole = json.dumps(_BODIES[asked.vendor](told, stub.count_usage)).encode()
            if kind in ("cut", "garbage"):
                length = len(whole) if kind == "cut" else None
                self._send(whole[: len(whole) // 2], headers={"connection": "close"}, length=length)
                self.close_connection = True
            elif fault and kind == "drip":
                if not fault.lost:
                    stub.told.append(told)
                self._drip(whole, fault.seconds)
            else:
                stub.told.append(told)
                self._send(whole)

    def _drip(self, whole: bytes, seconds: float) -> None:
        self._send(b"", length=len(whole))
        size = len(whole) // PIECES + 1
        for start in range(0, len(whole), size):
            self.server.stub.closing.wait(seconds / PIECES)
            self.wfile.write(whole[start : start + size])

    def _send(
        self,
        body: bytes,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        length: int | None = None,
        content_type: str = "application/json",
    ) -> None:
        lines = {"content-type": content_type, "content-length": len(body) if length is None else length}
        head = "".join(f"{name}: {text}\r\n" for name, text in (lines | dict(headers or {})).items())
        # In one piece: two writes would wait for each other's acknowledgement.
        self.wfile.write(f"HTTP/1.1 {status} Stub\r\n{head}\r\n".encode() + body)


def _vendor(path: str) -> str:
    return "openai" if path.endswith("completions") else "anthropic" if path.endswith("messages") else "gemini"


def _openai(told: Told, count_usage: bool) -> dict[str, Any]:
    choices = [
        {"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        for index, text in enumerate(told.texts)
    ]
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    if not count_usage:
        return body
    usage = {
        "prompt_tokens": told.prompt_tokens,
        "completion_tokens": told.completion_tokens,
        "total_tokens": told.prompt_tokens + told.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 10},
    }
    return {**body, "usage": usage}


def _anthropic(told: Told, count_usage: bool) -> dict[str, Any]:
    (text,) = told.texts
    return {
        "id": "x",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": told.prompt_tokens - 10,
            "cache_read_input_tokens": 10,
            "output_tokens": told.completion_tokens,
        },
    }


def _gemini(told: Told, count_usage: bool) -> dict[str, Any]:
    (text,) = told.texts
    parts = [{"text": "hm", "thought": True}, {"text": text}]
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": told.prompt_tokens,
            "candidatesTokenCount": told.completion_tokens - 1,
            "thoughtsTokenCount": 1,
            "cachedContentTokenCount": 10,
        },
    }


_BODIES: dict[str, Callable[[Told, bool], dict[str, Any]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
}
