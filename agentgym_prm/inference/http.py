"""The HTTP client that all SDKs are given."""

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from agentgym_prm.errors import needs_extra

if TYPE_CHECKING:
    import ssl

    import httpx2

_END: Final = "agentgym_prm_end"
_KEPT_SECONDS: Final = 30.0
"""How long an idle connection is kept: below what servers and balancers allow, as a rule."""


@lru_cache(maxsize=1)
def tls() -> "ssl.SSLContext":
    """What certificates are checked against: reading them takes longer than anything else about a client."""
    import httpx2

    return httpx2.create_ssl_context()


def http_client(timeout: float, connections: int) -> "httpx2.Client":
    """A client that gives a whole reply ``timeout`` seconds.

    The library's own time-out starts again with every byte that arrives, so a reply that drips in never ends it.
    Redirects are not followed: not all SDKs' key headers are taken off when one leads to another host.
    """
    with needs_extra("api"):
        import httpx2

    class Limited(httpx2.SyncByteStream):
        """A reply's body that has to arrive by a point in time."""

        def __init__(self, stream: Any, end: float) -> None:
            self._stream, self._end = stream, end

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._stream:
                if time.monotonic() > self._end:
                    raise httpx2.ReadTimeout("the reply is not complete in time")
                yield chunk

        def close(self) -> None:
            self._stream.close()

    def begin(request: "httpx2.Request") -> None:
        request.extensions[_END] = time.monotonic() + timeout

    def limit(response: "httpx2.Response") -> None:
        response.stream = Limited(response.stream, response.request.extensions[_END])

    return httpx2.Client(
        verify=tls(),
        timeout=timeout,
        limits=httpx2.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEPT_SECONDS
        ),
        event_hooks={"request": [begin], "response": [limit]},
    )
