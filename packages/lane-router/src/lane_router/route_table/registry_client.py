"""The HTTP client of the poller: the standard library, one request at a time, each time-limited."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from microservice_core import InvalidValueError

from .bounded_reading import (
    LARGEST_BODY,
    BoundedSocket,
    RegistryUnreachableError,
    parse_age,
    parse_etag,
    read_body,
)

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPConnection, HTTPResponse

__all__ = (
    "LARGEST_BODY",
    "RegistryClient",
    "RegistryUnreachableError",
    "RoutesResponse",
    "check_url",
)

# http.client, ssl and the parser of Retry-After are imported in the methods that need them: each is
# slow to import, and most processes that import lane_router never poll.

_ROUTES = "/v1/routes"
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RoutesResponse:
    """A response to `GET /v1/routes`.

    Attributes:
        body: the table as JSON; None = unchanged (304).
        etag: to send with the next request; empty if the registry sends none.
        age_seconds: the `Age` header, how old the registry's own data is; None = not sent.
    """

    body: bytes | None
    etag: str
    age_seconds: float | None


def check_url(url: str) -> str:
    """Return the registry's address without a slash at the end.

    Raises:
        InvalidValueError: not an http(s) address, or one with credentials or a query.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InvalidValueError("url", url, "an address with a port from 1 to 65535") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
        rule = "the registry's address such as 'http://lite-registry:8080', without credentials"
        raise InvalidValueError("url", url, rule)
    return url.rstrip("/")


class RegistryClient:
    """Sends `GET {url}/v1/routes`; used by one thread, but other threads may interrupt it.

    Each request opens a connection: a long-poll lasts a minute, and an idle connection that the
    server closes at that moment would look like a failure.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = urlsplit(check_url(url))
        self._timeout = timeout_seconds
        self._clock = clock
        self._socket: socket.socket | None = None
        self._ssl_context: ssl.SSLContext | None = None

    def get_routes(
        self,
        *,
        etag: str = "",
        watch: str = "",
        watch_seconds: float = 55.0,
        accepts_delta: bool = False,
    ) -> RoutesResponse:
        """Fetch the routes.

        Args:
            etag: of the last response, which is then answered 304 if nothing changed.
            watch: a version; the registry responds once its table has another one (long-poll).
            watch_seconds: how long the registry may hold the long-poll.
            accepts_delta: the body may be the changes since the version of `watch`. A registry that
                cannot tell them sends the whole table.

        Raises:
            RegistryUnreachableError: no connection, a time-out, or a response that is not usable.
        """
        target = self._parts.path + _ROUTES
        limit = self._timeout
        if watch:
            version = quote(watch, safe="")
            target += f"?watch=1&version={version}&timeout={watch_seconds:.0f}s"
            target += f"&since={version}" if accepts_delta else ""
            # The server may hold it a sixteenth longer, so that clients spread out.
            limit += watch_seconds * 17 / 16
        headers = {"connection": "close", "accept-encoding": "gzip"}
        if etag:
            headers["if-none-match"] = etag
        try:
            return self._exchange(target, headers, self._clock() + limit, limit)
        except (OSError, ValueError) as error:
            raise RegistryUnreachableError(_describe(error)) from error
        finally:
            self._socket = None

    def interrupt(self) -> None:
        """End the request in progress, from another thread."""
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """In a forked child: drop the parent's connection without ending it for the parent."""
        connected, self._socket = self._socket, None
        if connected is not None:
            # The descriptor is closed directly: a shutdown would reach the parent's socket as well.
            with contextlib.suppress(OSError):
                os.close(connected.detach())

    def _exchange(
        self, target: str, headers: dict[str, str], deadline: float, limit: float
    ) -> RoutesResponse:
        from http.client import HTTPException

        connection = self._open_connection()
        try:
            connection.connect()
            self._socket = connected = connection.sock
            connected.settimeout(limit)
            bounded = BoundedSocket(connected, deadline=deadline, clock=self._clock)
            connection.sock = bounded
            connection.request("GET", target, headers=headers)
            return self._read(connection.getresponse(), bounded)
        except HTTPException as error:
            raise RegistryUnreachableError(f"not HTTP: {_describe(error)}") from error
        finally:
            connection.close()

    def _open_connection(self) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        host, port = str(self._parts.hostname), self._parts.port
        connect_timeout = min(self._timeout, _CONNECT_SECONDS)
        if self._parts.scheme == "http":
            return HTTPConnection(host, port, timeout=connect_timeout)
        if self._ssl_context is None:
            import ssl

            self._ssl_context = ssl.create_default_context()
        return HTTPSConnection(host, port, timeout=connect_timeout, context=self._ssl_context)

    def _read(self, response: HTTPResponse, bounded: BoundedSocket) -> RoutesResponse:
        etag, age = parse_etag(response.headers.get("etag")), parse_age(response.headers.get("age"))
        if response.status == 304:
            return RoutesResponse(None, etag, age)
        if response.status != 200:
            from microservice_core import parse_retry_after

            retry_after = parse_retry_after(
                response.headers.get("retry-after"), date=response.headers.get("date")
            )
            raise RegistryUnreachableError(f"HTTP {response.status}", retry_after)
        bounded.expect_body()
        return RoutesResponse(read_body(response), etag, age)


def _describe(error: Exception) -> str:
    # It goes into a log and onto a terminal, and parts of it may be what the server sent.
    text = f"{type(error).__name__}: {error}"[:200]
    return "".join(letter if letter.isprintable() else "?" for letter in text)
