"""Who waits for a change of what: one set of waiters per key, woken together."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

__all__ = ("Changes",)


class Changes:
    """Wakes those who wait for a key, shortly after it changed, so that a burst wakes them once.

    Belongs to one event loop. Memory is one entry per key that somebody waits for.
    """

    def __init__(self, *, debounce_seconds: float = 0.05) -> None:
        self._debounce = debounce_seconds
        self._waiters: dict[Hashable, set[asyncio.Future[None]]] = {}
        self._scheduled: set[Hashable] = set()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return sum(map(len, self._waiters.values()))

    async def wait(self, key: Hashable, timeout_seconds: float) -> bool:
        """Wait for the next change of the key; False when none came in time, or at the end."""
        if self._closed:
            return False
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(timeout_seconds, _give_up, waiter)
        waiters = self._waiters.setdefault(key, set())
        waiters.add(waiter)
        try:
            await waiter
        except TimeoutError:
            return False
        finally:
            timer.cancel()
            waiters.discard(waiter)
            if not waiters and self._waiters.get(key) is waiters:
                del self._waiters[key]
        return not self._closed

    def announce(self, key: Hashable) -> None:
        """The key has changed."""
        if key in self._waiters and key not in self._scheduled:
            self._scheduled.add(key)
            asyncio.get_running_loop().call_later(self._debounce, self._wake, key)

    def announce_all(self) -> None:
        """Everything may have changed."""
        for key in tuple(self._waiters):
            self.announce(key)

    def close(self) -> None:
        """Let everybody go."""
        self._closed = True
        for key in tuple(self._waiters):
            self._wake(key)

    def _wake(self, key: Hashable) -> None:
        self._scheduled.discard(key)
        for waiter in self._waiters.pop(key, ()):
            if not waiter.done():
                waiter.set_result(None)


def _give_up(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
