"""Connections by aiohttp (extra `fast`): the same requests and responses, faster.

httpx-aiohttp has the same purpose, but reports a connection that broke after the request had been
sent as `ConnectTimeout`, which means "never sent" and would let a call be repeated.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace
from yarl import URL

from microservice_client.policy import ServicePolicy

from .connection_places import ConnectionPlaces
from .paced_connects import MAX_CONNECTS

__all__ = ("AiohttpTransport", "convert_error")

_CHUNK_BYTES = 65_536
# Headers that aiohttp would add by itself; here every header comes from the request.
_SKIPPED_HEADERS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
_HTTP_1_1: dict[str, object] = {"http_version": b"HTTP/1.1"}

# Errors of aiohttp, the most specific first, and their counterparts in httpx.
_HTTPX_ERRORS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.InvalidURL, httpx.LocalProtocolError),
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


class AiohttpTransport(httpx.AsyncBaseTransport):
    """The connections to one instance, by an aiohttp session that the first request opens.

    Their number has no limit here: see `ConnectionPlaces`.
    """

    def __init__(self, policy: ServicePolicy, tls: ssl.SSLContext) -> None:
        self._policy = policy
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return the response, its body unread.

        Raises:
            httpx.TransportError: as from httpx's own transport.
        """
        session = self._session or self._open_session()
        url = request.url
        timeout = request.extensions.get("timeout", {})
        try:
            response = await session.request(
                request.method,
                URL(str(url), encoded=True),
                headers=_header_pairs(request),
                data=_request_body(request),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    sock_connect=timeout.get("connect"),
                    sock_read=timeout.get("read"),
                ),
                server_hostname=request.extensions.get("sni_hostname"),
            )
        except (aiohttp.ClientError, OSError) as error:
            raise convert_error(error, request) from error
        extensions = dict(_HTTP_1_1)
        if response.reason:
            extensions["reason_phrase"] = response.reason.encode("latin-1", "replace")
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=_ResponseStream(response, request),
            extensions=extensions,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        policy = self._policy
        self._session = aiohttp.ClientSession(
            connector=_PacedConnector(
                limit=0,
                keepalive_timeout=policy.idle_connection_seconds,
                ssl=self._tls,
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_SKIPPED_HEADERS,
        )
        return self._session


class _PacedConnector(aiohttp.TCPConnector):
    """Opens not more than some connections at the same time; see `paced_connects` for the reason."""

    def __init__(self, *, limit: int, keepalive_timeout: float, ssl: ssl.SSLContext) -> None:
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout, ssl=ssl)
        self._turns = ConnectionPlaces(MAX_CONNECTS)

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        turns = self._turns
        if not await turns.take():
            raise aiohttp.ClientConnectionError("the connections are closed")
        try:
            async with asyncio.timeout(timeout.sock_connect):
                return await super()._create_connection(req, traces, timeout)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ClientError):
                raise
            raise aiohttp.ConnectionTimeoutError("no connection in time") from error
        finally:
            turns.give_back()


class _ResponseStream(httpx.AsyncByteStream):
    """A response's body; if it is closed before its end, its connection is closed as well."""

    def __init__(self, response: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_chunked(_CHUNK_BYTES):
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise convert_error(error, self._request) from error

    async def aclose(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


def _header_pairs(request: httpx.Request) -> list[tuple[str, str]]:
    # aiohttp chooses the framing of the body by itself.
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.headers.raw
        if name.lower() != b"transfer-encoding"
    ]


def _request_body(request: httpx.Request) -> bytes | AsyncIterator[bytes] | None:
    if isinstance(request.stream, httpx.ByteStream):
        return b"".join(request.stream) or None
    # The client refuses sync bodies, see `CallEngine.send`.
    return aiter(cast("httpx.AsyncByteStream", request.stream))


def convert_error(error: Exception, request: httpx.Request) -> httpx.TransportError:
    """Return the error of httpx that has the meaning of aiohttp's."""
    kind = next(kind for aiohttp_kind, kind in _HTTPX_ERRORS if isinstance(error, aiohttp_kind))
    return kind(str(error) or type(error).__name__, request=request)
