"""The services an application says it offers, and the instances that it registers for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

from microservice_core import ServerAddressed, ServiceInstance, ServiceRegistry
from microservice_kit.settings import MicroserviceSettings

from .address import find_reachable_address

__all__ = (
    "DeclaredService",
    "clear_declarations",
    "declared_services",
    "describe_own_service",
    "service_registry",
)

OwnerT = TypeVar("OwnerT")

_STARTED_AT = datetime.now(UTC).isoformat(timespec="seconds")

_declared: dict[tuple[str, int], DeclaredService] = {}


@dataclass(frozen=True, slots=True)
class DeclaredService:
    """A service name and the port it is offered on, with the labels that callers select by."""

    service_name: str
    port: int
    version: str = ""
    lane: str = ""
    zone: str = ""
    weight: float = 1.0
    metadata: Mapping[str, str] = field(default_factory=dict)

    def create_instance(
        self, settings: MicroserviceSettings, registry: ServiceRegistry
    ) -> ServiceInstance:
        """Create the instance to register: at this process's address, in the module's group."""
        server = registry.server_address if isinstance(registry, ServerAddressed) else ""
        labels = {"version": self.version, "lane": self.lane, "zone": self.zone}
        return ServiceInstance(
            self.service_name,
            settings.host or find_reachable_address(server),
            self.port,
            weight=self.weight,
            metadata={
                "started_at": _STARTED_AT,
                "kit": _read_kit_version(),
                **{key: value for key, value in labels.items() if value},
                **self.metadata,
            },
            group_name=settings.group_name,
            namespace_id=settings.namespace_id,
        )


def describe_own_service(
    settings: MicroserviceSettings, port: int | None
) -> DeclaredService | None:
    """Return the service that these settings describe; None without a name or a port."""
    if not settings.service_name or port is None:
        return None
    return DeclaredService(
        settings.service_name,
        port,
        version=settings.version,
        lane=settings.lane,
        zone=settings.zone,
        weight=settings.weight,
        metadata=settings.metadata,
    )


def declared_services() -> tuple[DeclaredService, ...]:
    """Return the services of every `service_registry` so far."""
    return tuple(_declared.values())


def clear_declarations() -> None:
    """Forget every declaration of `service_registry`; for tests."""
    _declared.clear()


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
    """Declare that an application or class is a service of its own, which a module registers too.

    `@service_registry("orders-admin", port=9000)`: every module opened afterwards in this process
    registers it beside its own service, and deregisters it with it. The decorated object is
    returned unchanged.

    Raises:
        InvalidValueError: no instance can have this name, port or weight.
    """
    declared = DeclaredService(
        name, port, version=version, lane=lane, zone=zone, weight=weight, metadata=metadata or {}
    )
    ServiceInstance(name, "127.0.0.1", port, weight=weight)  # raises what no instance can have

    def mark(owner: OwnerT) -> OwnerT:
        _declared[name, port] = declared
        return owner

    return mark


def _read_kit_version() -> str:
    try:
        return version("microservice-kit")
    except PackageNotFoundError:
        return ""
