"""Delivery of changes: every provider notifies its listeners through these classes."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from .registry import Unsubscribe

__all__ = ("Delivery", "Watchers")

logger = logging.getLogger(__name__)

StateT = TypeVar("StateT")
KeyT = TypeVar("KeyT", bound=Hashable)


class _NoState:
    """Marks that there is no state yet: None may be a state."""


_NO_STATE: Final = _NoState()


class Delivery(Generic[StateT]):
    """Notifies one listener of states: the newest wins, equal ones are dropped, one call at a time.

    Belongs to one event loop. An exception of the listener is logged, and the listener is called
    again on the next change.

    Args:
        listener: plain or async; receives each state.
        name: of what is watched, for log lines.
    """

    __slots__ = ("_closed", "_delivered", "_listener", "_name", "_pending", "_task")

    def __init__(
        self, listener: Callable[[StateT], Awaitable[None] | None], *, name: str = "watch"
    ) -> None:
        self._listener = listener
        self._name = name
        self._pending: StateT | _NoState = _NO_STATE
        self._delivered: StateT | _NoState = _NO_STATE
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def notify(self, state: StateT) -> None:
        """Call the listener with `state` soon, unless a newer state replaces it before.

        A state that equals the last one delivered is dropped.
        """
        if self._closed:
            return
        self._pending = state
        if self._task is None:
            # Not supervised: the task ends with the last pending state, and `_call` logs whatever
            # the listener raises.
            self._task = asyncio.get_running_loop().create_task(
                self._deliver(), name=f"deliver {self._name}"
            )

    def close(self) -> None:
        """Start no further call of the listener; may be called twice, and by the listener."""
        self._closed = True
        self._pending = _NO_STATE

    async def aclose(self) -> None:
        """Close, cancel a call that is still running, and wait for its end."""
        self.close()
        task = self._task
        if task is None or task is asyncio.current_task():
            return
        task.cancel()
        await asyncio.wait([task])

    async def _deliver(self) -> None:
        try:
            while not isinstance(self._pending, _NoState):
                state, self._pending = self._pending, _NO_STATE
                if state != self._delivered:
                    self._delivered = state
                    await self._call(state)
        finally:
            self._task = None

    async def _call(self, state: StateT) -> None:
        try:
            result = self._listener(state)
            if inspect.isawaitable(result):
                await result
        except Exception:
            logger.exception("listener of %s failed; it remains subscribed", self._name)


class Watchers(Generic[KeyT, StateT]):
    """The deliveries to many listeners, by the key that each of them watches.

    Belongs to one event loop. A provider keeps one of these, adds each listener, and calls
    `notify` for every change that it finds.
    """

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[KeyT, list[Delivery[StateT]]] = {}

    def add(
        self, key: KeyT, listener: Callable[[StateT], Awaitable[None] | None]
    ) -> tuple[Delivery[StateT], Unsubscribe]:
        """Add a listener of `key`.

        Returns:
            The delivery to this listener, to notify it of the present state, and the function that
            removes the listener; it may be called twice.
        """
        delivery = Delivery(listener, name=str(key))
        self._by_key.setdefault(key, []).append(delivery)

        def unsubscribe() -> None:
            delivery.close()
            siblings = self._by_key.get(key, [])
            if delivery in siblings:
                siblings.remove(delivery)
            if not siblings:
                self._by_key.pop(key, None)

        return delivery, unsubscribe

    def keys(self) -> list[KeyT]:
        """The keys that are watched now."""
        return list(self._by_key)

    def notify(self, key: KeyT, state: StateT) -> None:
        """Notify every listener of `key`."""
        for delivery in list(self._by_key.get(key, ())):
            delivery.notify(state)

    async def aclose(self) -> None:
        """Remove every listener and wait for the calls that are still running."""
        deliveries = [delivery for siblings in self._by_key.values() for delivery in siblings]
        self._by_key.clear()
        for delivery in deliveries:
            await delivery.aclose()
