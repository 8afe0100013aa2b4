"""Who answers for each service, kept in memory by the registry's watch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from microservice_core import (
    InstanceQuery,
    InstancesListener,
    ServiceInstance,
    Unsubscribe,
)

__all__ = ("DiscoverySnapshot", "InstanceSource")


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


class DiscoverySnapshot:
    """The instances of every service that was asked for; a warm read is a dictionary lookup.

    The first read of a service asks the registry, once for all who wait. From then on the
    registry's watch keeps it; while the registry is out of reach the last known instances stay.
    """

    def __init__(self, source: InstanceSource, query: InstanceQuery) -> None:
        self._source = source
        self._query = query
        self._instances: dict[str, tuple[ServiceInstance, ...]] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._stops: list[Unsubscribe] = []

    def known(self, service: str) -> tuple[ServiceInstance, ...] | None:
        """The instances if the service was loaded before, else None."""
        return self._instances.get(service)

    async def load(self, service: str) -> tuple[ServiceInstance, ...]:
        """The instances, asking the registry when the service is new.

        Raises:
            ServiceRegistryError: it is new and the registry cannot be asked; the next call asks
                again.
        """
        if service not in self._instances:
            await self._load_once(service)
        return self._instances[service]

    async def aclose(self) -> None:
        """End every watch and what is being loaded."""
        for stop in self._stops:
            stop()
        self._stops.clear()
        loading = list(self._loading.values())
        for task in loading:
            task.cancel()
        if loading:
            await asyncio.wait(loading)
        self._instances.clear()

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
        instances = await self._source.get_instances(service, self._query)
        self._instances[service] = tuple(instances)

        def keep(changed: Sequence[ServiceInstance]) -> None:
            self._instances[service] = tuple(changed)

        self._stops.append(self._source.watch_instances(service, keep, self._query))
