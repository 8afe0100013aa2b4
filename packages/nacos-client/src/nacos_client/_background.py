"""One daemon thread with its own event loop, for work that continues while user code runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from ._loop_wind_up import cancel_all_tasks
from .errors import ClientClosedError

__all__ = ("BackgroundLoop",)

logger = logging.getLogger(__name__)

T = TypeVar("T")

_JOIN_SECONDS = 0.5


class BackgroundLoop:
    """An event loop in a thread that starts with the first work; closing cancels and joins it.

    Args:
        name: of the thread.
        on_close: run on the loop at the very end, to close what belongs to the loop.
    """

    def __init__(self, name: str, on_close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._name = name
        self._on_close = on_close
        # Reentrant: a signal handler may close the client in the middle of one of its calls.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended: Future[None] = Future()
        self._process = os.getpid()
        self._closed = False

    @property
    def started(self) -> bool:
        """Whether the thread was started, whether or not it has ended since."""
        return self._loop is not None

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run the coroutine on the loop, which is started if need be.

        Raises:
            ClientClosedError: after close, or in a forked child.
        """
        try:
            self._refuse_other_processes()
            with self._lock:
                # Under the lock it is in the loop's queue before the stop, so it always ends.
                return asyncio.run_coroutine_threadsafe(work, self._ensure_started())
        except ClientClosedError:
            work.close()
            raise

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, started if need be.

        Raises:
            ClientClosedError: after close, or in a forked child.
        """
        self._refuse_other_processes()
        with self._lock:
            return self._ensure_started()

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call the function on the loop; nothing happens once it is closed, or after a fork."""
        loop = self._loop
        if loop is not None and not self._closed and self._process == os.getpid():
            with contextlib.suppress(RuntimeError):  # another thread closes it at this moment
                loop.call_soon_threadsafe(function)

    def close(self) -> Future[None]:
        """Cancel all work without waiting; the future is done when the thread has ended."""
        if self._process != os.getpid():
            self._lock = threading.RLock()  # a parent's thread may have held it during the fork
            self._loop = None
        with self._lock:
            is_first, self._closed = not self._closed, True
            if self._loop is None:
                if not self._ended.done():
                    self._ended.set_result(None)
            elif is_first:
                self._loop.call_soon_threadsafe(self._loop.stop)
        return self._ended

    def join(self) -> None:
        """Wait until the thread is gone; returns at once unless the future of `close` is done."""
        if self._thread is not None and self._process == os.getpid() and self._ended.done():
            self._thread.join(_JOIN_SECONDS)

    def _refuse_other_processes(self) -> None:
        if self._process != os.getpid():
            raise ClientClosedError(
                "this Nacos client watches or registers in the process it was made in; "
                "make a new client after the fork"
            )

    def _ensure_started(self) -> asyncio.AbstractEventLoop:
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
        await cancel_all_tasks()
        await self._on_close()
