"""Poll what is watched: one poll per key, however many listen; never ends because one failed."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._steps import Operation
from .errors import NacosError

if TYPE_CHECKING:
    import random

    from ._background import Background
    from ._delivery import Delivery

__all__ = ("Pause", "Poller", "Run", "Watched")

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")

Run = Callable[[Operation[Any]], Awaitable[Any]]
Pause = Callable[[float], Awaitable[None]]

MOST_READS_AT_ONCE = 16


class Watched(Generic[K, S]):
    """One watched key, its newest state and those who listen. Lives on the background loop."""

    def __init__(self, key: K) -> None:
        self.key = key
        self.deliveries: set[Delivery[S]] = set()
        self.state: S | None = None
        self.in_trouble = False
        self.looking = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None

    def tell(self, state: S) -> None:
        """Make it the newest state, for those who listen and those who will."""
        self.state = state
        for delivery in tuple(self.deliveries):
            delivery.offer(state)


class Poller(ABC, Generic[K, S]):
    """All watched keys of one kind.

    Args:
        run: runs an operation on the background loop.
        poll_seconds: the longest time between two looks at a key; each is up to a fifth shorter,
            so that many clients do not poll in step.
    """

    def __init__(
        self,
        run: Run,
        background: Background,
        *,
        poll_seconds: float,
        rng: random.Random,
        sleep: Pause,
    ) -> None:
        self._run = run
        self._background = background
        self._poll_seconds = poll_seconds
        self._rng = rng
        self._sleep = sleep
        self._watched: dict[K, Watched[K, S]] = {}
        self._gate = asyncio.Semaphore(MOST_READS_AT_ONCE)

    def watch(self, key: K, delivery: Delivery[S]) -> Callable[[], None]:
        """Keep the delivery supplied until the returned callable is called."""
        self._background.submit(self._add(key, delivery))

        def stop() -> None:
            delivery.stop()
            self._background.call_soon(lambda: self._remove(key, delivery))

        return stop

    @abstractmethod
    async def _look(self, watched: Watched[K, S]) -> None:
        """Ask the server, and tell what is new.

        Raises:
            NacosError: it could not be asked; `_missed` is called.
        """

    def _missed(self, watched: Watched[K, S]) -> None:
        """A look failed."""

    def _begin(self, key: K) -> Watched[K, S]:
        return Watched(key)

    def state(self, key: K) -> S | None:
        """The newest state of a watched key; may be asked from any thread."""
        watched = self._watched.get(key)
        return watched.state if watched is not None else None

    def _pause(self, watched: Watched[K, S]) -> float:
        """How long until the next look."""
        return self._poll_seconds * self._rng.uniform(0.8, 1.0)

    async def _add(self, key: K, delivery: Delivery[S]) -> None:
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = self._begin(key)
            watched.task = asyncio.create_task(self._poll(watched))
        watched.deliveries.add(delivery)
        if watched.state is not None:
            delivery.offer(watched.state)

    def _remove(self, key: K, delivery: Delivery[S]) -> None:
        watched = self._watched.get(key)
        if watched is None:
            return
        watched.deliveries.discard(delivery)
        if not watched.deliveries and watched.task is not None:
            watched.task.cancel()
            del self._watched[key]

    def _restart(self, watched: Watched[K, S], seconds: float) -> None:
        """Have the next look in so many seconds, unless one is under way."""
        if watched.task is not None and not watched.looking.locked():
            watched.task.cancel()
            watched.task = asyncio.create_task(self._poll(watched, seconds))

    async def _poll(self, watched: Watched[K, S], first_pause: float = 0.0) -> None:
        if first_pause:
            await self._sleep(first_pause)
        while True:
            await self._look_in_turn(watched)
            await self._sleep(self._pause(watched))

    async def _look_in_turn(self, watched: Watched[K, S]) -> None:
        """One look of this key at a time, and not too many of all keys."""
        async with watched.looking, self._gate:
            await self._try_to_look(watched)

    async def _try_to_look(self, watched: Watched[K, S]) -> None:
        try:
            await self._look(watched)
        except NacosError as error:
            if not watched.in_trouble:
                logger.warning("watch of %s: %s", watched.key, error)
            watched.in_trouble = True
            self._missed(watched)
        except Exception:
            if not watched.in_trouble:
                logger.exception("watch of %s failed; it goes on", watched.key)
            watched.in_trouble = True
        else:
            if watched.in_trouble:
                logger.info("watch of %s works again", watched.key)
            watched.in_trouble = False
