"""Services and instances as lite-registry's HTTP interface writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self, cast
from urllib.parse import quote

from microservice_core import InvalidValueError, ServiceInstance, ServiceRegistryError

__all__ = ("Service", "instance_document", "instances_of")


class Service(NamedTuple):
    """What instances are registered under."""

    name: str
    group: str = ""
    namespace: str = ""

    @classmethod
    def of(cls, instance: ServiceInstance) -> Self:
        """The service the instance belongs to."""
        return cls(instance.service_name, instance.group_name, instance.namespace_id)

    @property
    def path(self) -> str:
        """Where its instances are."""
        return f"/v1/instances/{quote(self.name, safe='')}"

    @property
    def params(self) -> dict[str, str]:
        """The query that names group and namespace."""
        given = {"group": self.group, "namespace": self.namespace}
        return {name: value for name, value in given.items() if value}


def instance_document(instance: ServiceInstance, ttl_seconds: float) -> dict[str, object]:
    """What is sent to register it."""
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


def instances_of(service: Service, answer: Mapping[str, object]) -> tuple[ServiceInstance, ...]:
    """The instances that an answer lists.

    Raises:
        ServiceRegistryError: it is no list of instances.
    """
    try:
        documents = cast("list[dict[str, object]]", answer["instances"])
        return tuple(_instance(service, document) for document in documents)
    except (KeyError, TypeError, AttributeError, InvalidValueError) as error:
        raise ServiceRegistryError(
            f"the answer is no list of instances ({error!r}); check the url",
            provider="lite",
            operation="get_instances",
            target=service.name,
        ) from error


def _instance(service: Service, document: dict[str, object]) -> ServiceInstance:
    return ServiceInstance(
        service_name=service.name,
        group_name=service.group,
        namespace_id=service.namespace,
        instance_id=cast(str, document["id"]),
        ip=cast(str, document["ip"]),
        port=cast(int, document["port"]),
        weight=cast(float, document["weight"]),
        healthy=cast(bool, document["healthy"]),
        enabled=cast(bool, document["enabled"]),
        ephemeral=cast(bool, document["ephemeral"]),
        cluster_name=cast(str, document["cluster"]),
        metadata=cast("dict[str, str]", document["metadata"]),
    )
