"""The shop in a browser: a person plays, or watches what an agent did. Pages come from the engine that agents play on.

A page is the engine's own ``html``, with our style sheet instead of the original's, which lie on other hosts, and a bar
above it. A script turns every click into the command that an agent would give, so that nothing can be done here that
agents cannot do. The server is for one person on one machine: it listens on the loopback interface, answers no other
name than that of the machine itself, and runs no script but its own, whatever a product's text says.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import gymnasium as gym

from agentgym_prm.envs.webshop.engine import Engine
from agentgym_prm.types import Trajectory

LOOPBACK: Final = "127.0.0.1"
_NAMES: Final = (LOOPBACK, "localhost")
_LONGEST_BODY: Final = 1 << 16
_MOST_SESSIONS: Final = 100
_POLICY: Final = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    "img-src 'self' https: data:; base-uri 'none'; frame-ancestors 'none'"
)
_HEAD: Final = (
    '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>WebShop</title>'
    '<link rel="icon" href="data:,"><link rel="stylesheet" href="/shop.css"><script src="/shop.js" defer></script>'
    "</head>"
)
_PAGE_HEAD: Final = re.compile(r"<head>.*?</head>", re.DOTALL)
_INLINE_SCRIPT: Final = re.compile(r"<script>.*?</script>", re.DOTALL)
_FILES: Final = {"/shop.css": "text/css", "/shop.js": "text/javascript"}


@dataclass(slots=True)
class _Session:
    """One game that a person plays."""

    env: gym.Env[str, str]
    task: int
    lock: Lock = field(default_factory=Lock)
    commands: list[str] = field(default_factory=list)
    truncated: bool = False

    @property
    def engine(self) -> Engine:
        engine: Engine = self.env.unwrapped.engine  # type: ignore[attr-defined]
        return engine

    @property
    def over(self) -> bool:
        """Whether nothing can be done any more."""
        return self.engine.done or self.truncated

    def step(self, command: str) -> None:
        """Give a command; one that comes after the end is ignored."""
        with self.lock:
            if not self.over:
                self.truncated = self.env.step(command)[3]
                self.commands.append(command)


class ShopServer(ThreadingHTTPServer):
    """Serves a shop on the loopback interface; ``serve_forever`` runs it, ``address`` is where.

    Args:
        make_env: Makes an environment of ``agentgym_prm/WebShop-v0``, with its step cap.
        trajectories: Recorded episodes of that environment to watch; without any, a person plays.
        task: Number of the first task that is played.
        port: 0 takes a free one.

    Raises:
        OSError: The port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        make_env: Callable[[], gym.Env[str, str]],
        *,
        trajectories: Sequence[Trajectory] = (),
        task: int = 0,
        port: int = 0,
    ) -> None:
        self._make_env = make_env
        self._trajectories = trajectories
        self._first_task = task
        self._sessions: dict[str, _Session] = {}
        self._replay = make_env()
        self._replaying = Lock()
        self.num_tasks: int = self._replay.unwrapped.num_tasks  # type: ignore[attr-defined]
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def address(self) -> str:
        """Where the first page is."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error."""

    # --- what is at which path; each gives a page, or where to go ---

    def get(self, path: str) -> "_Page | _Elsewhere":
        """The page at ``path``.

        Raises:
            KeyError: There is none.
        """
        match path.strip("/").split("/"):
            case [""] if self._trajectories:
                return _Page(_listing(self._trajectories))
            case [""]:
                return _Elsewhere(f"/task/{self._first_task}")
            case ["task", number]:
                return _Elsewhere(f"/session/{self._begin(_number(number, self.num_tasks))}")
            case ["session", key]:
                return _Page(self._play(self._sessions[key]))
            case ["trajectory", number, "step", turn]:
                trajectory = self._trajectories[_number(number, len(self._trajectories))]
                return _Page(self._watch(int(number), trajectory, _number(turn, len(trajectory.steps) + 1)))
        raise KeyError(path)

    def post(self, path: str, form: Mapping[str, Sequence[str]]) -> "_Elsewhere":
        """Give the command of ``form`` in the session at ``path``.

        Raises:
            KeyError: There is no such session, or no command.
        """
        match path.strip("/").split("/"):
            case ["session", key]:
                self._sessions[key].step(form["command"][0])
                return _Elsewhere(path)
        raise KeyError(path)

    def _begin(self, task: int) -> str:
        session = _Session(self._make_env(), task)
        session.env.reset(options={"task": task})
        key = secrets.token_urlsafe(8)
        while len(self._sessions) >= _MOST_SESSIONS:
            self._sessions.pop(next(iter(self._sessions))).env.close()
        self._sessions[key] = session
        return key

    def _play(self, session: _Session) -> str:
        engine, commands = session.engine, session.commands
        spec = session.env.spec
        cap = f" of {spec.max_episode_steps}" if spec and spec.max_episode_steps else ""
        told = [f"task {session.task}", f"step {len(commands)}{cap}"]
        if commands:
            told.append(f"<code>{escape(commands[-1])}</code>{'' if engine.valid else ' did nothing'}")
        if session.truncated and not engine.done:
            told.append('<b class="bad">no steps left</b>')
        told += _outcome(engine)
        links = f'<a href="/task/{session.task}">again</a>'
        links += f' <a href="/task/{(session.task + 1) % self.num_tasks}">next task</a>'
        mode = "over" if session.over else "play"
        return _framed(engine, [*told, links], mode=mode)

    def _watch(self, number: int, trajectory: Trajectory, turn: int) -> str:
        with self._replaying:
            env = self._replay.unwrapped
            observation, _ = env.reset(options={"task": trajectory.task_id})
            for step in trajectory.steps[:turn]:
                if env.engine.done:  # type: ignore[attr-defined]
                    break  # earlier than when it was recorded
                observation = env.step(step.action.command)[0]
            engine = env.engine.clone()  # type: ignore[attr-defined]
        steps = trajectory.steps
        here = f"/trajectory/{number}/step"
        told = [
            '<a href="/">all episodes</a>',
            f"episode {escape(str(trajectory.episode))}",
            f"step {turn} of {len(steps)}",
        ]
        recorded = trajectory.final_observation if turn == len(steps) else steps[turn].observation
        if observation != recorded:
            told.append('<b class="bad">the shop answers otherwise than when this was recorded</b>')
        places = {}
        if turn:
            places["before"] = f"{here}/{turn - 1}"
            told.append(f'<a href="{places["before"]}">← back</a>')
        if turn < len(steps):
            places |= {"after": f"{here}/{turn + 1}", "next": steps[turn].action.command}
            scores = "".join(f" {escape(name)} {value:.2f}" for name, value in steps[turn].action.scores.items())
            told.append(f"then <code>{escape(steps[turn].action.command)}</code>{scores}")
            told.append(f'<a href="{places["after"]}">on →</a>')
        return _framed(engine, told + _outcome(engine), mode="watch", **places)


# --- pages ---


@dataclass(frozen=True, slots=True)
class _Page:
    html: str


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    path: str


def _framed(engine: Engine, told: Sequence[str], **data: str) -> str:
    """The engine's page with a bar above it; ``told`` is markup, ``data`` is for the script."""
    page = engine.observe("html")
    page = _INLINE_SCRIPT.sub("", page)
    page = _PAGE_HEAD.sub(lambda _: _HEAD, page, count=1)
    data["chosen"] = json.dumps(list(engine.view.options.items()))
    attributes = "".join(f' data-{name}="{escape(value)}"' for name, value in data.items())
    bar = "".join(f"<span>{each}</span>" for each in told)
    return page.replace("<body>", f'<body{attributes}><header class="bar">{bar}</header>', 1)


def _outcome(engine: Engine) -> list[str]:
    """What a purchase was worth, and why; nothing before."""
    if not engine.done:
        return []
    parts = ", ".join(f"{name} {float(value):.2f}" for name, value in engine.reward_parts.items())
    return [f'<b class="{"good" if engine.won else "bad"}">reward {engine.outcome:.2f}</b>', escape(parts)]


def _listing(trajectories: Sequence[Trajectory]) -> str:
    """All recorded episodes, to choose one."""
    rows = "".join(
        f'<tr><td class="number"><a href="/trajectory/{number}/step/0">{escape(str(each.episode))}</a></td>'
        f'<td>{escape(each.task)}</td><td class="number">{len(each.steps)}</td>'
        f'<td class="number">{each.outcome:.2f}</td></tr>'
        for number, each in enumerate(trajectories)
    )
    heads = "".join(f"<th>{head}</th>" for head in ("episode", "instruction", "steps", "reward"))
    return (
        f'<!DOCTYPE html>\n<html lang="en">{_HEAD}<body data-mode="list" data-chosen="[]"><div class="container">'
        f'<h1>Recorded episodes</h1><table class="listing"><tr>{heads}</tr>{rows}</table></div></body></html>'
    )


def _number(text: str, count: int) -> int:
    """``text`` as a number below ``count``; ``KeyError`` if it is none."""
    if not (_is_number(text) and int(text) < count):
        raise KeyError(text)
    return int(text)


def _is_number(text: str) -> bool:
    """Whether ``text`` is digits, and not so many that no number is made of them."""
    return text.isascii() and text.isdigit() and len(text) < 20


@cache
def _file(path: str) -> bytes:
    return files("agentgym_prm.envs.webshop").joinpath("static", path.strip("/")).read_bytes()


# --- the protocol ---


class _Handler(BaseHTTPRequestHandler):
    server: ShopServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if not self._is_ours():
            return
        if path in _FILES:
            self._send(HTTPStatus.OK, _file(path), _FILES[path])
            return
        self._answer(lambda: self.server.get(path))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not _is_number(length) or int(length) > _LONGEST_BODY:
            self.close_connection = True
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a command may have {_LONGEST_BODY} bytes")
            return
        body = self.rfile.read(int(length))
        if not self._is_ours():
            return
        form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        self._answer(lambda: self.server.post(urlsplit(self.path).path, form))

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal is the player's."""

    def _is_ours(self) -> bool:
        """Whether the request is for this machine by name, and not sent by another site's page."""
        names = [f"{name}:{self.server.server_port}" for name in _NAMES]
        origin = self.headers.get("Origin")
        # An image or a frame of another site has no origin, but browsers say who asks, and what for.
        embedded = self.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        embedded = embedded and self.headers.get("Sec-Fetch-Dest") != "document"
        ours = self.headers.get("Host") in names and origin in (None, *(f"http://{name}" for name in names))
        if ours and not embedded:
            return True
        self._refuse(HTTPStatus.FORBIDDEN, f"open {self.server.address}")
        return False

    def _answer(self, find: Callable[[], _Page | _Elsewhere]) -> None:
        try:
            found = find()
        except KeyError:
            self._refuse(HTTPStatus.NOT_FOUND, f"there is no such page: go to {self.server.address}")
            return
        if isinstance(found, _Page):
            self._send(HTTPStatus.OK, found.html.encode("utf-8", "replace"), "text/html")
            return
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", found.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send(status, f"{status.phrase}: {reason}\n".encode(), "text/plain")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)
