"""A private event loop in a thread of its own: the sync faces of async things run on one."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def start(self) -> None:
        """Start the thread; starting it twice is fine."""
        if self._loop is not None:
            return
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
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
            LoopThreadError: closed, never started, used after a fork, or called from the private
                loop itself (it would wait for itself).
            TimeoutError: not done within the time; the coroutine is cancelled.
        """
        try:
            loop = self._usable_loop()
        except LoopThreadError:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result(within_seconds)
        except BaseException:
            _cancel(future)
            raise

    def close(self) -> None:
        """Cancel what still runs, stop the loop, join the thread; closing twice is fine."""
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None or self._pid != os.getpid():
            return
        loop.call_soon_threadsafe(loop.stop)
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

    def _usable_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise LoopThreadError("this sync client is not open; use it in a `with` block")
        if self._pid != os.getpid():
            raise LoopThreadError("this sync client was opened before a fork; open one per process")
        if threading.current_thread() is self._thread:
            raise LoopThreadError(
                "a sync client cannot be used from its own loop; use the async one"
            )
        return self._loop

    def _serve(self) -> None:
        loop = self._loop
        assert loop is not None  # noqa: S101 - set before the thread starts
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _cancel(future: Future[ResultT]) -> None:
    if not future.done():
        future.cancel()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
