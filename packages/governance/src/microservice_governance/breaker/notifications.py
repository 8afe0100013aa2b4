"""Notifications that are queued under a breaker's lock and sent after it is released."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ("NotificationQueue",)


class NotificationQueue:
    """Runs queued notifications in their order, in one thread at a time.

    A breaker changes its state with its lock held, and must not call a listener there: the listener
    may block, or use the breaker from another thread. So it queues what the listeners have to
    learn, and calls `flush` without the lock.
    """

    __slots__ = ("_flushing", "_pending")

    def __init__(self) -> None:
        self._pending: list[Callable[[], None]] = []
        self._flushing = threading.Lock()

    def append(self, notification: Callable[[], None]) -> None:
        """Queue a notification; it must not raise."""
        self._pending.append(notification)

    def flush(self) -> None:
        """Send what is queued, unless another thread is doing so; that thread then sends it all."""
        # The inner loop keeps the order; no thread waits for the lock. The outer loop is for what
        # is queued after the last check of the inner loop and before the release: the thread that
        # queued it found the lock taken and relies on this one.
        while self._pending and self._flushing.acquire(blocking=False):
            try:
                while self._pending:
                    self._pending.pop(0)()
            finally:
                self._flushing.release()
