"""An HTTP/1.1 client over asyncio streams and httptools: for the API server and the command.

One connection per request: its requests are rare, or stream for minutes.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast
from urllib.parse import urlsplit

import httptools

from .errors import LiteRegistryError
from .response import encode_json

__all__ = ("HttpClient", "HttpClientError", "HttpResponse", "SilenceError", "StreamedHttpResponse")

_MAX_BODY_BYTES = 256 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class HttpClientError(LiteRegistryError, OSError):
    """No usable response: the server is unreachable, hangs, or does not speak HTTP."""


class SilenceError(HttpClientError):
    """The connection is open, but nothing arrived for too long."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete response; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """The body as a JSON object.

        Raises:
            HttpClientError: it is something else.
        """
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise HttpClientError(f"the response is not JSON: {self.body[:80]!r}") from error
        if not isinstance(document, dict):
            raise HttpClientError(f"the response is not a JSON object: {self.body[:80]!r}")
        return cast("dict[str, object]", document)


@dataclass(slots=True)
class StreamedHttpResponse:
    """A response whose body is read in chunks, or as a whole with `read`."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]

    async def read(self) -> bytes:
        """The rest of the body.

        Raises:
            HttpClientError: it breaks off, or is too large.
        """
        chunks, size = [], 0
        async for chunk in self.chunks:
            size += len(chunk)
            if size > _MAX_BODY_BYTES:
                raise HttpClientError(f"the response is larger than {_MAX_BODY_BYTES} bytes")
            chunks.append(chunk)
        return b"".join(chunks)


class HttpClient:
    """Sends requests to one server.

    Args:
        url: `http://host:port` or `https://host:port`, perhaps with a path before all targets.
        headers: sent with every request.
        ssl_context: for https.
        server_hostname: the name in the server's certificate, when it is not the host.
        connect_seconds: the time limit for connecting.
        silence_seconds: after how many seconds without a byte the connection counts as dead.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        connect_seconds: float = 5.0,
        silence_seconds: float = 30.0,
    ) -> None:
        parts = urlsplit(url)
        self._is_secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._is_secure else 80)
        self._authority = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._headers = headers
        self._ssl_context = ssl_context
        self._server_hostname = server_hostname
        self._connect_seconds = connect_seconds
        self._silence_seconds = silence_seconds

    async def request(
        self,
        method: str,
        target: str,
        *,
        document: object = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> HttpResponse:
        """Send a request, with the document as JSON if there is one; the complete response.

        Raises:
            HttpClientError: there is no usable response.
        """
        stream = self.stream(method, target, document=document, headers=headers)
        async with stream as response:
            return HttpResponse(response.status, response.headers, await response.read())

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        target: str,
        *,
        document: object = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        silence_seconds: float | None = None,
    ) -> AsyncIterator[StreamedHttpResponse]:
        """Send a request; the response, whose body is read as it arrives.

        Raises:
            HttpClientError: there is no usable response, or its body breaks off or falls silent.
        """
        reader, writer = await self._connect()
        try:
            writer.write(self._encode(method, target, document, headers))
            parsing = _ResponseReader(reader, silence_seconds or self._silence_seconds)
            status = await parsing.read_head()
            parsing.complete = parsing.complete or method == "HEAD"
            yield StreamedHttpResponse(status, parsing.headers, parsing.iterate_body())
        finally:
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        server_hostname = (self._server_hostname or self._host) if self._is_secure else None
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await asyncio.open_connection(
                    self._host,
                    self._port,
                    ssl=self._ssl_context if self._is_secure else None,
                    server_hostname=server_hostname,
                    limit=_CHUNK_BYTES,
                )
        except TimeoutError as error:
            reason = f"no connection within {self._connect_seconds:g} s"
            raise HttpClientError(f"{self._authority}: {reason}") from error
        except OSError as error:
            raise HttpClientError(f"{self._authority}: {error}") from error

    def _encode(
        self, method: str, target: str, document: object, headers: Mapping[str, str]
    ) -> bytes:
        body = b"" if document is None else encode_json(document)
        fields = {"host": self._authority, "connection": "close"}
        if document is not None:
            fields["content-type"] = "application/json"
        fields |= {**self._headers, **headers}
        if body or method not in {"GET", "HEAD"}:
            fields["content-length"] = str(len(body))
        lines = [f"{method} {self._prefix}{target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass(slots=True)
class _ResponseReader:
    """Reads one response; the parser calls its `on_…` methods."""

    reader: asyncio.StreamReader
    silence_seconds: float
    headers: dict[str, str] = field(default_factory=dict)
    parser: httptools.HttpResponseParser = field(init=False)
    received: list[bytes] = field(default_factory=list)
    head_complete: bool = False
    complete: bool = False

    def __post_init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.head_complete = self.parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self.received.append(body)

    def on_message_complete(self) -> None:
        self.complete = self.head_complete

    async def read_head(self) -> int:
        while not self.head_complete:
            if not await self._feed():
                raise HttpClientError("the connection was closed before a response came")
        return int(self.parser.get_status_code())

    async def iterate_body(self) -> AsyncIterator[bytes]:
        while True:
            received, self.received = self.received, []
            if received:
                yield b"".join(received)
            elif self.complete:
                return
            elif not await self._feed():
                if "content-length" in self.headers or "transfer-encoding" in self.headers:
                    raise HttpClientError("the connection was cut in the middle of a response")
                return

    async def _feed(self) -> bool:
        try:
            async with asyncio.timeout(self.silence_seconds):
                data = await self.reader.read(_CHUNK_BYTES)
        except TimeoutError as error:
            raise SilenceError(f"nothing arrived for {self.silence_seconds:g} s") from error
        except OSError as error:
            raise HttpClientError(f"the connection broke: {error}") from error
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise HttpClientError(f"the response is not HTTP: {error}") from error
        return bool(data)
