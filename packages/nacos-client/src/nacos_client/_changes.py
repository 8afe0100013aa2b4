"""Changes of a document as an iterator, for code that would rather pull than be called."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Self

from ._delivery import Listener
from .models import Config, ConfigDeleted

__all__ = ("AsyncChanges", "Changes")

State = Config | ConfigDeleted
StartWatch = Callable[[Listener[State]], Callable[[], None]]


class AsyncChanges:
    """The present state of a document, then each newer one; close it or leave `async with`.

    A state that is replaced before the iterator reaches it is skipped.

    Args:
        watch: starts a watch with the listener it is given; returns what ends the watch.
    """

    def __init__(self, watch: StartWatch) -> None:
        self._watch = watch
        self._newest: State | None = None
        self._arrived = asyncio.Event()
        self._closed = False
        self._stop: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        self._ensure_started()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        self._ensure_started()
        return self

    async def __anext__(self) -> State:
        await self._arrived.wait()
        if self._closed or self._newest is None:
            raise StopAsyncIteration
        state, self._newest = self._newest, None
        self._arrived.clear()
        return state

    async def next(self, timeout_seconds: float | None = None) -> State:
        """The next state.

        Raises:
            TimeoutError: none came in time.
        """
        self._ensure_started()
        return await asyncio.wait_for(anext(self), timeout_seconds)

    async def aclose(self) -> None:
        """End the watch, and the iteration of a task that waits for the next change."""
        self._closed = True
        self._arrived.set()
        if self._stop is not None:
            self._stop()

    def _ensure_started(self) -> None:
        if self._stop is None and not self._closed:
            self._stop = self._watch(self._receive)

    def _receive(self, state: State) -> None:
        self._newest = state
        self._arrived.set()


class Changes:
    """The present state of a document, then each newer one; close it or leave `with`.

    A state that is replaced before the iterator reaches it is skipped.

    Args:
        watch: starts a watch with the listener it is given; returns what ends the watch.
    """

    def __init__(self, watch: StartWatch) -> None:
        self._watch = watch
        self._newest: State | None = None
        self._arrived = threading.Condition()
        self._closed = False
        self._stop: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        self._ensure_started()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        self._ensure_started()
        return self

    def __next__(self) -> State:
        try:
            return self.next()
        except TimeoutError:
            raise StopIteration from None

    def next(self, timeout_seconds: float | None = None) -> State:
        """The next state.

        Raises:
            TimeoutError: none came in time, or the iterator was closed.
        """
        self._ensure_started()
        with self._arrived:
            self._arrived.wait_for(
                lambda: self._closed or self._newest is not None, timeout_seconds
            )
            state, self._newest = self._newest, None
        if self._closed or state is None:
            raise TimeoutError("no change of the document")
        return state

    def close(self) -> None:
        """End the watch, and the iteration of a thread that waits for the next change."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
        if self._stop is not None:
            self._stop()

    def _ensure_started(self) -> None:
        if self._stop is None and not self._closed:
            self._stop = self._watch(self._receive)

    def _receive(self, state: State) -> None:
        with self._arrived:
            self._newest = state
            self._arrived.notify_all()
