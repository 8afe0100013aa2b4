"""A request that a cancelled caller ends without leaving its connection behind.

httpcore, below httpx, is written for anyio's cancellation, which spares the moments at which a
connection is taken or given back. `Task.cancel()`, and so `asyncio.timeout`, strikes there too: the
connection then counts as taken, and stays open, for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

__all__ = ("apart",)

T = TypeVar("T")


async def apart(request: Callable[[], Awaitable[T]]) -> T:
    """The request's result, from a task of its own, which is ended the way anyio does it."""
    scope = anyio.CancelScope()
    task = asyncio.create_task(_within(scope, request))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        scope.cancel()
        await _over(task)
        raise


async def _within(scope: anyio.CancelScope, request: Callable[[], Awaitable[T]]) -> T:
    with scope:
        return await request()
    raise asyncio.CancelledError


async def _over(task: asyncio.Task[T]) -> None:
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):  # one is on its way to the caller
            await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # has been seen
