"""The instances of each service, kept in memory by the registry's watch and by a regular refresh."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from microservice_client.errors import ClientClosedError
from microservice_core import (
    InstanceQuery,
    ServiceInstance,
    TaskSupervisor,
    Unsubscribe,
)

from .empty_lists import EmptyListHold
from .instance_source import InstanceSource

__all__ = ("InstanceCache",)

logger = logging.getLogger(__name__)

_MAX_CONCURRENT_REFRESHES = 16


@dataclass(slots=True)
class _Entry:
    """The instances of one service.

    Attributes:
        confirmed_at: clock time at which the registry last returned them.
        idle_since: clock time of the last `maintain` that found the entry used.
        used: whether the entry was read since the last `maintain`.
        failing: whether the last refresh failed.
        watched: the last list of the watch; None if it has reported none.
    """

    instances: tuple[ServiceInstance, ...]
    confirmed_at: float
    idle_since: float
    used: bool = True
    failing: bool = False
    watched: tuple[ServiceInstance, ...] | None = None
    unsubscribe: Unsubscribe | None = None

    @property
    def disagrees(self) -> bool:
        """Whether a query found other instances than the watch has reported."""
        return self.watched is not None and set(self.watched) != set(self.instances)


class InstanceCache:
    """The instances of every service in use; a warm read is a dictionary look-up.

    The first read of a service queries the registry, once for all that wait. From then on the
    registry's watch keeps the entry up to date, and a regular refresh catches what a watch may
    miss. While the registry cannot be reached the last instances are served, and `age` grows. An
    empty list in place of a full one is believed when a query after `hold_empty_seconds` confirms
    it, or at once from a registry that `confirms_empty_lists`. A service that is not called any
    more is dropped.

    Args:
        source: the registry.
        query: selects the instances, e.g. those of a group.
        refresh_seconds: age at which an entry is queried again.
        forget_seconds: time without a read after which a service is dropped.
        hold_empty_seconds: how long the last instances are kept when the list becomes empty; 0 =
            not at all.
        max_services: most services in the cache; the longest unused one makes room.
        changed: called with the service and its instances after each change; with `()` when the
            service is dropped.
        clock: monotonic seconds.
        sleep: waits between two runs of `maintain`.
    """

    def __init__(
        self,
        source: InstanceSource,
        query: InstanceQuery,
        *,
        refresh_seconds: float = 30.0,
        forget_seconds: float = 900.0,
        hold_empty_seconds: float = 15.0,
        max_services: int = 10_000,
        changed: Callable[[str, tuple[ServiceInstance, ...]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._query = query
        self._refresh_seconds = refresh_seconds
        self._forget_seconds = forget_seconds
        self._max_services = max_services
        self._notify = changed or _ignore_change
        self._clock = clock
        self._sleep = sleep
        self._believes_empty = not hold_empty_seconds or bool(
            getattr(source, "confirms_empty_lists", False)
        )
        self._held = EmptyListHold(hold_empty_seconds, confirm=self._confirm_empty, sleep=sleep)
        self._entries: dict[str, _Entry] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._tasks: TaskSupervisor | None = None
        self._closed = False

    def find(self, service: str) -> tuple[ServiceInstance, ...] | None:
        """Return the instances in the cache and mark them as used; None for a service not loaded."""
        entry = self._entries.get(service)
        if entry is None:
            return None
        entry.used = True
        return entry.instances

    def age(self, service: str) -> float | None:
        """Seconds since the registry last confirmed the instances; None for a service not loaded."""
        entry = self._entries.get(service)
        return None if entry is None else max(0.0, self._clock() - entry.confirmed_at)

    @property
    def services(self) -> tuple[str, ...]:
        """The services in the cache, the oldest entry first."""
        return tuple(self._entries)

    def snapshot(self) -> dict[str, tuple[ServiceInstance, ...]]:
        """Return the instances of every service in the cache, without marking them as used."""
        # tuple() copies in one step: an exporter of metrics calls this from a thread of its own.
        return {service: entry.instances for service, entry in tuple(self._entries.items())}

    async def load(self, service: str) -> tuple[ServiceInstance, ...]:
        """Return the instances, from the registry when the service is not in the cache.

        Raises:
            ServiceRegistryError: the service is not in the cache and the registry cannot be
                queried; the next call tries again.
            ClientClosedError: the service is not in the cache, which is closed.
        """
        # A loop, because the entry may be dropped before a waiter gets its turn.
        while (instances := self.find(service)) is None:
            await self._share_load(service)
        return instances

    async def warm_up(self, services: Iterable[str]) -> None:
        """Load these services concurrently, so that their first calls need not wait.

        Raises:
            ServiceRegistryError: a service cannot be loaded; the others are.
        """
        loads = (self.load(service) for service in dict.fromkeys(services))
        for outcome in await asyncio.gather(*loads, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def start(self) -> None:
        """Start the task that refreshes and drops entries; needs a running loop."""
        if self._tasks is None:
            self._tasks = TaskSupervisor(
                "discovery of the service client", clock=self._clock, sleep=self._sleep
            )
            self._tasks.start("refresh of instances", self._maintain_regularly)

    async def maintain(self) -> None:
        """Drop unused entries and refresh old ones; the task of `start` does it regularly."""
        now = self._clock()
        for service, entry in list(self._entries.items()):
            if entry.used:
                entry.used, entry.idle_since = False, now
            elif now - entry.idle_since >= self._forget_seconds:
                self._drop(service)
        limit = asyncio.Semaphore(_MAX_CONCURRENT_REFRESHES)
        old = [
            service
            for service, entry in self._entries.items()
            if (now - entry.confirmed_at >= self._refresh_seconds or entry.disagrees)
            and service not in self._held
        ]
        await asyncio.gather(*(self._refresh(service, limit) for service in old))

    async def aclose(self) -> None:
        """Cancel every watch, load and hold; closing twice is fine."""
        self._closed = True
        tasks, self._tasks = self._tasks, None
        if tasks is not None:
            await tasks.aclose()
        loads = list(self._loading.values())
        for task in loads:
            task.cancel()
        if loads:
            await asyncio.wait(loads)
        await self._held.aclose()
        for service in list(self._entries):
            self._drop(service)

    async def _maintain_regularly(self) -> None:
        while True:
            await self._sleep(min(self._refresh_seconds, self._forget_seconds) / 2)
            await self.maintain()

    async def _share_load(self, service: str) -> None:
        """Load the service, in one task for all callers that wait for it."""
        if self._closed:
            raise ClientClosedError  # it would begin a watch that nothing ends
        task = self._loading.get(service)
        if task is None:
            # Not supervised: it ends with the load, and its error is raised to those that wait.
            task = asyncio.create_task(self._load(service), name=f"discover {service}")
            self._loading[service] = task
            task.add_done_callback(lambda done: self._finish_load(service, done))
        # Shielded: one cancelled caller must not cancel the load of the others.
        await asyncio.shield(task)

    def _finish_load(self, service: str, task: asyncio.Task[None]) -> None:
        self._loading.pop(service, None)
        if not task.cancelled():
            # Retrieve it, or asyncio logs it as never retrieved when every caller was cancelled.
            task.exception()

    async def _load(self, service: str) -> None:
        instances = tuple(await self._source.get_instances(service, self._query))
        self._make_room()
        now = self._clock()
        entry = _Entry(instances, confirmed_at=now, idle_since=now)
        self._entries[service] = entry
        self._watch(service, entry)
        self._notify(service, instances)

    def _watch(self, service: str, entry: _Entry) -> None:
        """Watch the service; an earlier watch ends."""

        def apply_change(changed: Sequence[ServiceInstance]) -> None:
            if self._entries.get(service) is entry:
                entry.watched = tuple(changed)
                self._apply(service, entry, entry.watched)

        previous, entry.watched = entry.unsubscribe, None
        entry.unsubscribe = self._source.watch_instances(service, apply_change, self._query)
        if previous is not None:
            previous()

    def _make_room(self) -> None:
        if len(self._entries) >= self._max_services:
            self._drop(min(self._entries, key=lambda name: self._entries[name].idle_since))

    def _drop(self, service: str) -> None:
        entry = self._entries.pop(service)
        self._held.end(service)
        if entry.unsubscribe is not None:
            entry.unsubscribe()
        self._notify(service, ())

    def _apply(self, service: str, entry: _Entry, instances: tuple[ServiceInstance, ...]) -> None:
        """Use these instances from now on, unless an empty list has to be confirmed first."""
        if not instances and entry.instances and not self._believes_empty:
            self._held.start(service)
            return
        self._held.end(service)
        self._use(service, entry, instances)

    def _use(self, service: str, entry: _Entry, instances: tuple[ServiceInstance, ...]) -> None:
        entry.confirmed_at = self._clock()
        if instances != entry.instances:
            entry.instances = instances
            self._notify(service, instances)
        elif entry.disagrees:
            self._watch(service, entry)

    async def _confirm_empty(self, service: str) -> bool:
        """Query a service whose empty list was held; return whether the hold is over."""
        entry = self._entries[service]
        instances = await self._query_instances(service, entry)
        if instances is None:
            return False
        if self._entries.get(service) is not entry:
            return True
        if not instances and entry.watched:
            # The watch knows instances, and it is the one to say that they have gone. It reports
            # nothing twice, so a new one has to say what it knows.
            self._watch(service, entry)
            return False
        self._use(service, entry, instances)
        return True

    async def _refresh(self, service: str, limit: asyncio.Semaphore) -> None:
        entry = self._entries[service]
        async with limit:
            instances = await self._query_instances(service, entry)
        if instances is not None and self._entries.get(service) is entry:
            self._apply(service, entry, instances)

    async def _query_instances(
        self, service: str, entry: _Entry
    ) -> tuple[ServiceInstance, ...] | None:
        """Query the registry; None if it fails, which is logged when it begins and ends."""
        try:
            instances = tuple(await self._source.get_instances(service, self._query))
        except Exception as error:  # noqa: BLE001 - one failing service must not stop the others
            if not entry.failing:
                logger.warning("cannot refresh the instances of %s: %r", service, error)
            entry.failing = True
            return None
        if entry.failing:
            logger.info("the instances of %s are refreshed again", service)
        entry.failing = False
        return instances


def _ignore_change(_service: str, _instances: tuple[ServiceInstance, ...]) -> None:
    """The default of `changed`."""
