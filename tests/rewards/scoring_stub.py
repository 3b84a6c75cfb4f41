"""A server on this machine that answers as vLLM or SGLang would, from a model of its own; or fails as it is told to."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class Network:
    """The network's output for token ids, by Hugging Face's own class, one unpadded sequence at a time."""

    def __init__(self, folder: str) -> None:
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def output(self, ids: list[int]) -> float:
        with torch.no_grad():
            return float(self.model(input_ids=torch.tensor([ids])).logits.item())

    def vllm(self, ids: list[int], body: dict[str, Any]) -> float:
        """With vLLM's own activation of one label, unless the request takes it off."""
        output = self.output(ids)
        return output if body.get("use_activation") is False else float(torch.sigmoid(torch.tensor(output)))


def vllm_classify(network: Network, body: dict[str, Any]) -> dict[str, Any]:
    data = [
        {"index": index, "label": "LABEL_0", "probs": [network.vllm(ids, body)], "num_classes": 1}
        for index, ids in enumerate(body["input"])
    ]
    return {"id": "classify-1", "object": "list", "created": 1, "model": "m", "data": data, "usage": {}}


def vllm_pooling(network: Network, body: dict[str, Any]) -> dict[str, Any]:
    data = [
        {"index": index, "object": "pooling", "data": [network.vllm(ids, body)]}
        for index, ids in enumerate(body["input"])
    ]
    # Items have numbers: their order is not promised.
    return {"id": "pool-1", "object": "list", "created": 1, "model": "m", "data": data[::-1], "usage": {}}


def vllm_pooling_tokens(network: Network, body: dict[str, Any]) -> dict[str, Any]:
    """As of a model that gives a number for each token."""
    data = [
        {
            "index": index,
            "object": "pooling",
            "data": [[network.vllm(ids[: end + 1], body)] for end in range(len(ids))],
        }
        for index, ids in enumerate(body["input"])
    ]
    return {"id": "pool-1", "object": "list", "created": 1, "model": "m", "data": data, "usage": {}}


def vllm_score(network: Network, body: dict[str, Any]) -> dict[str, Any]:
    pairs = zip(body["text_1"], body["text_2"], strict=True)
    data = [
        {
            "index": index,
            "object": "score",
            "score": network.vllm(network.tokenizer.encode(one + other, add_special_tokens=False), body),
        }
        for index, (one, other) in enumerate(pairs)
    ]
    return {"id": "embd-1", "object": "list", "created": 1, "model": "m", "data": data, "usage": {}}


def sglang_classify(network: Network, body: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"embedding": [network.output(ids)], "meta_info": {"id": "1", "prompt_tokens": len(ids), "e2e_latency": 0.01}}
        for ids in body["input_ids"]
    ]


class ScoringStub:
    """The server; a context manager. ``answer`` gets path, body and the request's number, and gives status and reply.

    A reply that is bytes is sent as it is; a number in place of a status closes the connection.
    """

    def __init__(self, answer: Callable[[str, Any, int], tuple[int, Any]], *, key: str | None = None) -> None:
        self.answer, self.key = answer, key
        self.asked: list[tuple[str, Any]] = []
        self.headers: dict[str, str] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "ScoringStub":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def arrived(self, path: str, body: Any) -> int:
        with self._lock:
            self.asked.append((path, body))
            return len(self.asked) - 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    stub: ScoringStub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._reply(None)

    def do_POST(self) -> None:
        self._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _reply(self, body: Any) -> None:
        stub = self.server.stub
        status, reply = stub.answer(self.path, body, stub.arrived(self.path, body))
        given = self.headers.get("authorization", "")
        if stub.key is not None and given != f"Bearer {stub.key}":
            status, reply = 401, {"error": f"wrong key {given}"}
        content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        lines = f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
        for name, value in stub.headers.items():
            lines += f"{name}: {value}\r\n"
        self.wfile.write(f"HTTP/1.1 {status} Stub\r\n{lines}\r\n".encode() + content)
