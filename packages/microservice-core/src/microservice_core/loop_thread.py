"""A private event loop in a thread of its own: the sync faces of async things run on one."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Self, TypeVar

from .errors import MicroserviceError

__all__ = ("LoopThread", "LoopThreadError")

ResultT = TypeVar("ResultT")


class LoopThreadError(MicroserviceError, RuntimeError):
    """The private loop cannot serve this caller."""


class LoopThread:
    """Runs coroutines for callers that have no loop; `with LoopThread() as loop: loop.run(...)`.

    The thread is a daemon, so that a program which forgets to close it still ends.
    """

    def __init__(self, *, name: str = "microservice-loop") -> None:
        self._name = name
        self._lock = threading.RLock()  # a signal handler may close in the midst of a call
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def start(self) -> None:
        """Start the thread; starting it twice is fine."""
        if self._loop is not None:
            return
        with self._lock:
            if self._loop is None:
                self._pid = os.getpid()
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._serve, args=(self._loop,), name=self._name, daemon=True
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

        Raises:
            LoopThreadError: closed (before or while it waits), never started, used after a fork,
                or called from the private loop itself (it would wait for itself).
            TimeoutError: not done within the time; the coroutine is cancelled.
        """
        future = self._submit(coroutine)
        try:
            return future.result(within_seconds)
        except CancelledError as error:
            if self.running:
                raise
            raise LoopThreadError("this sync client was closed while a call was on") from error
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs, stop the loop, join the thread; closing twice is fine."""
        if self._pid != os.getpid():
            self._lock = threading.RLock()  # a thread that did not come along may have held it
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
            self._refuse_other_processes()
            with self._lock:
                # Under the lock it is in the loop's queue before the stop, so it always ends.
                return asyncio.run_coroutine_threadsafe(coroutine, self._usable_loop())
        except LoopThreadError:
            coroutine.close()
            raise

    def _refuse_other_processes(self) -> None:
        if self._loop is not None and self._pid != os.getpid():
            raise LoopThreadError("this sync client was opened before a fork; open one per process")

    def _usable_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise LoopThreadError("this sync client is not open; use it in a `with` block")
        if threading.current_thread() is self._thread:
            raise LoopThreadError(
                "a sync client cannot be used from its own loop; use the async one"
            )
        return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(_cancel_all())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _cancel_all() -> None:
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
