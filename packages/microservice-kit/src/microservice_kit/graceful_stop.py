"""SIGTERM in the right order: deregister first, then the server stops accepting.

`microservice_kit.stop_order` has the whole order of stopping.
"""

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
    """Holds SIGTERM back from the server until the service has been deregistered.

    A server that receives it at once stops accepting while callers still know this instance. A
    second SIGTERM is forwarded without waiting, and so is one in a forked child. Servers that listen
    for signals through the event loop (hypercorn) receive them at once all the same; in a pod, a
    `preStop` pause does the same job.

    Args:
        leave: takes the service out of the registry and waits until callers have noticed.
    """

    _loop: asyncio.AbstractEventLoop
    _pid: int

    def __init__(self, leave: Callable[[], Awaitable[None]]) -> None:
        self._leave = leave
        self._previous: Handler | int | None = None
        self._task: asyncio.Task[None] | None = None
        self._installed = False

    def install(self, loop: LoopThread | None = None) -> Self:
        """Handle SIGTERM before its present handler; does nothing outside the main thread.

        Args:
            loop: where `leave` runs; by default the running loop.
        """
        if not _is_main_thread():
            return self
        previous = signal.getsignal(signal.SIGTERM)
        # asyncio's own handler does nothing: the loop is woken through a file descriptor,
        # which a handler of ours would not hold back.
        if getattr(previous, "__module__", "") == "asyncio.unix_events":
            return self
        self._loop = loop.run(_get_running_loop()) if loop else asyncio.get_running_loop()
        self._previous = previous
        self._pid = os.getpid()
        signal.signal(signal.SIGTERM, self._handle)
        self._installed = True
        return self

    def uninstall(self) -> None:
        """Restore the previous handler, unless another one was installed meanwhile."""
        self._installed = False
        if _is_main_thread() and signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._task is None and self._installed and os.getpid() == self._pid:
            self._loop.call_soon_threadsafe(self._start_leaving, signum)
        else:
            self._forward(signum, frame)

    def _start_leaving(self, signum: int) -> None:
        if self._task is None:
            # No supervisor: it runs once, logs its own failure, and ends with the forwarded signal.
            self._task = self._loop.create_task(
                self._leave_then_forward(signum), name="leave the registry"
            )

    async def _leave_then_forward(self, signum: int) -> None:
        logger.info("SIGTERM: leaving the registry before the server stops")
        try:
            await self._leave()
        except Exception:
            logger.exception("the service could not leave the registry; stopping all the same")
        finally:
            if _is_main_thread():
                self._forward(signum, None)
            elif self._installed:
                _raise_in_main_thread(signum)  # `_handle` runs once more, and forwards it there

    def _forward(self, signum: int, frame: FrameType | None) -> None:
        self.uninstall()
        if callable(self._previous):
            self._previous(signum, frame)
        else:
            os.kill(os.getpid(), signum)


async def _get_running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _raise_in_main_thread(signum: int) -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signum)
    else:
        signal.raise_signal(signum)
