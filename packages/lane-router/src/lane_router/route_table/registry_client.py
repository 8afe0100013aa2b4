"""One question to the registry at a time, with the standard library and a time limit on each."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from microservice_core import InvalidValueError

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPConnection, HTTPResponse

__all__ = ("Answer", "RegistryClient", "RegistryUnreachableError", "check_url")

LARGEST_BODY = 16 * 1024 * 1024
_ROUTES = "/v1/routes"


class RegistryUnreachableError(Exception):
    """No answer that can be used; the reason is the message.

    Attributes:
        retry_after_seconds: how long the registry asked to be left alone.
    """

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        body: None = nothing changed (304).
        etag: to be given back with the next question; empty when the registry has none.
        age_seconds: how old the registry says its own knowledge is, where a header says it.
    """

    body: bytes | None
    etag: str
    age_seconds: float | None


def check_url(url: str) -> str:
    """The address without a slash at the end, or an error that names it."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
        rule = "the registry's address such as 'http://lite-registry:8080', without credentials"
        raise InvalidValueError("url", url, rule)
    try:
        _ = parts.port
    except ValueError:
        raise InvalidValueError("url", url, "an address with a port from 1 to 65535") from None
    return url.rstrip("/")


class RegistryClient:
    """Asks `GET {url}/v1/routes`; belongs to one thread, but may be interrupted from others.

    A connection per question: a long-poll lasts a minute, and an idle connection that the server
    closes just then would look like a failure.
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
        self._context: ssl.SSLContext | None = None

    def ask(self, *, etag: str = "", watch: str = "", watch_seconds: float = 55.0) -> Answer:
        """The routes; with `watch`, once they are no longer of that version.

        Raises:
            RegistryUnreachableError: no connection, no answer in time, or none that can be used.
        """
        target = self._parts.path + _ROUTES
        limit = self._timeout
        if watch:
            target += f"?watch=1&version={watch}&timeout={watch_seconds:.0f}s"
            # The server may add up to a sixteenth, so that clients spread.
            limit += watch_seconds * 17 / 16
        headers = {"connection": "close", **({"if-none-match": etag} if etag else {})}
        try:
            return self._exchange(target, headers, self._clock() + limit, limit)
        except (OSError, ValueError) as error:
            raise RegistryUnreachableError(_told(error)) from error
        finally:
            self._socket = None

    def interrupt(self) -> None:
        """End the question under way, from another thread."""
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """In a forked child: drop the parent's connection without ending it."""
        connected, self._socket = self._socket, None
        if connected is not None:
            with contextlib.suppress(OSError):
                os.close(connected.detach())

    def _exchange(
        self, target: str, headers: dict[str, str], deadline: float, limit: float
    ) -> Answer:
        from http.client import HTTPException

        connection = self._connect()
        try:
            connection.connect()
            self._socket = connected = connection.sock
            connected.settimeout(limit)
            connection.request("GET", target, headers=headers)
            return self._read(connection.getresponse(), connected, deadline)
        except HTTPException as error:
            raise RegistryUnreachableError(f"no HTTP: {_told(error)}") from error
        finally:
            connection.close()

    def _connect(self) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        host, port = str(self._parts.hostname), self._parts.port
        connect_timeout = min(self._timeout, 5.0)
        if self._parts.scheme == "http":
            return HTTPConnection(host, port, timeout=connect_timeout)
        if self._context is None:
            import ssl

            self._context = ssl.create_default_context()
        return HTTPSConnection(host, port, timeout=connect_timeout, context=self._context)

    def _read(self, response: HTTPResponse, connected: socket.socket, deadline: float) -> Answer:
        etag, age = response.headers.get("etag", ""), _number(response.headers.get("age"))
        if response.status == 304:
            return Answer(None, etag, age)
        if response.status != 200:
            retry_after = _number(response.headers.get("retry-after"))
            raise RegistryUnreachableError(f"HTTP {response.status}", retry_after)
        body = bytearray()
        while chunk := response.read1(65536):
            body += chunk
            remaining = deadline - self._clock()
            if remaining <= 0:
                raise RegistryUnreachableError("the answer did not end in time")
            if len(body) > LARGEST_BODY:
                raise RegistryUnreachableError(f"the answer is larger than {LARGEST_BODY} bytes")
            with contextlib.suppress(OSError):
                connected.settimeout(remaining)
        if response.length:
            raise RegistryUnreachableError("the answer was cut off")
        return Answer(bytes(body), etag, age)


def _number(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() else None


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
