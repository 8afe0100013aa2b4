"""Poll what is watched: one poll per key, however many listen; a failed poll ends no watch."""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

from ._background import BackgroundLoop
from ._delivery import Delivery
from ._steps import Operation
from .errors import NacosError
from .models import WatchStatus

__all__ = ("AsyncSleep", "Poller", "RunOperation", "Watch")

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")
W = TypeVar("W", bound="Watch[Any, Any]")

RunOperation = Callable[[Operation[Any]], Awaitable[Any]]
AsyncSleep = Callable[[float], Awaitable[None]]

_MAX_CONCURRENT_POLLS = 16


class Watch(Generic[K, S]):
    """One watched key, its newest state and its listeners. Lives on the background loop."""

    def __init__(self, key: K) -> None:
        self.key = key
        self.deliveries: set[Delivery[S]] = set()
        self.state: S | None = None
        self.failing = False
        self.poll_lock = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None

    def notify(self, state: S) -> None:
        """Make it the newest state, for the present listeners and for later ones."""
        self.state = state
        for delivery in tuple(self.deliveries):
            delivery.notify(state)
            if delivery.closed:  # its event loop has ended
                self.deliveries.discard(delivery)


class Poller(ABC, Generic[K, S, W]):
    """All watches of one kind.

    Args:
        run: runs an operation on the background loop.
        poll_seconds: the longest time between two polls of a key; each interval is up to a fifth
            shorter, so that many clients do not poll in step.
    """

    def __init__(
        self,
        run: RunOperation,
        background: BackgroundLoop,
        *,
        poll_seconds: float,
        rng: random.Random,
        sleep: AsyncSleep,
    ) -> None:
        self._run = run
        self._background = background
        self._poll_seconds = poll_seconds
        self._rng = rng
        self._sleep = sleep
        self._watches: dict[K, W] = {}
        self._poll_slots = asyncio.Semaphore(_MAX_CONCURRENT_POLLS)

    @property
    def status(self) -> WatchStatus:
        """Statistics of the watches; may be read from any thread."""
        watches = tuple(self._watches.values())
        return WatchStatus(len(watches), sum(watch.failing for watch in watches))

    def get_state(self, key: K) -> S | None:
        """The newest state of a watched key; may be called from any thread."""
        watch = self._watches.get(key)
        return watch.state if watch is not None else None

    def watch(self, key: K, delivery: Delivery[S]) -> Callable[[], None]:
        """Notify the delivery of the key's states until the returned callable is called."""
        self._background.submit(self._add(key, delivery))

        def stop() -> None:
            delivery.close()
            self._background.call_soon(lambda: self._remove(key, delivery))

        return stop

    @abstractmethod
    def _create_watch(self, key: K) -> W: ...

    @abstractmethod
    async def _poll(self, watch: W) -> None:
        """Read the key's state from the server, and notify the watch if it is new.

        Raises:
            NacosError: it could not be read; `_handle_outage` is called.
        """

    def _handle_outage(self, watch: W) -> None:
        """React to a poll that failed."""

    def _pause_seconds(self, watch: W) -> float:
        """How long to wait until the next poll of this key."""
        return self._poll_seconds * self._rng.uniform(0.8, 1.0)

    async def _add(self, key: K, delivery: Delivery[S]) -> None:
        # A task takes its first step one turn of the loop later than a callback: a watch that was
        # stopped meanwhile has been removed already.
        if delivery.closed:
            return
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = self._create_watch(key)
            self._start_polling(watch, 0.0)
        watch.deliveries.add(delivery)
        if watch.state is not None:
            delivery.notify(watch.state)

    def _remove(self, key: K, delivery: Delivery[S]) -> None:
        watch = self._watches.get(key)
        if watch is None:
            return
        watch.deliveries.discard(delivery)
        if not watch.deliveries and watch.task is not None:
            watch.task.cancel()
            self._forget(watch)

    def _forget(self, watch: W) -> None:
        if self._watches.get(watch.key) is watch:
            del self._watches[watch.key]

    def _start_polling(self, watch: W, first_pause: float) -> None:
        # No supervisor, for the sake of clients that watch thousands of keys: `_try_to_poll`
        # catches and logs whatever a poll raises, so the task ends only when it is cancelled.
        watch.task = asyncio.create_task(self._keep_polling(watch, first_pause))

    def _poll_again_in(self, watch: W, seconds: float) -> None:
        """Have the next poll in so many seconds, unless one is under way."""
        if watch.task is not None and not watch.poll_lock.locked():
            watch.task.cancel()
            self._start_polling(watch, seconds)

    async def _keep_polling(self, watch: W, first_pause: float) -> None:
        if first_pause:
            await self._sleep(first_pause)
        while True:
            await self._poll_in_turn(watch)
            if not watch.deliveries:
                self._forget(watch)
                return
            await self._sleep(self._pause_seconds(watch))

    async def _poll_in_turn(self, watch: W) -> None:
        """Poll once no other poll of this key is under way, nor too many of all keys."""
        async with watch.poll_lock, self._poll_slots:
            await self._try_to_poll(watch)

    async def _try_to_poll(self, watch: W) -> None:
        try:
            await self._poll(watch)
        except NacosError as error:
            if not watch.failing:
                logger.warning("watch of %s: %s", watch.key, error)
            watch.failing = True
            self._handle_outage(watch)
        except Exception:
            if not watch.failing:
                logger.exception("watch of %s failed; it continues", watch.key)
            watch.failing = True
        else:
            if watch.failing:
                logger.info("watch of %s works again", watch.key)
            watch.failing = False
