"""httpx's connections, kept whole when a call is cancelled.

httpcore, below httpx, is written for anyio's cancellation, which spares the moments at which a
connection is taken or given back. `Task.cancel()`, and so `asyncio.timeout`, strikes there too: the
connection then counts as taken for ever, and a pool that lost all of them answers nobody. So each
step here is a task of its own, which a cancelled caller ends the way anyio does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import TypeVar

import anyio
import httpx

__all__ = ("CancelSafeStream", "CancelSafeTransport")

T = TypeVar("T")
Step = Callable[[], Awaitable[T]]
Undo = Callable[[T], Coroutine[object, object, None]]


class CancelSafeTransport(httpx.AsyncBaseTransport):
    """Sends with `transport`, which loses no connection when a caller is cancelled."""

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; the body is unread.

        Raises:
            httpx.TransportError: as the transport does.
        """
        response = await _apart(partial(self._transport.handle_async_request, request), _close)
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - it came async
        response.stream = CancelSafeStream(response.stream)
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        await _apart(self._transport.aclose)


class CancelSafeStream(httpx.AsyncByteStream):
    """A body that gives its connection back, whenever its reader is cancelled."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        while (chunk := await _apart(partial(anext, chunks, None))) is not None:
            yield chunk

    async def whole(self) -> bytes:
        """All of the body, which is closed then, in one step.

        Raises:
            httpx.TransportError: it broke off.
        """
        return await _apart(self._read_and_close)

    async def aclose(self) -> None:
        """Give the connection back."""
        if not self._closed:
            await _apart(self._close)

    async def _read_and_close(self) -> bytes:
        try:
            return b"".join([chunk async for chunk in self._stream])
        finally:
            await self._close()

    async def _close(self) -> None:
        await self._stream.aclose()
        self._closed = True


async def _apart(step: Step[T], undo: Undo[T] | None = None) -> T:
    """The step's result; a caller cancelled meanwhile leaves when the step is over and undone."""
    scope = anyio.CancelScope()
    task = asyncio.create_task(_within(scope, step))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        scope.cancel()
        if await _succeeded(task) and undo is not None:
            await _succeeded(asyncio.create_task(undo(task.result())))
        raise


async def _within(scope: anyio.CancelScope, step: Step[T]) -> T:
    with scope:
        return await step()
    raise asyncio.CancelledError


async def _succeeded(task: asyncio.Task[T]) -> bool:
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):  # one is on its way to the caller
            await asyncio.wait([task])
    return not task.cancelled() and task.exception() is None


async def _close(response: httpx.Response) -> None:
    await response.aclose()
