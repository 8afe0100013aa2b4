"""Providers that live in this process: for tests, demos and single-process applications."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from .config import (
    ConfigDeleted,
    ConfigListener,
    ConfigResult,
    ConfigVersion,
    content_type_of,
    md5_of,
)
from .delivery import Delivery, Watchers
from .errors import (
    ConfigConflictError,
    ConfigNotFoundError,
    InstanceNotFoundError,
    InvalidValueError,
)
from .providers import Settings, refuse_unknown_settings
from .registry import (
    ANY_INSTANCE,
    InstanceQuery,
    InstancesListener,
    ServiceInstance,
    Unsubscribe,
)

__all__ = ("InMemoryConfigCenter", "InMemoryServiceRegistry")

ServiceKey = tuple[str, str, str]
DocumentKey = tuple[str, str, str]
Instances = tuple[ServiceInstance, ...]

VERSIONS_KEPT = 100


@dataclass(slots=True)
class _Lease:
    instance: ServiceInstance
    expires_at: float | None


class InMemoryServiceRegistry:
    """A registry for one process; leases of ephemeral instances expire by the given clock.

    It renews nothing by itself: call `renew` within `ttl_seconds`, or the instance is gone.

    Args:
        ttl_seconds: how long a lease lasts without a renewal.
        clock: monotonic seconds.
        sleep: waits that many seconds of `clock`.
    """

    def __init__(
        self,
        *,
        ttl_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not ttl_seconds > 0:
            raise InvalidValueError("ttl_seconds", ttl_seconds, "a number above 0")
        self._ttl = ttl_seconds
        self._clock = clock
        self._sleep = sleep
        self._services: dict[ServiceKey, dict[str, _Lease]] = {}
        self._watchers: Watchers[tuple[ServiceKey, InstanceQuery], Instances] = Watchers()
        self._sweeper: asyncio.Task[None] | None = None

    async def register(self, instance: ServiceInstance) -> None:
        """Announce the instance; registering it again replaces it and starts its lease anew."""
        key = _service_key(instance)
        lease = _Lease(instance, self._expiry(instance))
        self._services.setdefault(key, {})[instance.instance_id] = lease
        self._announce(key)
        self._start_sweeping()

    async def deregister(self, instance: ServiceInstance) -> None:
        """Take the instance out; one that is not there is no error."""
        key = _service_key(instance)
        if instance.instance_id in self._services.get(key, {}):
            self._drop(key, [instance.instance_id])

    async def renew(self, instance: ServiceInstance) -> None:
        """Start the lease anew.

        Raises:
            InstanceNotFoundError: it never was registered, or its lease expired.
        """
        self._expire()
        lease = self._services.get(_service_key(instance), {}).get(instance.instance_id)
        if lease is None:
            raise InstanceNotFoundError(
                "the instance is not registered (any more); register it again",
                provider="memory",
                operation="renew",
                target=f"{instance.service_name} {instance.instance_id}",
            )
        lease.expires_at = self._expiry(lease.instance)

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY_INSTANCE
    ) -> Sequence[ServiceInstance]:
        """The instances now, sorted by id."""
        self._expire()
        return self._matching((query.namespace_id, query.group_name, service_name), query)

    def watch_instances(
        self,
        service_name: str,
        listener: InstancesListener,
        query: InstanceQuery = ANY_INSTANCE,
    ) -> Unsubscribe:
        """Call the listener with the present instances, then on each change."""
        self._expire()
        key = (query.namespace_id, query.group_name, service_name)
        delivery, unsubscribe = self._watchers.add((key, query), listener)
        delivery.offer(self._matching(key, query))
        return unsubscribe

    async def list_services(self, *, group_name: str = "", namespace_id: str = "") -> Sequence[str]:
        """The names of all services of a group that have an instance, sorted."""
        self._expire()
        return sorted(
            name
            for namespace, group, name in self._services
            if (namespace, group) == (namespace_id, group_name)
        )

    async def close(self) -> None:
        """Forget every instance, end every watch."""
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            sweeper.cancel()
            await asyncio.wait([sweeper])
        self._services.clear()
        await self._watchers.aclose()

    def _expiry(self, instance: ServiceInstance) -> float | None:
        return self._clock() + self._ttl if instance.ephemeral else None

    def _matching(self, key: ServiceKey, query: InstanceQuery) -> Instances:
        leases = self._services.get(key, {})
        return tuple(
            leases[instance_id].instance
            for instance_id in sorted(leases)
            if query.matches(leases[instance_id].instance)
        )

    def _announce(self, changed: ServiceKey) -> None:
        for key, query in self._watchers.keys():  # noqa: SIM118 - not a mapping
            if key == changed:
                self._watchers.offer((key, query), self._matching(key, query))

    def _expire(self) -> None:
        now = self._clock()
        for key, leases in list(self._services.items()):
            lapsed = [name for name, lease in leases.items() if _is_lapsed(lease, now)]
            if lapsed:
                self._drop(key, lapsed)

    def _drop(self, key: ServiceKey, instance_ids: list[str]) -> None:
        leases = self._services[key]
        for instance_id in instance_ids:
            del leases[instance_id]
        if not leases:
            del self._services[key]
        self._announce(key)

    def _next_expiry(self) -> float | None:
        leases = (lease for leases in self._services.values() for lease in leases.values())
        return min((e.expires_at for e in leases if e.expires_at is not None), default=None)

    def _start_sweeping(self) -> None:
        # One task only while there is a lease that can lapse; watchers learn of it in time.
        if self._sweeper is None and self._next_expiry() is not None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        while (expires_at := self._next_expiry()) is not None:
            await self._sleep(max(0.0, expires_at - self._clock()))
            self._expire()
        self._sweeper = None


def _service_key(instance: ServiceInstance) -> ServiceKey:
    return instance.namespace_id, instance.group_name, instance.service_name


def _is_lapsed(lease: _Lease, now: float) -> bool:
    return lease.expires_at is not None and lease.expires_at <= now


class InMemoryConfigCenter:
    """A configuration center for one process, with publishing, compare-and-set and history.

    Args:
        documents: first contents by data id, in the default group.
        now: the time stamped on what is published.
    """

    def __init__(
        self,
        documents: dict[str, str] | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now = now
        self._present: dict[DocumentKey, ConfigResult] = {}
        self._versions: dict[DocumentKey, dict[str, ConfigResult]] = {}
        self._published = 0
        self._watchers: Watchers[DocumentKey, ConfigResult | ConfigDeleted] = Watchers()
        for data_id, content in (documents or {}).items():
            self._store(("", "", data_id), content, content_type_of(data_id))

    async def get_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> ConfigResult:
        """The document now.

        Raises:
            ConfigNotFoundError: there is none.
        """
        state = self._state((namespace_id, group_name, data_id))
        if isinstance(state, ConfigDeleted):
            raise _not_found("get_config", data_id)
        return state

    def watch_config(
        self, data_id: str, listener: ConfigListener, group_name: str = "", namespace_id: str = ""
    ) -> Unsubscribe:
        """Call the listener with the present state, then on each change."""
        key = (namespace_id, group_name, data_id)
        delivery: Delivery[ConfigResult | ConfigDeleted]
        delivery, unsubscribe = self._watchers.add(key, listener)
        delivery.offer(self._state(key))
        return unsubscribe

    async def publish_config(
        self,
        data_id: str,
        content: str,
        group_name: str = "",
        namespace_id: str = "",
        *,
        content_type: str = "",
        expected_md5: str | None = None,
    ) -> None:
        """Create or replace the document.

        Raises:
            ConfigConflictError: another version than `expected_md5` is there.
        """
        key = (namespace_id, group_name, data_id)
        present = self._present.get(key)
        if expected_md5 is not None and (present.md5 if present else "") != expected_md5:
            raise ConfigConflictError(
                "the document changed since it was read; read it again and publish on top",
                provider="memory",
                operation="publish_config",
                target=data_id,
            )
        self._store(key, content, content_type or content_type_of(data_id))
        self._watchers.offer(key, self._present[key])

    async def delete_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> None:
        """Remove the document; its versions stay known."""
        key = (namespace_id, group_name, data_id)
        self._present.pop(key, None)
        self._watchers.offer(key, self._state(key))

    async def config_versions(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> Sequence[ConfigVersion]:
        """The last 100 versions, newest first."""
        key = (namespace_id, group_name, data_id)
        return [
            ConfigVersion(version_id, kept.md5, kept.last_modified)
            for version_id, kept in reversed(self._versions.get(key, {}).items())
        ]

    async def restore_config(
        self, data_id: str, version_id: str, group_name: str = "", namespace_id: str = ""
    ) -> None:
        """Publish that version again.

        Raises:
            ConfigNotFoundError: there is no such version.
        """
        key = (namespace_id, group_name, data_id)
        kept = self._versions.get(key, {}).get(version_id)
        if kept is None:
            raise _not_found("restore_config", f"{data_id} version {version_id}")
        await self.publish_config(
            data_id, kept.content, group_name, namespace_id, content_type=kept.content_type
        )

    async def close(self) -> None:
        """End every watch; the documents stay."""
        await self._watchers.aclose()

    def _state(self, key: DocumentKey) -> ConfigResult | ConfigDeleted:
        namespace_id, group_name, data_id = key
        return self._present.get(key) or ConfigDeleted(data_id, group_name, namespace_id)

    def _store(self, key: DocumentKey, content: str, content_type: str) -> None:
        namespace_id, group_name, data_id = key
        result = ConfigResult(
            content=content,
            md5=md5_of(content),
            last_modified=self._now(),
            content_type=content_type,
            data_id=data_id,
            group_name=group_name,
            namespace_id=namespace_id,
        )
        self._present[key] = result
        self._published += 1
        versions = self._versions.setdefault(key, {})
        versions[str(self._published)] = result
        while len(versions) > VERSIONS_KEPT:
            del versions[next(iter(versions))]


def _not_found(operation: str, target: str) -> ConfigNotFoundError:
    return ConfigNotFoundError(
        "there is no such document; publish it, or check data id, group and namespace",
        provider="memory",
        operation=operation,
        target=target,
    )


@asynccontextmanager
async def service_registry(settings: Settings) -> AsyncIterator[InMemoryServiceRegistry]:
    """Provider `memory` of the port `service_registry`; setting: `ttl_seconds`."""
    refuse_unknown_settings("memory", settings, ("ttl_seconds",))
    ttl = settings.get("ttl_seconds", 30.0)
    if not isinstance(ttl, int | float):
        raise InvalidValueError("ttl_seconds", ttl, "a number above 0")
    registry = InMemoryServiceRegistry(ttl_seconds=ttl)
    try:
        yield registry
    finally:
        await registry.close()


@asynccontextmanager
async def config_center(settings: Settings) -> AsyncIterator[InMemoryConfigCenter]:
    """Provider `memory` of the port `config_center`; setting: `documents`, contents by data id."""
    refuse_unknown_settings("memory", settings, ("documents",))
    documents = settings.get("documents", {})
    if not isinstance(documents, dict):
        raise InvalidValueError("documents", documents, "a mapping of data id to content")
    center = InMemoryConfigCenter(documents)
    try:
        yield center
    finally:
        await center.close()
