"""Wait for changes: one set of waiters per key, woken together."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

__all__ = ("ChangeNotifier",)


class ChangeNotifier:
    """Wakes the waiters of a key shortly after it changed, so that a burst wakes them once.

    Belongs to one event loop. It needs memory for each key that has waiters, and for no other.
    """

    def __init__(self, *, debounce_seconds: float = 0.05) -> None:
        self._debounce_seconds = debounce_seconds
        self._waiters: dict[Hashable, set[asyncio.Future[None]]] = {}
        self._scheduled: set[Hashable] = set()
        self._closed = False

    @property
    def waiters(self) -> int:
        """The number of waiters."""
        return sum(map(len, self._waiters.values()))

    async def wait(self, key: Hashable, timeout_seconds: float) -> bool:
        """Wait for the next change of the key; False when none came in time, or after close."""
        if self._closed:
            return False
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(timeout_seconds, _time_out, waiter)
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

    def notify(self, key: Hashable) -> None:
        """Wake the waiters of the key: it has changed."""
        if key in self._waiters and key not in self._scheduled:
            self._scheduled.add(key)
            asyncio.get_running_loop().call_later(self._debounce_seconds, self._wake, key)

    def notify_all(self) -> None:
        """Wake all waiters: anything may have changed."""
        for key in tuple(self._waiters):
            self.notify(key)

    def close(self) -> None:
        """Wake all waiters at once; later ones do not wait."""
        self._closed = True
        for key in tuple(self._waiters):
            self._wake(key)

    def _wake(self, key: Hashable) -> None:
        self._scheduled.discard(key)
        for waiter in self._waiters.pop(key, ()):
            if not waiter.done():
                waiter.set_result(None)


def _time_out(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
