"""The end of a private event loop: cancel what still runs on it, and wait for all of it."""

from __future__ import annotations

import asyncio

__all__ = ("cancel_all_tasks",)


async def cancel_all_tasks() -> None:
    """Cancel every other task of the running loop and wait until all have ended.

    Tasks that start meanwhile are cancelled as well.
    """
    present: set[asyncio.Task[object]] = set()
    cancelled: set[asyncio.Task[object]] = set()
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
        # A task that is cancelled before its first step never reaches its `finally`, and could not
        # clean up. So each task gets one turn of the loop first.
        for task in present & tasks - cancelled:
            task.cancel()
            cancelled.add(task)
        present |= tasks
        await asyncio.wait(tasks, timeout=0 if tasks - cancelled else None)
    await asyncio.gather(*cancelled, return_exceptions=True)
