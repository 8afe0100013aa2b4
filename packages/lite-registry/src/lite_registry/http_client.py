"""HTTP/1.1 as a client, over asyncio streams and httptools: for the API server and the command.

One connection per request: what asks through it asks rarely, or streams for minutes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import httptools

from .errors import LiteRegistryError
from .response import json_bytes

if TYPE_CHECKING:
    import ssl

__all__ = ("Answer", "HttpClient", "HttpClientError", "SilenceError", "StreamedAnswer")

LARGEST_BODY = 256 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class HttpClientError(LiteRegistryError, OSError):
    """No answer: the server cannot be reached, hangs, or does not speak HTTP."""


class SilenceError(HttpClientError):
    """The connection stands, and nothing came over it for too long."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """The body as a JSON object.

        Raises:
            HttpClientError: it is none.
        """
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise HttpClientError(f"the answer is no JSON: {self.body[:80]!r}") from error
        if not isinstance(document, dict):
            raise HttpClientError(f"the answer is no JSON object: {self.body[:80]!r}")
        return cast("dict[str, object]", document)


@dataclass(slots=True)
class StreamedAnswer:
    """An answer whose body is still coming."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]

    async def read(self) -> bytes:
        """The rest of the body."""
        pieces, size = [], 0
        async for chunk in self.chunks:
            size += len(chunk)
            if size > LARGEST_BODY:
                raise HttpClientError(f"the answer is larger than {LARGEST_BODY} bytes")
            pieces.append(chunk)
        return b"".join(pieces)


class HttpClient:
    """Asks one server.

    Args:
        url: `http://host:port` or `https://host:port`, perhaps with a path in front of all targets.
        headers: sent with every request.
        ssl_context: for https.
        server_hostname: the name the certificate has to carry, when it is not the host.
        connect_seconds: how long a connection may take to come about.
        silence_seconds: how long the server may say nothing before the connection counts as dead.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        connect_seconds: float = 5.0,
        silence_seconds: float = 30.0,
    ) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._authority = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._headers = headers
        self._ssl_context = ssl_context
        self._server_hostname = server_hostname
        self._connect_seconds = connect_seconds
        self._silence_seconds = silence_seconds

    async def ask(
        self,
        method: str,
        target: str,
        *,
        document: object = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Answer:
        """Send a request, with a JSON document when given; the complete answer.

        Raises:
            HttpClientError: there is none.
        """
        stream = self.stream(method, target, document=document, headers=headers)
        async with stream as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        target: str,
        *,
        document: object = None,
        headers: Mapping[str, str] = NO_HEADERS,
        silence_seconds: float | None = None,
    ) -> AsyncIterator[StreamedAnswer]:
        """The same, with the body as it comes.

        Raises:
            HttpClientError: no answer, or the body breaks off or falls silent.
        """
        reader, writer = await self._connect()
        try:
            writer.write(self._request(method, target, document, headers))
            body = _Body(reader, silence_seconds or self._silence_seconds)
            status = await body.head()
            body.complete = body.complete or method == "HEAD"
            yield StreamedAnswer(status, body.headers, body.chunks())
        finally:
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        server_hostname = (self._server_hostname or self._host) if self._secure else None
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await asyncio.open_connection(
                    self._host,
                    self._port,
                    ssl=self._ssl_context if self._secure else None,
                    server_hostname=server_hostname,
                    limit=CHUNK_BYTES,
                )
        except TimeoutError as error:
            told = f"no connection within {self._connect_seconds:g} s"
            raise HttpClientError(f"{self._authority}: {told}") from error
        except OSError as error:
            raise HttpClientError(f"{self._authority}: {error}") from error

    def _request(
        self, method: str, target: str, document: object, headers: Mapping[str, str]
    ) -> bytes:
        body = b"" if document is None else json_bytes(document)
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
class _Body:
    """Reads one answer; is called back by the parser."""

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

    async def head(self) -> int:
        while not self.head_complete:
            if not await self._feed():
                raise HttpClientError("the connection was closed before an answer came")
        return int(self.parser.get_status_code())

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            received, self.received = self.received, []
            if received:
                yield b"".join(received)
            elif self.complete:
                return
            elif not await self._feed():
                if "content-length" in self.headers or "transfer-encoding" in self.headers:
                    raise HttpClientError("the connection was cut in the middle of an answer")
                return

    async def _feed(self) -> bool:
        try:
            async with asyncio.timeout(self.silence_seconds):
                data = await self.reader.read(CHUNK_BYTES)
        except TimeoutError as error:
            raise SilenceError(f"silence for {self.silence_seconds:g} s") from error
        except OSError as error:
            raise HttpClientError(f"the connection broke: {error}") from error
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise HttpClientError(f"the answer is no HTTP: {error}") from error
        return bool(data)
