"""The fake's instances: kept by heartbeats, unhealthy and then removed without them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("FakeInstance", "FakeService", "Instances", "ServiceName")

ServiceName = tuple[str, str, str]  # namespace, group, service

BEAT_INTERVAL = "preserved.heart.beat.interval"
BEAT_TIMEOUT = "preserved.heart.beat.timeout"
DELETE_TIMEOUT = "preserved.ip.delete.timeout"


@dataclass(slots=True)
class FakeInstance:
    """One registered instance."""

    ip: str
    port: int
    weight: float
    enabled: bool
    ephemeral: bool
    cluster: str
    metadata: dict[str, str]
    last_beat_at: float
    healthy: bool = True

    def get_milliseconds(self, key: str, default: int) -> int:
        """One of its beat settings."""
        text = self.metadata.get(key, "")
        return int(text) if text.isascii() and text.isdigit() else default


@dataclass(slots=True)
class FakeService:
    """One service: either persistent or ephemeral."""

    ephemeral: bool
    created: bool = False
    # One entry per ip:port: registering in a second cluster replaces the first.
    instances: dict[tuple[str, int], FakeInstance] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    protect_threshold: float = 0.0
    expired_at: float = float("-inf")


class Instances:
    """All services with their instances, at the clock's present time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.services: dict[ServiceName, FakeService] = {}

    def register(self, name: ServiceName, instance: FakeInstance) -> bool:
        """Register an instance; returns False if the service holds the other kind of instance."""
        service = self._find_service(name)
        if service is None or not (service.instances or service.created):
            service = self.services[name] = FakeService(instance.ephemeral)
        if service.ephemeral != instance.ephemeral:
            return False
        service.instances[instance.ip, instance.port] = instance
        return True

    def beat(self, name: ServiceName, ip: str, port: int) -> bool:
        """Renew an ephemeral instance; returns False if there is none."""
        service = self._find_service(name)
        instance = service.instances.get((ip, port)) if service else None
        if instance is None or not instance.ephemeral:
            return False
        instance.last_beat_at = self._clock()
        instance.healthy = True
        return True

    def remove(self, name: ServiceName, ip: str, port: int, *, ephemeral: bool) -> None:
        """Remove the instance, if it exists and is of that kind."""
        service = self.services.get(name)
        instance = service.instances.get((ip, port)) if service else None
        if service is not None and instance is not None and instance.ephemeral == ephemeral:
            del service.instances[ip, port]

    def list_instances(self, name: ServiceName) -> list[FakeInstance]:
        """The instances of a service now."""
        service = self._find_service(name)
        if service is not None:
            self._expire(service)
        return list(service.instances.values()) if service else []

    def forget_ephemeral(self) -> None:
        """Remove all ephemeral instances, as a restart does."""
        for service in self.services.values():
            if service.ephemeral:
                service.instances.clear()

    def expire(self) -> None:
        """Mark or remove the ephemeral instances whose heartbeats are late."""
        for service in self.services.values():
            self._expire(service)

    def _expire(self, service: FakeService) -> None:
        now = self._clock()
        for at, each in list(service.instances.items()):
            silent_ms = (now - each.last_beat_at) * 1000
            if not each.ephemeral:
                continue
            if silent_ms >= each.get_milliseconds(DELETE_TIMEOUT, 30000):
                del service.instances[at]
            elif silent_ms >= each.get_milliseconds(BEAT_TIMEOUT, 15000):
                each.healthy = False

    def _find_service(self, name: ServiceName) -> FakeService | None:
        """The service; its instances are looked at no more often than the real server does."""
        service = self.services.get(name)
        if service is not None and self._clock() - service.expired_at >= 0.5:
            self._expire(service)
            service.expired_at = self._clock()
        return service
