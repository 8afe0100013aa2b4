"""httpx's connections without loss when a call is cancelled; see `run_uncancelled` for the reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import cast

import httpx

from ._run_uncancelled import run_uncancelled
from .bodies import read_body

__all__ = ("CancelSafeStream", "CancelSafeTransport")


class CancelSafeTransport(httpx.AsyncBaseTransport):
    """Sends with `transport`, which loses no connection when a caller is cancelled."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return the response, its body unread.

        Raises:
            httpx.TransportError: as from the transport.
        """
        send = partial(self._transport.handle_async_request, request)
        response = await run_uncancelled(send, _close_response)
        # An async transport returns async bodies; httpx types them for both kinds.
        response.stream = CancelSafeStream(cast("httpx.AsyncByteStream", response.stream))
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        await run_uncancelled(self._transport.aclose)


class CancelSafeStream(httpx.AsyncByteStream):
    """A body that returns its connection to the pool, whenever its reader is cancelled."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        while (chunk := await run_uncancelled(partial(anext, chunks, None))) is not None:
            yield chunk

    async def read_all(self, max_bytes: int) -> bytes | None:
        """Read the whole body and close it, in one task instead of one per chunk.

        Returns:
            The body; None if it is longer than `max_bytes`.

        Raises:
            httpx.TransportError: the body broke off.
        """
        return await run_uncancelled(partial(self._read_and_close, max_bytes))

    async def aclose(self) -> None:
        """Return the connection to the pool."""
        if not self._closed:
            await run_uncancelled(self._close)

    async def _read_and_close(self, max_bytes: int) -> bytes | None:
        try:
            return await read_body(self._stream, max_bytes)
        finally:
            await self._close()

    async def _close(self) -> None:
        await self._stream.aclose()
        self._closed = True


async def _close_response(response: httpx.Response) -> None:
    await response.aclose()
