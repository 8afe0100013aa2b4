"""Call one listener with the newest state: never two calls at once, nothing old, nothing twice."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ("Delivery", "Listener")

logger = logging.getLogger(__name__)

S = TypeVar("S")

Listener = Callable[[S], Awaitable[None] | None]


class Delivery(Generic[S]):
    """One listener and the newest state it has not seen.

    `notify` may be called from any thread; the listener runs on `loop`. While it is busy, newer
    states replace each other, so a slow listener costs one slot and sees only the last.

    Args:
        name: of the watch, for the log.
        loop: where the listener runs.
        call: calls the listener with a state and the one it saw before.
        differs: whether a state differs from the one the listener saw before.
        in_threads: plain listeners run in a worker thread instead of on the loop.
    """

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        call: Callable[[S, S | None], Awaitable[None] | None],
        *,
        differs: Callable[[S | None, S], bool],
        in_threads: bool = False,
    ) -> None:
        self._name = name
        self._loop = loop
        self._call = call
        self._differs = differs
        self._in_threads = in_threads
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._newest: S | None = None
        self._seen: S | None = None
        self._task: asyncio.Task[None] | None = None
        self._scheduled = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether no further call begins."""
        return self._closed

    def notify(self, state: S) -> None:
        """Make this the newest state, and have the listener called with it."""
        with self._lock:
            if self._closed:
                return
            self._newest = state
            if self._scheduled:
                return
            self._scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._start, context=self._context)
        except RuntimeError:
            self.close()
            logger.warning("%s ends: the event loop it was started on is closed", self._name)

    def close(self) -> None:
        """Begin no further call; one under way may finish."""
        with self._lock:
            self._closed = True
            self._newest = None

    def _start(self) -> None:
        # The reference keeps the task from being collected. It ends by itself, and catches what
        # a listener raises.
        self._task = self._loop.create_task(self._deliver(), context=self._context)

    async def _deliver(self) -> None:
        while True:
            with self._lock:
                state, self._newest = self._newest, None
                if state is None:
                    self._scheduled = False
                    return
            if not self._differs(self._seen, state):
                continue
            previous, self._seen = self._seen, state
            try:
                await self._call_listener(state, previous)
            except Exception:
                logger.exception(
                    "%s: the listener failed; it is called again with the next change", self._name
                )

    async def _call_listener(self, state: S, previous: S | None) -> None:
        if self._in_threads:
            outcome = await asyncio.to_thread(self._call, state, previous)
        else:
            outcome = self._call(state, previous)
        if inspect.isawaitable(outcome):
            await outcome
