"""Limits the time of a request without blaming the other side for a stalled event loop."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

__all__ = ("ResponseTimer",)

_TICKS = 4
_MAX_LATE_TICKS = 8


class ResponseTimer:
    """`async with ResponseTimer(seconds)`: as `asyncio.timeout`, counting the time the loop runs.

    A loop that was stalled by other code finds the timer expired and the response in its socket in
    one and the same turn. So the time is counted in quarters, and a quarter that came late does not
    count; up to eight do not, which bounds the whole on a loop that always is late.

    Raises:
        TimeoutError: at the end of the block, if the time was up before.
    """

    __slots__ = ("_due", "_handle", "_late", "_left", "_scope", "_tick_seconds")

    def __init__(self, seconds: float) -> None:
        self._tick_seconds = seconds / _TICKS
        self._left = _TICKS
        self._late = 0
        self._scope = asyncio.timeout(None)
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._schedule(asyncio.get_running_loop())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
        await self._scope.__aexit__(exc_type, exc, tb)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + self._tick_seconds
        self._handle = loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        if now > self._due + self._tick_seconds and self._late < _MAX_LATE_TICKS:
            self._late += 1
        else:
            self._left -= 1
        if self._left:
            self._schedule(loop)
        else:
            self._scope.reschedule(now)
