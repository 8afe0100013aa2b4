"""One daemon thread with an event loop of its own, for what must go on while user code runs."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ClientClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ("Background",)

logger = logging.getLogger(__name__)

T = TypeVar("T")

JOIN_SECONDS = 0.5


class Background:
    """Starts with the first piece of work; closing cancels and joins all of it.

    Args:
        last: run on the loop at the very end, to close what belongs to it.
    """

    def __init__(self, name: str, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._name = name
        self._last = last
        self._lock = threading.RLock()  # a signal handler may close in the midst of a call
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended: Future[None] = Future()
        self._process = os.getpid()
        self._closed = False

    @property
    def running(self) -> bool:
        """Whether the thread was started."""
        return self._loop is not None

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run the coroutine on the background loop.

        Raises:
            ClientClosedError: after close, or in a forked child.
        """
        try:
            self._refuse_other_processes()
            with self._lock:
                # Under the lock it is in the loop's queue before the stop, so it always ends.
                return asyncio.run_coroutine_threadsafe(work, self._started())
        except ClientClosedError:
            work.close()
            raise

    def loop(self) -> asyncio.AbstractEventLoop:
        """The background loop, started if need be.

        Raises:
            ClientClosedError: after close, or in a forked child.
        """
        self._refuse_other_processes()
        with self._lock:
            return self._started()

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call on the background loop; nothing happens once it is closed."""
        loop = self._loop
        if loop is not None and not self._closed and self._process == os.getpid():
            loop.call_soon_threadsafe(function)

    def stop(self) -> Future[None]:
        """Cancel everything; the future is done when the thread has ended."""
        if self._process != os.getpid():
            self._lock = threading.RLock()  # a thread that did not come along may have held it
            self._loop = None
        with self._lock:
            first, self._closed = not self._closed, True
            if self._loop is None:
                if not self._ended.done():
                    self._ended.set_result(None)
            elif first:
                self._loop.call_soon_threadsafe(self._loop.stop)
        return self._ended

    def join(self) -> None:
        """Wait for the thread's last breath, once the future of `stop` is done."""
        if self._thread is not None and self._process == os.getpid() and self._ended.done():
            self._thread.join(JOIN_SECONDS)

    def _refuse_other_processes(self) -> None:
        if self._process != os.getpid():
            raise ClientClosedError(
                "this Nacos client watches or registers in the process it was made in; "
                "make a new client after the fork"
            )

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise ClientClosedError("the Nacos client is closed; make a new one")
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._run, args=(self._loop,), name=self._name, daemon=True
            )
            self._thread.start()
        return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(self._wind_up())
            loop.run_until_complete(loop.shutdown_default_executor())
        except Exception:
            logger.exception("the Nacos background thread did not end cleanly")
        finally:
            loop.close()
            self._ended.set_result(None)

    async def _wind_up(self) -> None:
        known: set[asyncio.Task[object]] = set()
        told: set[asyncio.Task[object]] = set()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            # One that has not begun could not clean up, so each has a turn before it is told.
            for task in known & tasks - told:
                task.cancel()
                told.add(task)
            known |= tasks
            await asyncio.wait(tasks, timeout=0 if tasks - told else None)
        await asyncio.gather(*told, return_exceptions=True)
        await self._last()
