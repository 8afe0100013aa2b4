"""Connections by aiohttp (extra `fast`): the same requests and responses, a quicker way there.

httpx-aiohttp does the same job; this one says of a connection that broke after the request had
gone out that it broke, where the other says `ConnectTimeout`, which reads as "never sent".
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import aiohttp
import httpx
from yarl import URL

from microservice_client.policy import ServicePolicy

__all__ = ("AiohttpTransport", "aiohttp_pool")

_CHUNK = 65_536
_SKIPPED = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
_HTTP_1_1: dict[str, object] = {"http_version": b"HTTP/1.1"}

# What aiohttp raises, the most specific first, and what httpx calls it.
_AS_HTTPX: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.SocketTimeoutError, httpx.ReadTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx.ReadError),
    (aiohttp.ClientConnectionError, httpx.ReadError),
    (aiohttp.ClientOSError, httpx.ReadError),
    (aiohttp.ClientError, httpx.RemoteProtocolError),
    (TimeoutError, httpx.ReadTimeout),
    (OSError, httpx.ReadError),
)


def aiohttp_pool(policy: ServicePolicy, tls: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    """Connections to one instance by aiohttp."""
    return AiohttpTransport(policy, tls)


class AiohttpTransport(httpx.AsyncBaseTransport):
    """One aiohttp session; opened with the first request, in the loop that makes it."""

    def __init__(self, policy: ServicePolicy, tls: ssl.SSLContext) -> None:
        self._policy = policy
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; the body is unread.

        Raises:
            httpx.TransportError: as httpx's own transport would.
        """
        session = self._session or self._open()
        url = request.url
        timeout = request.extensions.get("timeout", {})
        try:
            answer = await session.request(
                request.method,
                URL(str(url), encoded=True),
                headers=_pairs(request),
                data=_body(request),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    connect=timeout.get("pool"),
                    sock_connect=timeout.get("connect"),
                    sock_read=timeout.get("read"),
                ),
                server_hostname=request.extensions.get("sni_hostname"),
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _as_httpx(error, request) from error
        extensions = dict(_HTTP_1_1)
        if answer.reason:
            extensions["reason_phrase"] = answer.reason.encode("latin-1", "replace")
        return httpx.Response(
            answer.status,
            headers=answer.raw_headers,
            stream=_AnswerStream(answer, request),
            extensions=extensions,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        policy = self._policy
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=policy.max_connections_per_instance,
                keepalive_timeout=policy.idle_connection_seconds,
                ssl=self._tls,
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_SKIPPED,
        )
        return self._session


class _AnswerStream(httpx.AsyncByteStream):
    """The body, as it comes; one that was not read to its end takes its connection along."""

    def __init__(self, answer: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.content.iter_chunked(_CHUNK):
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise _as_httpx(error, self._request) from error

    async def aclose(self) -> None:
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()


def _pairs(request: httpx.Request) -> list[tuple[str, str]]:
    # aiohttp frames the body by itself.
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.headers.raw
        if name.lower() != b"transfer-encoding"
    ]


def _body(request: httpx.Request) -> bytes | AsyncIterator[bytes] | None:
    if isinstance(request.stream, httpx.ByteStream):
        return b"".join(request.stream) or None
    assert isinstance(request.stream, httpx.AsyncByteStream)  # noqa: S101 - an async client's
    return aiter(request.stream)


def _as_httpx(error: Exception, request: httpx.Request) -> httpx.TransportError:
    kind = next(ours for theirs, ours in _AS_HTTPX if isinstance(error, theirs))
    return kind(str(error) or type(error).__name__, request=request)
