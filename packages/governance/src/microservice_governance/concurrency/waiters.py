"""Those who wait in line: a thread, or a task of some event loop."""

from __future__ import annotations

import asyncio
import threading

__all__ = ("TaskTurn", "ThreadTurn", "Turn")


class Turn:
    """One who waits."""

    granted = False

    def grant(self) -> bool:
        """Tell it to go in; False when it cannot be told any more."""
        raise NotImplementedError


class ThreadTurn(Turn):
    def __init__(self) -> None:
        self.event = threading.Event()

    def grant(self) -> bool:
        self.granted = True
        self.event.set()
        return True


class TaskTurn(Turn):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def grant(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # its loop is closed
            return False
        self.granted = True
        return True

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
