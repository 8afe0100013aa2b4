"""A clock that a test moves by hand."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from microservice_core.errors import InvalidValueError

__all__ = ("ManualClock", "settle")


class ManualClock:
    """A monotonic clock and its `sleep`, moved by `advance`.

    Calling it returns the time in seconds. Pass `clock` and `clock.sleep` to the code under test.

    Args:
        start: the first time, in seconds.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        """The time now, in seconds."""
        return self._now

    @property
    def sleepers(self) -> int:
        """The number of sleeping tasks that were not cancelled."""
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has advanced by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), sleeper))
        await sleeper

    def advance(self, seconds: float) -> None:
        """Move the time forward, and wake the sleepers whose time has come, in order.

        Raises:
            InvalidValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise InvalidValueError("seconds", seconds, "at least 0")
        self._move_to(self._now + seconds)

    async def run(self, seconds: float) -> None:
        """Move forward from one sleeper's time to the next, and let each run before the next wakes.

        So a loop that sleeps for a second runs at every second, as with a real clock.
        """
        end = self._now + seconds
        await settle()
        while (wakes_at := self._next_wake()) is not None and wakes_at <= end:
            self._move_to(wakes_at)
            await settle()
        self._move_to(end)
        await settle()

    def _next_wake(self) -> float | None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _move_to(self, time: float) -> None:
        self._now = time
        while (wakes_at := self._next_wake()) is not None and wakes_at <= time:
            heapq.heappop(self._sleepers)[2].set_result(None)


async def settle() -> None:
    """Let every ready task run until it waits.

    That takes an iteration of the loop for each task that wakes another; ten are enough for any
    chain in this toolkit.
    """
    for _ in range(10):
        await asyncio.sleep(0)
