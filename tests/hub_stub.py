"""The part of the Hugging Face hub's HTTP API that pushing and pulling a model asks for, on this machine."""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_stub_token_4711"


@dataclass
class Repository:
    private: bool = False
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs\n"})
    commits: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


class HubStub:
    """The server; a context manager. Of requests it keeps method, path and body; ``lfs`` are files sent apart."""

    def __init__(self, *, lfs: bool = False) -> None:
        self.lfs = lfs
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, bytes]] = []
        self.readers_need_token = False
        self.status = 0
        self.full = False
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubStub":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def sent(self) -> bytes:
        """All bodies, files in plain text."""
        bodies = [body for _, _, body in self.asked]
        files = [content for each in self.repositories.values() for content in each.files.values()]
        return b"\n".join([*bodies, *files, *self.blobs.values()])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    stub: HubStub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._read()

    def do_GET(self) -> None:
        self._read()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if not self.server.stub.full:
            self.server.stub.blobs[self.path.rpartition("/")[2]] = body
        self._send(400 if self.server.stub.full else 200, b"")

    def do_POST(self) -> None:
        stub = self.server.stub
        body = self.rfile.read(int(self.headers["content-length"]))
        stub.asked.append(("POST", self.path, body))
        if stub.status:
            self._json(stub.status, {"error": "as told"})
            return
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._json(401, {"error": "Invalid username or password."})
            return
        match self.path.partition("?")[0].strip("/").split("/"):
            case ["api", "repos", "create"]:
                record = json.loads(body)
                name = f"{record['organization']}/{record['name']}"
                known = name in stub.repositories
                if not known:
                    stub.repositories[name] = Repository(private=record.get("visibility") == "private")
                self._json(409 if known else 200, {"url": f"{stub.url}/{name}", "error": "You already created it"})
            case ["api", "validate-yaml"]:
                assert json.loads(body)["content"].startswith("---\n")
                self._json(200, {"errors": [], "warnings": []})
            case ["api", "models", _, _, "preupload", "main"]:
                mode = {True: "lfs", False: "regular"}
                files = [
                    {
                        "path": each["path"],
                        "uploadMode": mode[stub.lfs and each["path"].endswith(".safetensors")],
                        "shouldIgnore": False,
                    }
                    for each in json.loads(body)["files"]
                ]
                self._json(200, {"files": files})
            case ["api", "models", owner, name, "commit", "main"]:
                self._commit(stub.repositories[f"{owner}/{name}"], body)
            case [*_, "info", "lfs", "objects", "batch"]:
                objects = [
                    {**each, "actions": {"upload": {"href": f"{stub.url}/blob/{each['oid']}", "header": {}}}}
                    for each in json.loads(body)["objects"]
                ]
                self._json(200, {"transfer": "basic", "objects": objects})
            case _:
                self._json(404, {"error": f"no POST {self.path}"})

    def _commit(self, repository: Repository, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                if value.get("parentCommit") not in (None, repository.sha):
                    self._json(412, {"error": "A commit has happened since."})
                    return
                repository.commits.append(value)
            elif line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            else:
                repository.files[value["path"]] = self.server.stub.blobs[value["oid"]]
        self._json(200, {"commitUrl": f"{self.server.stub.url}/o/n/commit/1", "commitOid": repository.sha})

    def _read(self) -> None:
        stub = self.server.stub
        stub.asked.append((self.command, self.path, b""))
        path = self.path.partition("?")[0].strip("/")
        parts = path.split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        repository = stub.repositories.get(name)
        if stub.status:
            self._json(stub.status, {"error": "as told"})
        elif stub.readers_need_token and self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._json(401, {"error": "Invalid credentials"})
        elif repository is None:
            self._json(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif "tree" in parts:
            self._json(200, [self._entry(path, content) for path, content in repository.files.items()])
        elif parts[0] == "api":
            siblings = [{"rfilename": path} for path in repository.files]
            info = {"id": name, "sha": repository.sha, "private": repository.private, "siblings": siblings}
            self._json(200, {**info, "tags": [], "downloads": 0, "likes": 0})
        elif parts[2] == "resolve" and "/".join(parts[4:]) in repository.files:
            content = repository.files["/".join(parts[4:])]
            etag = hashlib.sha1(content).hexdigest()
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": repository.sha})
        else:
            self._json(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})

    @staticmethod
    def _entry(path: str, content: bytes) -> dict[str, Any]:
        return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        lines = {"Content-Length": str(len(content)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        body = b"" if self.command == "HEAD" else content
        self.wfile.write(f"HTTP/1.1 {status} Stub\r\n{head}\r\n".encode() + body)
