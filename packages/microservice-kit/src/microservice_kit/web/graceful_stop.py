"""SIGTERM in the right order: out of the registry first, then the server stops accepting."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Self

from microservice_core import LoopThread

__all__ = ("GracefulStop",)

logger = logging.getLogger(__name__)

Handler = Callable[[int, FrameType | None], object]


class GracefulStop:
    """Holds SIGTERM back from the server until the service has left the registry.

    A server that is told at once stops accepting while callers still know this instance. A second
    SIGTERM goes through without waiting, and so does one that a forked child hears. Servers that
    listen to signals through the event loop (hypercorn) hear them at once all the same; in a pod, a
    `preStop` pause does the same job.

    Args:
        leave: takes the service out and waits until callers know.
    """

    def __init__(self, leave: Callable[[], Awaitable[None]]) -> None:
        self._leave = leave
        self._previous: Handler | int | None = None
        self._task: asyncio.Task[None] | None = None
        self._installed = False

    def install(self, loop: LoopThread | None = None) -> Self:
        """From now on hear SIGTERM first; does nothing outside the main thread.

        Args:
            loop: where `leave` runs; by default the loop that runs here.
        """
        if not _in_main_thread():
            return self
        previous = signal.getsignal(signal.SIGTERM)
        if getattr(previous, "__module__", "") == "asyncio.unix_events":
            return self
        self._loop = loop.run(_running_loop()) if loop else asyncio.get_running_loop()
        self._previous = previous
        self._pid = os.getpid()
        signal.signal(signal.SIGTERM, self._heard)
        self._installed = True
        return self

    def uninstall(self) -> None:
        """Give the signal back, unless somebody else took it meanwhile."""
        self._installed = False
        if _in_main_thread() and signal.getsignal(signal.SIGTERM) == self._heard:
            signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)

    def _heard(self, signum: int, frame: FrameType | None) -> None:
        if self._task is None and self._installed and os.getpid() == self._pid:
            self._loop.call_soon_threadsafe(self._begin, signum)
        else:
            self._pass_on(signum, frame)

    def _begin(self, signum: int) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._stop(signum), name="leave the registry")

    async def _stop(self, signum: int) -> None:
        logger.info("SIGTERM: leaving the registry before the server stops")
        try:
            await self._leave()
        finally:
            if _in_main_thread():
                self._pass_on(signum, None)
            elif self._installed:
                _raise_in_main_thread(signum)  # heard once more, and passed on there

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        self.uninstall()
        if callable(self._previous):
            self._previous(signum, frame)
        else:
            os.kill(os.getpid(), signum)


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _raise_in_main_thread(signum: int) -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signum)
    else:
        signal.raise_signal(signum)
