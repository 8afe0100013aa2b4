"""Providers in this process: for tests, demos and single-process applications."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from ._supervision import TaskSupervisor
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

_MAX_VERSIONS = 100
_SWEEP = "sweep"


@dataclass(slots=True)
class _Lease:
    instance: ServiceInstance
    expires_at: float | None


class InMemoryServiceRegistry:
    """A registry for one process; the leases of ephemeral instances expire by the given clock.

    It does not renew leases by itself: call `renew` within `ttl_seconds`, or the instance expires.

    Args:
        ttl_seconds: how long a lease lasts without a renewal.
        clock: monotonic seconds.
        sleep: waits that many seconds of `clock`.

    Attributes:
        confirms_empty_lists: an empty list is true at once: no restart makes it forget instances.
    """

    confirms_empty_lists = True

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
        self._lease_added = asyncio.Event()
        self._tasks = TaskSupervisor("in-memory registry", sleep=sleep)

    async def register(self, instance: ServiceInstance) -> None:
        """Register the instance; registering it again replaces it and starts a new lease."""
        key = _service_key(instance)
        lease = _Lease(instance, self._expiry(instance))
        self._services.setdefault(key, {})[instance.instance_id] = lease
        self._notify_watchers(key)
        self._ensure_sweeping()

    async def deregister(self, instance: ServiceInstance) -> None:
        """Remove the instance; removing a missing one is no error."""
        key = _service_key(instance)
        if instance.instance_id in self._services.get(key, {}):
            self._drop(key, [instance.instance_id])

    async def renew(self, instance: ServiceInstance) -> None:
        """Start a new lease for the instance.

        Raises:
            InstanceNotFoundError: it was never registered, or its lease has expired.
        """
        self._expire()
        lease = self._services.get(_service_key(instance), {}).get(instance.instance_id)
        if lease is None:
            raise InstanceNotFoundError(
                "the instance is not registered, or its lease has expired; register it again",
                provider="memory",
                operation="renew",
                target=f"{instance.service_name} {instance.instance_id}",
            )
        lease.expires_at = self._expiry(lease.instance)

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY_INSTANCE
    ) -> Sequence[ServiceInstance]:
        """The present instances, sorted by id."""
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
        delivery.notify(self._matching(key, query))
        return unsubscribe

    async def list_services(self, *, group_name: str = "", namespace_id: str = "") -> Sequence[str]:
        """The names of all services of a group that have instances, sorted."""
        self._expire()
        return sorted(
            name
            for namespace, group, name in self._services
            if (namespace, group) == (namespace_id, group_name)
        )

    async def close(self) -> None:
        """Remove every instance and end every watch."""
        await self._tasks.stop(_SWEEP)
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

    def _notify_watchers(self, changed: ServiceKey) -> None:
        for key, query in self._watchers.keys():  # noqa: SIM118 - not a mapping
            if key == changed:
                self._watchers.notify((key, query), self._matching(key, query))

    def _expire(self) -> None:
        now = self._clock()
        for key, leases in list(self._services.items()):
            expired = [name for name, lease in leases.items() if _has_expired(lease, now)]
            if expired:
                self._drop(key, expired)

    def _drop(self, key: ServiceKey, instance_ids: list[str]) -> None:
        leases = self._services[key]
        for instance_id in instance_ids:
            del leases[instance_id]
        if not leases:
            del self._services[key]
        self._notify_watchers(key)

    def _next_expiry(self) -> float | None:
        leases = (lease for leases in self._services.values() for lease in leases.values())
        return min(
            (lease.expires_at for lease in leases if lease.expires_at is not None), default=None
        )

    def _ensure_sweeping(self) -> None:
        self._lease_added.set()
        if _SWEEP not in self._tasks.running and self._next_expiry() is not None:
            self._tasks.start(_SWEEP, self._sweep)

    async def _sweep(self) -> None:
        """Remove leases when they expire, so that watchers are notified without any other call."""
        while True:
            expires_at = self._next_expiry()
            if expires_at is None:
                self._lease_added.clear()
                await self._lease_added.wait()
            else:
                await self._sleep(max(0.0, expires_at - self._clock()))
                self._expire()


def _service_key(instance: ServiceInstance) -> ServiceKey:
    return instance.namespace_id, instance.group_name, instance.service_name


def _has_expired(lease: _Lease, now: float) -> bool:
    return lease.expires_at is not None and lease.expires_at <= now


class InMemoryConfigCenter:
    """A configuration center for one process, with publishing, compare-and-set and history.

    Args:
        documents: the first documents: contents by data id, in the default group.
        now: the time of publication for what is published.
    """

    def __init__(
        self,
        documents: dict[str, str] | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now = now
        self._documents: dict[DocumentKey, ConfigResult] = {}
        self._versions: dict[DocumentKey, dict[str, ConfigResult]] = {}
        self._published = 0
        self._watchers: Watchers[DocumentKey, ConfigResult | ConfigDeleted] = Watchers()
        for data_id, content in (documents or {}).items():
            self._store(("", "", data_id), content, content_type_of(data_id))

    async def get_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> ConfigResult:
        """The document as it is now.

        Raises:
            ConfigNotFoundError: there is no such document.
        """
        state = self._state((namespace_id, group_name, data_id))
        if isinstance(state, ConfigDeleted):
            raise _not_found_error("get_config", data_id)
        return state

    def watch_config(
        self, data_id: str, listener: ConfigListener, group_name: str = "", namespace_id: str = ""
    ) -> Unsubscribe:
        """Call the listener with the present state, then on each change."""
        key = (namespace_id, group_name, data_id)
        delivery: Delivery[ConfigResult | ConfigDeleted]
        delivery, unsubscribe = self._watchers.add(key, listener)
        delivery.notify(self._state(key))
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
            ConfigConflictError: the present version does not have the fingerprint `expected_md5`.
        """
        key = (namespace_id, group_name, data_id)
        present = self._documents.get(key)
        if expected_md5 is not None and (present.md5 if present else "") != expected_md5:
            raise ConfigConflictError(
                "the document has changed since it was read; read it again, then publish",
                provider="memory",
                operation="publish_config",
                target=data_id,
            )
        self._store(key, content, content_type or content_type_of(data_id))
        self._watchers.notify(key, self._documents[key])

    async def delete_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> None:
        """Delete the document; its versions can still be restored."""
        key = (namespace_id, group_name, data_id)
        self._documents.pop(key, None)
        self._watchers.notify(key, self._state(key))

    async def config_versions(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> Sequence[ConfigVersion]:
        """The last 100 versions, newest first."""
        key = (namespace_id, group_name, data_id)
        return [
            ConfigVersion(version_id, result.md5, result.last_modified)
            for version_id, result in reversed(self._versions.get(key, {}).items())
        ]

    async def restore_config(
        self, data_id: str, version_id: str, group_name: str = "", namespace_id: str = ""
    ) -> None:
        """Publish an earlier version again.

        Raises:
            ConfigNotFoundError: there is no such version.
        """
        key = (namespace_id, group_name, data_id)
        version = self._versions.get(key, {}).get(version_id)
        if version is None:
            raise _not_found_error("restore_config", f"{data_id} version {version_id}")
        await self.publish_config(
            data_id, version.content, group_name, namespace_id, content_type=version.content_type
        )

    async def close(self) -> None:
        """End every watch; the documents remain."""
        await self._watchers.aclose()

    def _state(self, key: DocumentKey) -> ConfigResult | ConfigDeleted:
        namespace_id, group_name, data_id = key
        return self._documents.get(key) or ConfigDeleted(data_id, group_name, namespace_id)

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
        self._documents[key] = result
        self._published += 1
        versions = self._versions.setdefault(key, {})
        versions[str(self._published)] = result
        while len(versions) > _MAX_VERSIONS:
            del versions[next(iter(versions))]


def _not_found_error(operation: str, target: str) -> ConfigNotFoundError:
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
