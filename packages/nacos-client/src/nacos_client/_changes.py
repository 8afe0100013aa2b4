"""Changes of a document as an iterator, for those who would rather pull than be called."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Self

from .models import Config, ConfigDeleted

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._config import ConfigKey
    from ._core import Core

__all__ = ("AsyncChanges", "Changes")

State = Config | ConfigDeleted


class AsyncChanges:
    """The present state of a document, then each newer one; close it or leave `async with`.

    States that were replaced before they were asked for are skipped.
    """

    def __init__(self, core: Core, key: ConfigKey) -> None:
        self._core = core
        self._key = key
        self._newest: State | None = None
        self._arrived = asyncio.Event()
        self._closed = False
        self._stop: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        self._begin()
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
            TimeoutError: there was none in time.
        """
        self._begin()
        return await asyncio.wait_for(anext(self), timeout_seconds)

    async def aclose(self) -> None:
        """End the watch; whoever waits for the next change is let go."""
        self._closed = True
        self._arrived.set()
        if self._stop is not None:
            self._stop()

    def _begin(self) -> None:
        if self._stop is None:
            self._stop = self._core.watch_config(self._key, self._take, self._take)

    def _take(self, state: State) -> None:
        self._newest = state
        self._arrived.set()


class Changes:
    """The present state of a document, then each newer one; close it or leave `with`.

    States that were replaced before they were asked for are skipped.
    """

    def __init__(self, core: Core, key: ConfigKey) -> None:
        self._core = core
        self._key = key
        self._newest: State | None = None
        self._arrived = threading.Condition()
        self._closed = False
        self._stop: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        self._begin()
        return self

    def __next__(self) -> State:
        try:
            return self.next()
        except TimeoutError:
            raise StopIteration from None

    def next(self, timeout_seconds: float | None = None) -> State:
        """The next state.

        Raises:
            TimeoutError: there was none in time, or the iterator was closed.
        """
        self._begin()
        with self._arrived:
            self._arrived.wait_for(
                lambda: self._closed or self._newest is not None, timeout_seconds
            )
            state, self._newest = self._newest, None
        if self._closed or state is None:
            raise TimeoutError("no change of the document")
        return state

    def close(self) -> None:
        """End the watch; whoever waits for the next change is let go."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
        if self._stop is not None:
            self._stop()

    def _begin(self) -> None:
        if self._stop is None:
            self._stop = self._core.watch_config(self._key, self._take, self._take)

    def _take(self, state: State) -> None:
        with self._arrived:
            self._newest = state
            self._arrived.notify_all()
