"""The fake's instances: kept by beats, unhealthy and then gone without them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("FakeInstance", "FakeService", "Instances", "ServiceName")

ServiceName = tuple[str, str, str]  # namespace, group, service

INTERVAL = "preserved.heart.beat.interval"
TIMEOUT = "preserved.heart.beat.timeout"
DELETE = "preserved.ip.delete.timeout"


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
    beaten_at: float
    healthy: bool = True

    def milliseconds(self, key: str, default: int) -> int:
        """One of its beat settings."""
        text = self.metadata.get(key, "")
        return int(text) if text.isdigit() else default


@dataclass(slots=True)
class FakeService:
    """One service: either persistent or ephemeral."""

    ephemeral: bool
    created: bool = False
    # One entry per ip:port: registering in a second cluster replaces the first.
    instances: dict[tuple[str, int], FakeInstance] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    protect_threshold: float = 0.0
    looked_at: float = float("-inf")


class Instances:
    """All services, seen at the clock's present time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.services: dict[ServiceName, FakeService] = {}

    def register(self, name: ServiceName, instance: FakeInstance) -> bool:
        """Whether it could be registered: a service holds one kind of instance only."""
        service = self._expired(name)
        if service is None or not (service.instances or service.created):
            service = self.services[name] = FakeService(instance.ephemeral)
        if service.ephemeral != instance.ephemeral:
            return False
        service.instances[instance.ip, instance.port] = instance
        return True

    def beat(self, name: ServiceName, ip: str, port: int) -> bool:
        """Whether the ephemeral instance is known."""
        service = self._expired(name)
        found = service.instances.get((ip, port)) if service else None
        if found is None or not found.ephemeral:
            return False
        found.beaten_at = self._clock()
        found.healthy = True
        return True

    def remove(self, name: ServiceName, ip: str, port: int, *, ephemeral: bool) -> None:
        """Take it out, if it is there and of that kind."""
        service = self.services.get(name)
        found = service.instances.get((ip, port)) if service else None
        if service is not None and found is not None and found.ephemeral == ephemeral:
            del service.instances[ip, port]

    def of(self, name: ServiceName) -> list[FakeInstance]:
        """The instances of a service now."""
        service = self._expired(name)
        if service is not None:
            self._expire(service)
        return list(service.instances.values()) if service else []

    def forget_ephemeral(self) -> None:
        """What a restart does."""
        for service in self.services.values():
            if service.ephemeral:
                service.instances.clear()

    def expire(self) -> None:
        """Let time do its work on all ephemeral instances."""
        for service in self.services.values():
            self._expire(service)

    def _expire(self, service: FakeService) -> None:
        now = self._clock()
        for at, each in list(service.instances.items()):
            silent_ms = (now - each.beaten_at) * 1000
            if not each.ephemeral:
                continue
            if silent_ms >= each.milliseconds(DELETE, 30000):
                del service.instances[at]
            elif silent_ms >= each.milliseconds(TIMEOUT, 15000):
                each.healthy = False

    def _expired(self, name: ServiceName) -> FakeService | None:
        """The service; its instances are looked at no more often than the real server does."""
        service = self.services.get(name)
        if service is not None and self._clock() - service.looked_at >= 0.5:
            self._expire(service)
            service.looked_at = self._clock()
        return service
