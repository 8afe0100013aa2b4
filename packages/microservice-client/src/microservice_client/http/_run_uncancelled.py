# Copied from packages/nacos-client/src/nacos_client/_run_uncancelled.py by scripts/copy_shared.py: change it there.
"""A step that a cancelled caller ends the way anyio does, so that httpx loses no connection.

httpcore, below httpx, is written for anyio's cancellation, which spares the moments at which a
connection is taken from the pool or returned to it. `Task.cancel()`, and so `asyncio.timeout`,
strikes there too: the connection then counts as taken for as long as the pool lives, and a pool
that lost all of its connections sends nothing any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

import anyio

__all__ = ("run_uncancelled",)

T = TypeVar("T")


async def run_uncancelled(
    step: Callable[[], Awaitable[T]],
    undo: Callable[[T], Coroutine[object, object, None]] | None = None,
) -> T:
    """The step's result, from a task of its own that ends before a cancelled caller continues.

    Args:
        step: what to run; when the caller is cancelled, it is cancelled through an anyio scope.
        undo: takes back a result that came although the caller was cancelled.

    Raises:
        asyncio.CancelledError: the caller was cancelled; the step has ended and was undone.
    """
    scope = anyio.CancelScope()
    task = asyncio.create_task(_run_in_scope(scope, step))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        scope.cancel()
        if await _wait_for_success(task) and undo is not None:
            await _wait_for_success(asyncio.create_task(undo(task.result())))
        raise


async def _run_in_scope(scope: anyio.CancelScope, step: Callable[[], Awaitable[T]]) -> T:
    with scope:
        return await step()
    raise asyncio.CancelledError


async def _wait_for_success(task: asyncio.Task[T]) -> bool:
    while not task.done():
        # Further cancellations of the caller: the first one is already on its way to it.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    return not task.cancelled() and task.exception() is None
