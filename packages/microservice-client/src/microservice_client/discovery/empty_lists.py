"""Empty lists of instances that wait to be confirmed.

A registry that has just restarted is as empty as one whose instances have all left. Only time shows
the difference: the instances that run register again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ("EmptyListHold",)


class EmptyListHold:
    """Asks for a confirmation when a list has been empty for a while; one task per service.

    Args:
        seconds: how long an empty list is held.
        confirm: is called with the service at the end; returns whether the hold is over, else it
            begins anew.
        sleep: waits.
    """

    def __init__(
        self,
        seconds: float,
        *,
        confirm: Callable[[str], Awaitable[bool]],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._seconds = seconds
        self._confirm = confirm
        self._sleep = sleep
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, service: str) -> bool:
        return service in self._tasks

    def start(self, service: str) -> None:
        """Hold the empty list of the service, if none of it is held; needs a running loop."""
        if service not in self._tasks:
            # Not supervised: it ends by itself, and `confirm` raises nothing.
            task = asyncio.create_task(self._wait(service), name=f"confirm no instances {service}")
            self._tasks[service] = task
            task.add_done_callback(lambda done: self._forget(service, done))

    def end(self, service: str) -> None:
        """Hold it no longer: there are instances, or the service is not used any more."""
        task = self._tasks.pop(service, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def aclose(self) -> None:
        """Cancel every hold and wait for its end."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _wait(self, service: str) -> None:
        confirmed = False
        while not confirmed:
            await self._sleep(self._seconds)
            confirmed = await self._confirm(service)

    def _forget(self, service: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(service) is task:
            del self._tasks[service]
