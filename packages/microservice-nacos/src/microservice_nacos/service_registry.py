"""Nacos as a service registry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from microservice_core import (
    InstanceQuery,
    InstancesListener,
    ServiceInstance,
    Unsubscribe,
    Watchers,
)
from nacos_client import AsyncNacosClient, Instance

from .errors import translate_registry_errors

__all__ = ("NacosServiceRegistry",)

Instances = tuple[ServiceInstance, ...]

_ANY_INSTANCE = InstanceQuery()
_DEFAULT_CLUSTER = "DEFAULT"
# Spring Cloud Alibaba marks its own instances with this key, and SPRING_CLOUD.
_SOURCE_LABEL = {"preserved.register.source": "PYTHON"}


class NacosServiceRegistry:
    """The port `ServiceRegistry` on a nacos-client; also a `ServiceCatalog`.

    Args:
        client: renews registrations in its own thread; stays open when the registry is closed.
    """

    def __init__(self, client: AsyncNacosClient) -> None:
        self._client = client
        self._watchers: Watchers[tuple[str, InstanceQuery], Instances] = Watchers()
        self._registered: dict[tuple[str, str, str, str], ServiceInstance] = {}

    @property
    def server_address(self) -> str:
        """The server in use; the route to it determines the address to register."""
        return self._client.server_in_use

    async def register(self, instance: ServiceInstance) -> None:
        """Register the instance and keep it registered.

        Raises:
            ServiceRegistryAccessDeniedError: user, password or permission.
            ServiceRegistryUnavailableError: no server responded.
            InvalidValueError: Nacos allows no such name, weight or metadata.
        """
        with translate_registry_errors("register", instance.service_name):
            await self._client.naming.register(
                instance.service_name,
                instance.ip,
                instance.port,
                metadata={**_SOURCE_LABEL, **instance.metadata},
                group=instance.group_name or None,
                namespace=instance.namespace_id or None,
                cluster=instance.cluster_name or _DEFAULT_CLUSTER,
                weight=instance.weight,
                enabled=instance.enabled,
                ephemeral=instance.ephemeral,
            )
        self._registered[_registration_key(instance)] = instance

    async def deregister(self, instance: ServiceInstance) -> None:
        """Deregister the instance and stop renewing it; an absent one is no error.

        Raises:
            ServiceRegistryUnavailableError: no server responded; the lease will expire.
        """
        self._registered.pop(_registration_key(instance), None)
        with translate_registry_errors("deregister", instance.service_name):
            await self._client.naming.deregister(
                instance.service_name,
                instance.ip,
                instance.port,
                group=instance.group_name or None,
                namespace=instance.namespace_id or None,
                cluster=instance.cluster_name or _DEFAULT_CLUSTER,
                ephemeral=instance.ephemeral,
            )

    async def hand_over(self, instance: ServiceInstance) -> None:
        """Stop renewing the instance, and leave it registered for another process to renew."""
        self._registered.pop(_registration_key(instance), None)
        with translate_registry_errors("hand_over", instance.service_name):
            await self._client.naming.hand_over(
                instance.service_name,
                instance.ip,
                instance.port,
                group=instance.group_name or None,
                namespace=instance.namespace_id or None,
            )

    async def renew(self, instance: ServiceInstance) -> None:
        """Send one heartbeat now.

        Raises:
            InstanceNotFoundError: it is not registered.
            ServiceRegistryUnavailableError: no server responded.
        """
        with translate_registry_errors("renew", f"{instance.service_name} {instance.address}"):
            await self._client.naming.beat(
                instance.service_name,
                instance.ip,
                instance.port,
                group=instance.group_name or None,
                namespace=instance.namespace_id or None,
                cluster=instance.cluster_name or _DEFAULT_CLUSTER,
            )

    async def get_instances(
        self, service_name: str, query: InstanceQuery = _ANY_INSTANCE
    ) -> Sequence[ServiceInstance]:
        """Return the present instances, sorted by id.

        Raises:
            ServiceRegistryAccessDeniedError: user, password or permission.
            ServiceRegistryUnavailableError: no server responded.
        """
        with translate_registry_errors("get_instances", service_name):
            instances = await self._client.naming.instances(
                service_name,
                clusters=query.clusters,
                group=query.group_name or None,
                namespace=query.namespace_id or None,
            )
        return _convert_matching(instances, query)

    def watch_instances(
        self,
        service_name: str,
        listener: InstancesListener,
        query: InstanceQuery = _ANY_INSTANCE,
    ) -> Unsubscribe:
        """Call the listener with the present instances, then on each change.

        Raises:
            InvalidValueError: Nacos allows no such name.
        """
        delivery, remove_delivery = self._watchers.add((service_name, query), listener)
        try:
            with translate_registry_errors("watch_instances", service_name):
                stop_watch = self._client.naming.subscribe(
                    service_name,
                    lambda instances: delivery.notify(_convert_matching(instances, query)),
                    clusters=query.clusters,
                    group=query.group_name or None,
                    namespace=query.namespace_id or None,
                )
        except BaseException:
            remove_delivery()
            raise

        def unsubscribe() -> None:
            stop_watch()
            remove_delivery()

        return unsubscribe

    async def list_services(self, *, group_name: str = "", namespace_id: str = "") -> Sequence[str]:
        """Return the names of all services of a group, sorted; needs admin permissions.

        Raises:
            ServiceRegistryAccessDeniedError: user, password or permission.
            ServiceRegistryUnavailableError: no server responded.
        """
        with translate_registry_errors("list_services", group_name):
            return await self._client.naming.services(
                group=group_name or None, namespace=namespace_id or None
            )

    async def close(self) -> None:
        """End every watch and deregister every instance; the client stays open."""
        await self._watchers.aclose()
        for instance in list(self._registered.values()):
            await self.deregister(instance)


def _convert_matching(instances: Iterable[Instance], query: InstanceQuery) -> Instances:
    """Convert the instances that match the query, sorted by id."""
    converted = (_convert_instance(instance) for instance in instances)
    return tuple(
        sorted(
            (instance for instance in converted if query.matches(instance)),
            key=lambda instance: instance.instance_id,
        )
    )


def _convert_instance(instance: Instance) -> ServiceInstance:
    return ServiceInstance(
        instance.service,
        instance.ip,
        instance.port,
        weight=instance.weight,
        healthy=instance.healthy,
        enabled=instance.enabled,
        ephemeral=instance.ephemeral,
        metadata=instance.metadata,
        cluster_name=instance.cluster,
        namespace_id=instance.namespace,
        group_name=instance.group,
    )


def _registration_key(instance: ServiceInstance) -> tuple[str, str, str, str]:
    return (
        instance.namespace_id,
        instance.group_name,
        instance.service_name,
        instance.instance_id,
    )
