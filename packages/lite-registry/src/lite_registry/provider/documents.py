"""Services and instances in the JSON of lite-registry's HTTP interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self, cast
from urllib.parse import quote

from microservice_core import InvalidValueError, ServiceInstance, ServiceRegistryError

__all__ = ("Service", "build_document", "parse_instances")


class Service(NamedTuple):
    """Identifies a service: its name, group and namespace."""

    name: str
    group: str = ""
    namespace: str = ""

    @classmethod
    def from_instance(cls, instance: ServiceInstance) -> Self:
        """The service of an instance."""
        return cls(instance.service_name, instance.group_name, instance.namespace_id)

    @property
    def path(self) -> str:
        """The path of its list of instances."""
        return f"/v1/instances/{quote(self.name, safe='')}"

    @property
    def params(self) -> dict[str, str]:
        """The query parameters that name group and namespace."""
        params = {"group": self.group, "namespace": self.namespace}
        return {name: value for name, value in params.items() if value}


def build_document(instance: ServiceInstance, ttl_seconds: float) -> dict[str, object]:
    """The document that registers the instance."""
    return {
        "ip": instance.ip,
        "port": instance.port,
        "weight": instance.weight,
        "healthy": instance.healthy,
        "enabled": instance.enabled,
        "ephemeral": instance.ephemeral,
        "cluster": instance.cluster_name,
        "metadata": dict(instance.metadata),
        "ttl_seconds": ttl_seconds,
    }


def parse_instances(
    service: Service, document: Mapping[str, object]
) -> tuple[ServiceInstance, ...]:
    """The instances of a server's list.

    Raises:
        ServiceRegistryError: the document has another form.
    """
    try:
        entries = cast("list[dict[str, object]]", document["instances"])
        # The lease of an overdue instance has lapsed, and the server keeps it since many lapsed at
        # once. Where some of the service are well, the others are rather dead.
        is_any_current = not all(entry.get("overdue") is True for entry in entries)
        return tuple(
            _parse_instance(service, entry, may_be_dead=entry.get("overdue") is True)
            if is_any_current
            else _parse_instance(service, entry)
            for entry in entries
        )
    except (
        AttributeError,
        InvalidValueError,
        KeyError,
        OverflowError,
        TypeError,
        ValueError,
    ) as error:
        raise ServiceRegistryError(
            f"the response is not a list of instances ({error!r}); check the url",
            provider="lite",
            operation="get_instances",
            target=service.name,
        ) from error


def _parse_instance(
    service: Service, entry: dict[str, object], *, may_be_dead: bool = False
) -> ServiceInstance:
    return ServiceInstance(
        service_name=service.name,
        group_name=service.group,
        namespace_id=service.namespace,
        instance_id=cast(str, entry["id"]),
        ip=cast(str, entry["ip"]),
        port=cast(int, entry["port"]),
        weight=cast(float, entry["weight"]),
        healthy=cast(bool, entry["healthy"]) and not may_be_dead,
        enabled=cast(bool, entry["enabled"]),
        ephemeral=cast(bool, entry["ephemeral"]),
        cluster_name=cast(str, entry["cluster"]),
        metadata=cast("dict[str, str]", entry["metadata"]),
    )
