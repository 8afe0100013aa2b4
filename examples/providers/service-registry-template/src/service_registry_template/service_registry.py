"""The port on the engine: registering, discovering, watching. Mostly to KEEP."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from microservice_core import (
    InstanceQuery,
    InstancesListener,
    InvalidValueError,
    ServiceInstance,
    ServiceRegistryError,
    Unsubscribe,
    Watchers,
)

from .errors import PROVIDER, translate_engine_errors
from .json_folder import JsonFolder, Service, check_names, service_of
from .lease_judge import LeaseJudge
from .lease_keeper import LeaseKeeper, Wait

__all__ = ("JsonFolderServiceRegistry",)

logger = logging.getLogger(__name__)

Instances = tuple[ServiceInstance, ...]

ANY_INSTANCE = InstanceQuery()


class JsonFolderServiceRegistry:
    """Instances in a folder of JSON files; a change reaches its watchers within one poll.

    Nothing is touched before the first call, so that the caller's policy decides what happens when
    the folder does not exist. An engine on a server adds the property `server_address`
    (`microservice_core.ServerAddressed`): the route to it determines the address to register.

    Args:
        folder: where the instances are; it has to exist at the first call.
        ttl_seconds: how long an instance outlives its process.
        poll_seconds: time between two polls of a watched service.
        clock: monotonic seconds.
        wall_clock: seconds since the epoch.
        sleep: waits between two polls.
        wait: waits between two heartbeats, in the thread that sends them.

    Raises:
        InvalidValueError: an argument breaks a rule.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        ttl_seconds: float = 15.0,
        poll_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        wait: Wait = threading.Event.wait,
    ) -> None:
        for name, value in (("ttl_seconds", ttl_seconds), ("poll_seconds", poll_seconds)):
            if not value > 0:
                raise InvalidValueError(name, value, "a number above 0")
        self._engine = JsonFolder(Path(folder))
        self._keeper = LeaseKeeper(self._engine, ttl_seconds, wait=wait)
        self._judge = LeaseJudge(clock, wall_clock)
        self._poll_seconds = poll_seconds
        self._sleep = sleep
        self._watchers: Watchers[tuple[Service, InstanceQuery], Instances] = Watchers()
        self._instances: dict[Service, Instances] = {}
        self._pollers: dict[Service, asyncio.Task[None]] = {}
        self._closed = False
        self._pid = os.getpid()

    async def register(self, instance: ServiceInstance) -> None:
        """Register the instance and keep it registered; registering it again replaces it.

        Raises:
            ServiceRegistryError: it cannot be stored.
            InvalidValueError: a name breaks a rule.
        """
        check_names(self._require_usable(service_of(instance)), instance.instance_id)
        await asyncio.to_thread(self._keeper.register, instance)

    async def deregister(self, instance: ServiceInstance) -> None:
        """Deregister the instance; an absent one is no error.

        Raises:
            ServiceRegistryError: it cannot be removed; its lease will expire.
        """
        self._require_usable(service_of(instance))
        await asyncio.to_thread(self._keeper.deregister, instance)

    async def renew(self, instance: ServiceInstance) -> None:
        """Send one heartbeat now.

        Raises:
            InstanceNotFoundError: it is not registered.
            ServiceRegistryError: the heartbeat cannot be stored.
        """
        self._require_usable(service_of(instance))
        await asyncio.to_thread(self._keeper.renew, instance)

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY_INSTANCE
    ) -> Sequence[ServiceInstance]:
        """Return the present instances, sorted by id; empty for a service without any.

        Raises:
            ServiceRegistryError: they cannot be read.
            InvalidValueError: a name breaks a rule.
        """
        service = self._require_usable(Service(query.namespace_id, query.group_name, service_name))
        return _select_matching(await self._read("get_instances", service), query)

    def watch_instances(
        self,
        service_name: str,
        listener: InstancesListener,
        query: InstanceQuery = ANY_INSTANCE,
    ) -> Unsubscribe:
        """Call the listener with the present instances, then on each change.

        While the folder cannot be read, the listener is not called.

        Raises:
            InvalidValueError: a name breaks a rule.
        """
        service = self._require_usable(Service(query.namespace_id, query.group_name, service_name))
        delivery, remove_delivery = self._watchers.add((service, query), listener)
        if service in self._instances:
            delivery.notify(_select_matching(self._instances[service], query))
        if service not in self._pollers:
            poller = asyncio.get_running_loop().create_task(self._poll(service))
            self._pollers[service] = poller

        def unsubscribe() -> None:
            remove_delivery()
            if all(watched != service for watched, _ in self._watchers.keys()):  # noqa: SIM118
                self._stop_polling(service)

        return unsubscribe

    async def list_services(self, *, group_name: str = "", namespace_id: str = "") -> Sequence[str]:
        """Return the names of all services of a group that have an instance, sorted.

        Raises:
            ServiceRegistryError: they cannot be read.
        """
        with translate_engine_errors("list_services", group_name):
            names = await asyncio.to_thread(self._engine.services, namespace_id, group_name)
        services = [self._require_usable(Service(namespace_id, group_name, name)) for name in names]
        return sorted(
            [service.name for service in services if await self._read("list_services", service)]
        )

    async def close(self) -> None:
        """Deregister every instance, end every watch and the thread; closing twice is fine."""
        self._closed = True
        pollers = [self._stop_polling(service) for service in tuple(self._pollers)]
        await asyncio.gather(*filter(None, pollers), return_exceptions=True)
        await self._watchers.aclose()
        await asyncio.to_thread(self._keeper.close)

    def _require_usable(self, service: Service) -> Service:
        if self._closed:
            raise ServiceRegistryError(
                "it is closed; open another one", provider=PROVIDER, operation="use"
            )
        if self._pid != os.getpid():
            raise ServiceRegistryError(
                "it was opened before a fork; open one per process",
                provider=PROVIDER,
                operation="use",
            )
        check_names(service)
        return service

    async def _poll(self, service: Service) -> None:
        # An engine that reports changes itself: wait for its event here instead of sleeping.
        failing = False
        while True:
            try:
                instances = await self._read("watch_instances", service)
            except ServiceRegistryError as error:
                if not failing:
                    logger.warning("%s; keeping the last known instances", error)
                failing = True
            else:
                failing = False
                self._instances[service] = instances
                for watched, query in self._watchers.keys():  # noqa: SIM118 - not a mapping
                    if watched == service:
                        self._watchers.notify((service, query), _select_matching(instances, query))
            await self._sleep(self._poll_seconds)

    def _stop_polling(self, service: Service) -> asyncio.Task[None] | None:
        self._instances.pop(service, None)
        poller = self._pollers.pop(service, None)
        if poller is not None:
            poller.cancel()
        return poller

    async def _read(self, operation: str, service: Service) -> Instances:
        """Read the live instances, sorted by id; remove records that expired long ago."""
        with translate_engine_errors(operation, service.name):
            records = await asyncio.to_thread(self._engine.records, service)
            verdict = self._judge.judge(service, records)
            for instance in verdict.expired:
                await asyncio.to_thread(self._engine.remove, instance)
        return tuple(sorted(verdict.live, key=lambda instance: instance.instance_id))


def _select_matching(instances: Instances, query: InstanceQuery) -> Instances:
    return tuple(instance for instance in instances if query.matches(instance))
