"""Callers that wait in the queue of a bulkhead: a thread, or a task of any event loop."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod

__all__ = ("TaskWaiter", "ThreadWaiter", "Waiter")


class Waiter(ABC):
    """One waiting caller.

    Attributes:
        has_permit: a permit was handed to this caller.
    """

    has_permit = False

    @abstractmethod
    def wake(self) -> bool:
        """Hand over a permit and let the caller go on; False if it can no longer be woken."""


class ThreadWaiter(Waiter):
    """A thread; it waits for `event`."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def wake(self) -> bool:
        self.has_permit = True
        self.event.set()
        return True


class TaskWaiter(Waiter):
    """A task of the running loop; it awaits `future`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._complete)
        except RuntimeError:  # its loop is closed
            return False
        self.has_permit = True
        return True

    def _complete(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
