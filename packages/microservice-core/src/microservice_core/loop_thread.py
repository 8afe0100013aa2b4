"""A private event loop in its own thread, on which the sync classes run their async core."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Self, TypeVar

from ._loop_wind_up import cancel_all_tasks
from .errors import MicroserviceError

__all__ = ("LoopThread", "LoopThreadError")

ResultT = TypeVar("ResultT")


class LoopThreadError(MicroserviceError, RuntimeError):
    """The private loop cannot run this call: closed, not started, forked, or its own thread."""


class LoopThread:
    """Runs coroutines for sync callers: `with LoopThread() as loop: loop.run(...)`.

    The thread is a daemon, so that a program that does not close it can still exit.

    Args:
        name: of the thread.
    """

    def __init__(self, *, name: str = "microservice-loop") -> None:
        self._name = name
        self._lock = threading.RLock()  # re-entrant: a signal handler may close during a call
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def start(self) -> None:
        """Start the thread; does nothing if it is running."""
        if self._loop is not None:
            return
        with self._lock:
            if self._loop is None:
                self._pid = os.getpid()
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._run_loop, args=(self._loop,), name=self._name, daemon=True
                )
                self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it was started in this process and is not closed."""
        return self._loop is not None and self._pid == os.getpid()

    def run(
        self, coroutine: Coroutine[object, object, ResultT], *, within_seconds: float | None = None
    ) -> ResultT:
        """Run the coroutine on the private loop and wait for its result.

        Args:
            within_seconds: longest wait; None waits without limit.

        Raises:
            LoopThreadError: closed (before or during the wait), never started, used after a fork,
                or called on the private loop itself, which would wait for itself.
            TimeoutError: the time is over; the coroutine is cancelled.
        """
        future = self._submit(coroutine)
        try:
            return future.result(within_seconds)
        except CancelledError as error:
            if self.running:
                raise
            raise LoopThreadError("this sync client was closed during a call") from error
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what is running, stop the loop, join the thread; closing twice is fine."""
        if self._pid != os.getpid():
            # In a forked child the thread does not exist. The lock may be held by a thread of the
            # parent that does not exist either, and would then never be released.
            self._lock = threading.RLock()
            self._loop = self._thread = None
            return
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)
        if thread is not None:
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _submit(self, coroutine: Coroutine[object, object, ResultT]) -> Future[ResultT]:
        try:
            self._raise_after_fork()
            with self._lock:
                # `close` stops the loop under the same lock. So the coroutine is in the queue of
                # the loop before the stop is, and is cancelled with all others: it always ends.
                return asyncio.run_coroutine_threadsafe(coroutine, self._require_loop())
        except LoopThreadError:
            coroutine.close()
            raise

    def _raise_after_fork(self) -> None:
        if self._loop is not None and self._pid != os.getpid():
            raise LoopThreadError("this sync client was opened before a fork; open one per process")

    def _require_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise LoopThreadError("this sync client is not open; use it in a `with` block")
        if threading.current_thread() is self._thread:
            raise LoopThreadError(
                "a sync client cannot be used from its own loop; use the async one"
            )
        return self._loop

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(cancel_all_tasks())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
