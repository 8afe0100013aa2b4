"""An exchange that a cancelled caller ends without costing the pool its connection.

httpcore, below httpx, is written for anyio's cancellation, which spares the moments at which a
connection is taken or given back. `Task.cancel()`, and so `asyncio.timeout`, strikes there too: the
connection then counts as taken for ever, and a pool that lost all of them sends nothing any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("apart",)

T = TypeVar("T")


async def apart(exchange: Callable[[], Awaitable[T]]) -> T:
    """The exchange's result, from a task of its own, which is ended the way anyio does it."""
    scope = anyio.CancelScope()
    task = asyncio.create_task(_within(scope, exchange))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        scope.cancel()
        await _over(task)
        raise


async def _within(scope: anyio.CancelScope, exchange: Callable[[], Awaitable[T]]) -> T:
    with scope:
        return await exchange()
    raise asyncio.CancelledError


async def _over(task: asyncio.Task[T]) -> None:
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):  # one is on its way to the caller
            await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # has been seen
