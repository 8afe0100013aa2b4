"""The port on the engine: registering, finding, watching. Mostly to KEEP."""

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
)
from microservice_core import Watchers

from .errors import PROVIDER, as_registry_errors
from .json_folder import JsonFolder, Service, check_names, service_of
from .lease_judge import LeaseJudge
from .lease_keeper import LeaseKeeper, Wait

__all__ = ("JsonFolderServiceRegistry",)

logger = logging.getLogger(__name__)

Instances = tuple[ServiceInstance, ...]

ANY_INSTANCE = InstanceQuery()


class JsonFolderServiceRegistry:
    """Instances in a folder of JSON files; a change reaches its watchers within one poll.

    Nothing is touched before the first call, so that the policy of whoever opens it decides what
    happens when the folder is not there. An engine on a server of its own adds the property
    `server_address` (`microservice_core.ServerAddressed`): the way there tells our own address.

    Args:
        folder: where the instances lie; it has to exist when something is asked.
        ttl_seconds: how long an instance outlives its process.
        poll_seconds: time between two looks at a watched service.
        clock: monotonic seconds.
        wall_clock: seconds since the epoch.
        sleep: waits that many seconds, between two looks.
        wait: waits between two beats, in the thread that sends them.

    Raises:
        InvalidValueError: naming the argument and its rule.
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
        self._seen: dict[Service, Instances] = {}
        self._followers: dict[Service, asyncio.Task[None]] = {}
        self._closed = False
        self._pid = os.getpid()

    async def register(self, instance: ServiceInstance) -> None:
        """Announce the instance and keep it alive; registering it again replaces it.

        Raises:
            ServiceRegistryError: it cannot be stored.
            InvalidValueError: a name breaks a rule.
        """
        check_names(self._usable(service_of(instance)), instance.instance_id)
        await asyncio.to_thread(self._keeper.register, instance)

    async def deregister(self, instance: ServiceInstance) -> None:
        """Take the instance out; one that is not there is no error.

        Raises:
            ServiceRegistryError: it cannot be taken out; its lease will end.
        """
        self._usable(service_of(instance))
        await asyncio.to_thread(self._keeper.deregister, instance)

    async def renew(self, instance: ServiceInstance) -> None:
        """Force one beat now.

        Raises:
            InstanceNotFoundError: the registry does not know it.
            ServiceRegistryError: the beat cannot be stored.
        """
        self._usable(service_of(instance))
        await asyncio.to_thread(self._keeper.renew, instance)

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY_INSTANCE
    ) -> Sequence[ServiceInstance]:
        """The instances now, sorted by id; empty for a service nobody registered.

        Raises:
            ServiceRegistryError: they cannot be read.
            InvalidValueError: a name breaks a rule.
        """
        service = self._usable(Service(query.namespace_id, query.group_name, service_name))
        return _matching(await self._read("get_instances", service), query)

    def watch_instances(
        self,
        service_name: str,
        listener: InstancesListener,
        query: InstanceQuery = ANY_INSTANCE,
    ) -> Unsubscribe:
        """Call the listener with the present instances, then on each change.

        While the folder cannot be read, the listener keeps what it was told last.

        Raises:
            InvalidValueError: a name breaks a rule.
        """
        service = self._usable(Service(query.namespace_id, query.group_name, service_name))
        delivery, remove = self._watchers.add((service, query), listener)
        if service in self._seen:
            delivery.notify(_matching(self._seen[service], query))
        if service not in self._followers:
            follower = asyncio.get_running_loop().create_task(self._follow(service))
            self._followers[service] = follower

        def unsubscribe() -> None:
            remove()
            if all(watched != service for watched, _ in self._watchers.keys()):  # noqa: SIM118
                self._stop_following(service)

        return unsubscribe

    async def list_services(self, *, group_name: str = "", namespace_id: str = "") -> Sequence[str]:
        """The names of all services of a group that have an instance, sorted.

        Raises:
            ServiceRegistryError: they cannot be read.
        """
        with as_registry_errors("list_services", group_name):
            names = await asyncio.to_thread(self._engine.services, namespace_id, group_name)
        services = [self._usable(Service(namespace_id, group_name, name)) for name in names]
        return sorted([one.name for one in services if await self._read("list_services", one)])

    async def close(self) -> None:
        """Deregister what was registered, end every watch and the thread; twice is fine."""
        self._closed = True
        followers = [self._stop_following(service) for service in tuple(self._followers)]
        await asyncio.gather(*filter(None, followers), return_exceptions=True)
        await self._watchers.aclose()
        await asyncio.to_thread(self._keeper.close)

    def _usable(self, service: Service) -> Service:
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

    async def _follow(self, service: Service) -> None:
        # With an engine that tells of changes, wait for its event here instead of sleeping.
        failing = False
        while True:
            try:
                seen = await self._read("watch_instances", service)
            except ServiceRegistryError as error:
                if not failing:
                    logger.warning("%s; who was seen last stays", error)
                failing = True
            else:
                failing = False
                self._seen[service] = seen
                for watched, query in self._watchers.keys():  # noqa: SIM118 - not a mapping
                    if watched == service:
                        self._watchers.notify((service, query), _matching(seen, query))
            await self._sleep(self._poll_seconds)

    def _stop_following(self, service: Service) -> asyncio.Task[None] | None:
        self._seen.pop(service, None)
        follower = self._followers.pop(service, None)
        if follower is not None:
            follower.cancel()
        return follower

    async def _read(self, operation: str, service: Service) -> Instances:
        """Who lives, sorted by id; the records of the long dead are taken away."""
        with as_registry_errors(operation, service.name):
            records = await asyncio.to_thread(self._engine.records, service)
            verdict = self._judge.judge(service, records)
            for instance in verdict.buried:
                await asyncio.to_thread(self._engine.remove, instance)
        return tuple(sorted(verdict.living, key=lambda one: one.instance_id))


def _matching(seen: Instances, query: InstanceQuery) -> Instances:
    return tuple(one for one in seen if query.matches(one))
