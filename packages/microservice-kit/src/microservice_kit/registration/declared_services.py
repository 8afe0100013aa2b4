"""The services an application says it offers, and the instances that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, TypeVar

from microservice_core import ServerAddressed, ServiceInstance, ServiceRegistry

from .address import reachable_address

if TYPE_CHECKING:
    from microservice_kit.settings import MicroserviceSettings

__all__ = ("DeclaredService", "declared_services", "service_registry")

OwnerT = TypeVar("OwnerT")

STARTED_AT = datetime.now(UTC).isoformat(timespec="seconds")

_declared: dict[tuple[str, int], DeclaredService] = {}


@dataclass(frozen=True, slots=True)
class DeclaredService:
    """A service name and the port it is offered on, with the labels others choose it by."""

    service_name: str
    port: int
    version: str = ""
    lane: str = ""
    zone: str = ""
    weight: float = 1.0
    metadata: Mapping[str, str] = field(default_factory=dict)

    def instance(
        self, settings: MicroserviceSettings, registry: ServiceRegistry
    ) -> ServiceInstance:
        """What this process registers for it: at its own address, in the module's group."""
        server = registry.server_address if isinstance(registry, ServerAddressed) else ""
        labels = {"version": self.version, "lane": self.lane, "zone": self.zone}
        return ServiceInstance(
            self.service_name,
            settings.host or reachable_address(server),
            self.port,
            weight=self.weight,
            metadata={
                "started_at": STARTED_AT,
                "kit": _kit_version(),
                **{key: value for key, value in labels.items() if value},
                **self.metadata,
            },
            group_name=settings.group_name,
            namespace_id=settings.namespace_id,
        )


def declared_services() -> tuple[DeclaredService, ...]:
    """What was declared so far."""
    return tuple(_declared.values())


def service_registry(
    name: str,
    *,
    port: int,
    version: str = "",
    lane: str = "",
    zone: str = "",
    weight: float = 1.0,
    metadata: Mapping[str, str] | None = None,
) -> Callable[[OwnerT], OwnerT]:
    """Say that an application or class is a service of its own; a module registers it too.

    `@service_registry("orders-admin", port=9000)`: every module opened afterwards in this process
    registers it beside its own service, and deregisters it with it. The decorated object is as
    before.

    Raises:
        InvalidValueError: a name, port or weight that no instance can have.
    """
    declared = DeclaredService(
        name, port, version=version, lane=lane, zone=zone, weight=weight, metadata=metadata or {}
    )
    ServiceInstance(name, "127.0.0.1", port, weight=weight)  # refuses what cannot be

    def mark(owner: OwnerT) -> OwnerT:
        _declared[name, port] = declared
        return owner

    return mark


def _kit_version() -> str:
    try:
        return version("microservice-kit")
    except PackageNotFoundError:
        return ""
