"""Newest state to one listener, one call at a time: how every provider tells of a change."""

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


class _Nothing:
    """Stands for "no state yet"; None may be a state."""


_NOTHING: Final = _Nothing()


class Delivery(Generic[StateT]):
    """Hands states to one listener: the newest wins, equal ones are dropped, never two at once.

    Belongs to one event loop. A listener that raises is logged and called again on the next
    change.
    """

    __slots__ = ("_delivered", "_listener", "_name", "_pending", "_stopped", "_task")

    def __init__(
        self, listener: Callable[[StateT], Awaitable[None] | None], *, name: str = "watch"
    ) -> None:
        self._listener = listener
        self._name = name
        self._pending: StateT | _Nothing = _NOTHING
        self._delivered: StateT | _Nothing = _NOTHING
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def offer(self, state: StateT) -> None:
        """Let the listener see this state soon, unless a newer one comes first."""
        if self._stopped:
            return
        self._pending = state
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(
                self._deliver(), name=f"deliver {self._name}"
            )

    def stop(self) -> None:
        """Start no further call of the listener; may be called twice and by the listener."""
        self._stopped = True
        self._pending = _NOTHING

    async def aclose(self) -> None:
        """Stop, cancel a call that still runs, and wait for its end."""
        self.stop()
        task = self._task
        if task is None or task is asyncio.current_task():
            return
        task.cancel()
        await asyncio.wait([task])

    async def _deliver(self) -> None:
        try:
            while not isinstance(self._pending, _Nothing):
                state, self._pending = self._pending, _NOTHING
                if state != self._delivered:
                    self._delivered = state
                    await self._call(state)
        finally:
            self._task = None

    async def _call(self, state: StateT) -> None:
        try:
            answer = self._listener(state)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            logger.exception("listener of %s failed; it stays subscribed", self._name)


class Watchers(Generic[KeyT, StateT]):
    """The deliveries of many listeners, found by what they watch."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[KeyT, list[Delivery[StateT]]] = {}

    def add(
        self, key: KeyT, listener: Callable[[StateT], Awaitable[None] | None]
    ) -> tuple[Delivery[StateT], Unsubscribe]:
        """A delivery to the listener, and what ends it."""
        delivery = Delivery(listener, name=str(key))
        self._by_key.setdefault(key, []).append(delivery)

        def unsubscribe() -> None:
            delivery.stop()
            siblings = self._by_key.get(key, [])
            if delivery in siblings:
                siblings.remove(delivery)
            if not siblings:
                self._by_key.pop(key, None)

        return delivery, unsubscribe

    def keys(self) -> list[KeyT]:
        """What is watched now."""
        return list(self._by_key)

    def offer(self, key: KeyT, state: StateT) -> None:
        """Hand the state to everyone who watches `key`."""
        for delivery in list(self._by_key.get(key, ())):
            delivery.offer(state)

    async def aclose(self) -> None:
        """End every delivery and wait for it."""
        everyone = [one for siblings in self._by_key.values() for one in siblings]
        self._by_key.clear()
        for delivery in everyone:
            await delivery.aclose()
