"""Who answers for each service, kept in memory by the registry's watch and a refresh besides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from microservice_core import (
    InstanceQuery,
    InstancesListener,
    ServiceInstance,
    Unsubscribe,
)

__all__ = ("InstanceCache", "InstanceSource")

logger = logging.getLogger(__name__)

_AT_ONCE = 16  # services refreshed at the same time


@runtime_checkable
class InstanceSource(Protocol):
    """What discovery needs of a registry; every `ServiceRegistry` is one."""

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ..., /
    ) -> Sequence[ServiceInstance]:
        """The instances now."""
        ...

    def watch_instances(
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = ..., /
    ) -> Unsubscribe:
        """Tell of every change."""
        ...


@dataclass(slots=True)
class _Entry:
    """What is known of one service.

    Attributes:
        as_of: when the registry last said so.
        used: whether anybody asked since the last look.
        idle_since: when somebody last had asked, as seen by that look.
        failing: whether the last refresh failed.
    """

    instances: tuple[ServiceInstance, ...]
    as_of: float
    idle_since: float
    used: bool = True
    failing: bool = False
    stop: Unsubscribe | None = None


class InstanceCache:
    """The instances of every service that was asked for; a warm read is a dictionary lookup.

    The first read of a service asks the registry, once for all who wait. From then on the
    registry's watch keeps it, and a refresh catches what a watch may miss. While the registry is
    out of reach the last known instances stay, with their age. An empty answer in the place of a
    full one is believed when a second question brings the same. A service nobody asks for any more
    is forgotten.

    Args:
        source: the registry.
        query: which instances are wanted.
        refresh_seconds: how old an entry may get before it is asked for again.
        forget_seconds: how long a service stays that nobody calls.
        max_services: services kept at most; the one unused for longest makes room.
        changed: told of each change of a service's instances; `()` when it is forgotten.
        clock: monotonic seconds.
        sleep: waits between two looks of `run`.
    """

    def __init__(
        self,
        source: InstanceSource,
        query: InstanceQuery,
        *,
        refresh_seconds: float = 30.0,
        forget_seconds: float = 900.0,
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
        self._changed = changed or _tell_nobody
        self._clock = clock
        self._sleep = sleep
        self._entries: dict[str, _Entry] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._running: asyncio.Task[None] | None = None

    def known(self, service: str) -> tuple[ServiceInstance, ...] | None:
        """The instances if the service was loaded before, else None."""
        entry = self._entries.get(service)
        if entry is None:
            return None
        entry.used = True
        return entry.instances

    def age(self, service: str) -> float | None:
        """Seconds since the registry last confirmed what is known; None for an unknown service."""
        entry = self._entries.get(service)
        return None if entry is None else max(0.0, self._clock() - entry.as_of)

    @property
    def services(self) -> tuple[str, ...]:
        """The services that are known, longest known first."""
        return tuple(self._entries)

    def everything(self) -> dict[str, tuple[ServiceInstance, ...]]:
        """What is known of every service; looking at it does not keep a service from going."""
        # In one step: an exporter of metrics asks from a thread of its own.
        return {service: entry.instances for service, entry in tuple(self._entries.items())}

    async def load(self, service: str) -> tuple[ServiceInstance, ...]:
        """The instances, asking the registry when the service is new.

        Raises:
            ServiceRegistryError: it is new and the registry cannot be asked; the next call asks
                again.
        """
        while (known := self.known(service)) is None:
            await self._load_once(service)
        return known

    async def warm_up(self, services: Iterable[str]) -> None:
        """Load these services now, together, so that no first call has to.

        Raises:
            ServiceRegistryError: one of them cannot be loaded; the others are.
        """
        loads = (self.load(service) for service in dict.fromkeys(services))
        for outcome in await asyncio.gather(*loads, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def start(self) -> None:
        """Look after the entries from now on, in a task of its own; needs a running loop."""
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="discovery snapshot")

    async def tend(self) -> None:
        """Forget what nobody uses, ask again for what is old; the running task does it by itself."""
        now = self._clock()
        for service, entry in list(self._entries.items()):
            if entry.used:
                entry.used, entry.idle_since = False, now
            elif now - entry.idle_since >= self._forget_seconds:
                self._forget(service)
        limit = asyncio.Semaphore(_AT_ONCE)
        old = [
            service
            for service, entry in self._entries.items()
            if now - entry.as_of >= self._refresh_seconds
        ]
        await asyncio.gather(*(self._refresh(service, limit) for service in old))

    async def aclose(self) -> None:
        """End every watch and what is being loaded; closing twice is fine."""
        tasks = [*self._loading.values()]
        if self._running is not None:
            tasks.append(self._running)
            self._running = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for service in list(self._entries):
            self._forget(service)

    async def _run(self) -> None:
        while True:
            await self._sleep(min(self._refresh_seconds, self._forget_seconds) / 2)
            await self.tend()

    async def _load_once(self, service: str) -> None:
        task = self._loading.get(service)
        if task is None:
            task = asyncio.create_task(self._load(service), name=f"discover {service}")
            self._loading[service] = task
            task.add_done_callback(lambda done: self._loaded(service, done))
        # Shielded: one caller's cancellation leaves the others their answer.
        await asyncio.shield(task)

    def _loaded(self, service: str, task: asyncio.Task[None]) -> None:
        self._loading.pop(service, None)
        if not task.cancelled():
            task.exception()  # every waiter may be gone: then nobody else retrieves it

    async def _load(self, service: str) -> None:
        instances = tuple(await self._source.get_instances(service, self._query))
        self._make_room()
        now = self._clock()
        entry = _Entry(instances, as_of=now, idle_since=now)
        self._entries[service] = entry

        async def keep(changed: Sequence[ServiceInstance]) -> None:
            await self._take(service, entry, tuple(changed))

        entry.stop = self._source.watch_instances(service, keep, self._query)
        self._changed(service, instances)

    def _make_room(self) -> None:
        if len(self._entries) >= self._max_services:
            idle = min(self._entries, key=lambda name: self._entries[name].idle_since)
            self._forget(idle)

    def _forget(self, service: str) -> None:
        entry = self._entries.pop(service)
        if entry.stop is not None:
            entry.stop()
        self._changed(service, ())

    async def _take(
        self, service: str, entry: _Entry, instances: tuple[ServiceInstance, ...]
    ) -> None:
        if not instances and entry.instances:
            # A registry that has just come up says the same as one where everybody has left.
            instances = tuple(await self._source.get_instances(service, self._query))
        if self._entries.get(service) is not entry:
            return
        entry.as_of = self._clock()
        if instances != entry.instances:
            entry.instances = instances
            self._changed(service, instances)

    async def _refresh(self, service: str, limit: asyncio.Semaphore) -> None:
        entry = self._entries[service]
        async with limit:
            try:
                instances = tuple(await self._source.get_instances(service, self._query))
                await self._take(service, entry, instances)
            except Exception as error:  # noqa: BLE001 - whatever a source does, the others go on
                if not entry.failing:
                    logger.warning("instances of %s cannot be refreshed: %r", service, error)
                entry.failing = True
            else:
                if entry.failing:
                    logger.info("instances of %s are refreshed again", service)
                entry.failing = False


def _tell_nobody(_service: str, _instances: tuple[ServiceInstance, ...]) -> None:
    """Nobody asked."""
