"""What the vendors' APIs have in common: one attempt at one request, and what came of it."""

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from agentgym_prm.errors import UsageError
from agentgym_prm.inference.core import ChatRequest, Usage
from agentgym_prm.inference.http import http_client
from agentgym_prm.inference.keys import Key, find_key, require_key
from agentgym_prm.inference.retry import PermanentFailure, TemporaryFailure

_NO_KEY: Final = Key("none")
"""What a server that asks for no key is sent: the SDKs insist on one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: pairs of text and stop reason, and what they took together.

    ``usage`` is ``None`` if the server does not tell.
    """

    texts: tuple[tuple[str, str], ...]
    usage: Usage | None


class Vendor(ABC):
    """One model of one vendor's API.

    Args:
        model: As the API calls it.
        base_url: Address of a proxy or of another server with the same API, which is sent the key; ``None`` for the
            SDK's variable in the environment, or else the vendor's own.
        timeout: Seconds within which a whole reply has to arrive.
        connections: Most connections at a time.

    Raises:
        UsageError: ``base_url`` is no http address, or holds a password.
        MissingKeyError: No key is set. With ``base_url`` it is done without: local servers ask for none.
    """

    name: ClassVar[str]
    key_variables: ClassVar[tuple[str, ...]]
    url_variable: ClassVar[str]
    default_url: ClassVar[str]

    def __init__(
        self, model: str, *, base_url: str | None = None, timeout: float = 300.0, connections: int = 32
    ) -> None:
        if timeout <= 0:
            raise ValueError(f"timeout must be positive, got {timeout}")
        self.model, self._timeout, self._connections = model, timeout, connections
        self.base_url = checked_url(base_url or os.environ.get(self.url_variable) or self.default_url)
        if base_url is None:
            self._key = require_key(self.key_variables, self.name)
        else:
            self._key = find_key(self.key_variables) or _NO_KEY
        self._client: tuple[int, Any] | None = None
        self._lock = threading.Lock()

    @property
    def samples(self) -> int:
        """Most samples that one request may ask for."""
        return 1

    @abstractmethod
    def parameters(self, request: ChatRequest) -> dict[str, Any]:
        """What is sent, seed and number of samples excepted, as JSON values."""

    @abstractmethod
    def left_out(self, request: ChatRequest) -> list[str]:
        """Names of what ``request`` asks for and the model does not take; a temperature of 1 is what it has anyway."""

    @abstractmethod
    def _connect(self, http: Any) -> Any:
        """The SDK's client, its retries off, over the HTTP client ``http``."""

    @abstractmethod
    def _ask(self, client: Any, request: ChatRequest, first: int, count: int) -> Any:
        """The SDK's reply to the request for samples ``first`` to ``first + count - 1``."""

    @abstractmethod
    def _read(self, reply: Any) -> Answer:
        """What the SDK's reply says; any of the errors of a value that is not what it should be if it is malformed."""

    @abstractmethod
    def _failure(self, error: Exception) -> Exception | Answer | None:
        """What an error of the SDK means; ``None`` for one that is none of its business.

        A filter's refusal of the prompt is an answer, as it is where an API tells it in a reply: else one prompt would
        end a run, and each time that it is resumed.
        """

    def send(self, request: ChatRequest, first: int, count: int) -> Answer:
        """One attempt.

        Raises:
            TemporaryFailure: Another attempt may do better.
            PermanentFailure: It would not.
        """
        client = self._connected()
        # Half a character, which models do write, has no UTF-8 form.
        whole = [(role, content.encode(errors="replace").decode()) for role, content in request.messages]
        request = replace(request, messages=tuple(whole))
        try:
            reply = self._ask(client, request, first, count)
        except ValueError:
            raise TemporaryFailure(f"the reply is no JSON, or none of {self.name}'s") from None
        except Exception as error:  # the boundary to the SDK, whose errors may quote the key
            failure = self._failure(error)
            if failure is None:
                raise
            if isinstance(failure, Answer):
                return failure
            raise self._redacted(failure) from None
        try:
            return self._read(reply)
        except (AttributeError, TypeError, ValueError, LookupError):
            raise TemporaryFailure(f"the reply is none of {self.name}'s") from None

    def redact(self, text: str) -> str:
        """``text`` without the key."""
        return text if self._key is _NO_KEY else self._key.redact(text)

    def _connected(self) -> Any:
        with self._lock:
            # A process that was forked must not share its parent's connections.
            if self._client is None or self._client[0] != os.getpid():
                http = http_client(self._timeout, self._connections)
                self._client = os.getpid(), self._connect(http)
                weakref.finalize(self, http.close)
            return self._client[1]

    def _redacted(self, failure: Exception) -> Exception:
        if isinstance(failure, PermanentFailure):
            return PermanentFailure(self.redact(str(failure)), failure.status)
        if isinstance(failure, TemporaryFailure):
            return TemporaryFailure(self.redact(str(failure)), failure.retry_after)
        return failure

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, base_url={self.base_url!r})"


def named(reason: str | None, names: Mapping[str, str]) -> str:
    """An API's stop reason in our words, or else in its own."""
    return names.get(reason or "", (reason or "end").lower())


def spoken(messages: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The turns of a conversation, without system messages and without empty ones, which some APIs refuse."""
    return [(role, content) for role, content in messages if role != "system" and content.strip()]


def instruction(messages: Sequence[tuple[str, str]]) -> str:
    """The system messages as one text; empty if there are none."""
    return "\n\n".join(content for role, content in messages if role == "system" and content.strip())


def dropped_connection(error: Exception) -> TemporaryFailure | None:
    """The failure that an error of the HTTP library is; ``None`` for another error."""
    import httpx2

    if isinstance(error, httpx2.TimeoutException):
        return TemporaryFailure("no complete reply in time")
    if isinstance(error, httpx2.TransportError):
        return TemporaryFailure(f"the connection failed ({type(error).__name__}: {error})")
    return None


def sdk_failure(
    sdk: Any, error: Exception, exhausted: Callable[[Any], bool], status_failure: Callable[..., Exception]
) -> Exception | None:
    """What an error of OpenAI's or Anthropic's SDK means: generated by one generator, they have the same classes."""
    if isinstance(error, sdk.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        said = body.get("error", body) if isinstance(body.get("error", body), dict) else {}
        reason = str(said.get("message") or error.message)
        return status_failure(error.status_code, error.response.headers, reason, exhausted=exhausted(said))
    if isinstance(error, sdk.APIConnectionError):
        cause = error.__cause__
        known = dropped_connection(cause) if isinstance(cause, Exception) else None
        return known or TemporaryFailure(f"the connection failed ({error})")
    return dropped_connection(error)


def checked_url(base_url: str) -> str:
    """``base_url`` without a slash at its end.

    Raises:
        UsageError: It is no http address, or holds a password.
    """
    try:
        parts = urlsplit(base_url)
        has_password = parts.username is not None or parts.password is not None
    except ValueError as error:
        raise UsageError(f"the base URL is no address: {error}") from error
    if has_password or parts.query:
        raise UsageError(
            "the base URL holds a user name, password or query, which would show: keys go into the environment"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"the base URL must start with http:// or https://, got {base_url!r}")
    return base_url.rstrip("/")
