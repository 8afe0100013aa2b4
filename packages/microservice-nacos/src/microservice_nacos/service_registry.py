"""Nacos as a service registry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from microservice_core import (
    InstanceQuery,
    InstancesListener,
    ServiceInstance,
    Unsubscribe,
)
from microservice_core.delivery import Watchers
from nacos_client import AsyncNacosClient, Instance

from .errors import as_registry_errors

__all__ = ("NacosServiceRegistry",)

Instances = tuple[ServiceInstance, ...]

ANY_INSTANCE = InstanceQuery()
DEFAULT_CLUSTER = "DEFAULT"
SOURCE = {"preserved.register.source": "PYTHON"}  # as Spring Cloud Alibaba marks its own


class NacosServiceRegistry:
    """The port `ServiceRegistry` on a nacos-client; also a `ServiceCatalog`.

    Without `clusters` in a query, servers up to 3.2.0 show the cluster DEFAULT only.

    Args:
        client: keeps registrations alive by its own thread; stays open when this is closed.
    """

    def __init__(self, client: AsyncNacosClient) -> None:
        self._client = client
        self._watchers: Watchers[tuple[str, InstanceQuery], Instances] = Watchers()
        self._registered: dict[tuple[str, str, str, str], ServiceInstance] = {}

    @property
    def server_address(self) -> str:
        """The server in use; the way there tells which address others reach us at."""
        return self._client.server_in_use

    async def register(self, instance: ServiceInstance) -> None:
        """Announce the instance and keep it alive.

        Raises:
            ServiceRegistryAccessDeniedError: user, password or permission.
            ServiceRegistryUnavailableError: no server answered.
            InvalidValueError: Nacos allows no such name, weight or metadata.
        """
        with as_registry_errors("register", instance.service_name):
            await self._client.naming.register(
                instance.service_name,
                instance.ip,
                instance.port,
                metadata={**SOURCE, **instance.metadata},
                group=instance.group_name or None,
                namespace=instance.namespace_id or None,
                cluster=instance.cluster_name or DEFAULT_CLUSTER,
                weight=instance.weight,
                enabled=instance.enabled,
                ephemeral=instance.ephemeral,
            )
        self._registered[_key(instance)] = instance

    async def deregister(self, instance: ServiceInstance) -> None:
        """Take the instance out and stop its beats; one that is not there is no error."""
        self._registered.pop(_key(instance), None)
        with as_registry_errors("deregister", instance.service_name):
            await self._client.naming.deregister(
                instance.service_name,
                instance.ip,
                instance.port,
                group=instance.group_name or None,
                namespace=instance.namespace_id or None,
                cluster=instance.cluster_name or DEFAULT_CLUSTER,
                ephemeral=instance.ephemeral,
            )

    async def hand_over(self, instance: ServiceInstance) -> None:
        """Beat no more, and leave the instance registered: another process goes on with it."""
        self._registered.pop(_key(instance), None)
        with as_registry_errors("hand_over", instance.service_name):
            await self._client.naming.hand_over(
                instance.service_name,
                instance.ip,
                instance.port,
                group=instance.group_name or None,
                namespace=instance.namespace_id or None,
            )

    async def renew(self, instance: ServiceInstance) -> None:
        """Send one beat now.

        Raises:
            InstanceNotFoundError: Nacos does not know it.
        """
        with as_registry_errors("renew", f"{instance.service_name} {instance.address}"):
            await self._client.naming.beat(
                instance.service_name,
                instance.ip,
                instance.port,
                group=instance.group_name or None,
                namespace=instance.namespace_id or None,
                cluster=instance.cluster_name or DEFAULT_CLUSTER,
            )

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY_INSTANCE
    ) -> Sequence[ServiceInstance]:
        """The instances now, sorted by id."""
        with as_registry_errors("get_instances", service_name):
            found = await self._client.naming.instances(
                service_name,
                clusters=query.clusters,
                group=query.group_name or None,
                namespace=query.namespace_id or None,
            )
        return _matching(found, query)

    def watch_instances(
        self,
        service_name: str,
        listener: InstancesListener,
        query: InstanceQuery = ANY_INSTANCE,
    ) -> Unsubscribe:
        """Call the listener with the present instances, then on each change.

        Raises:
            InvalidValueError: Nacos allows no such name.
        """
        delivery, forget = self._watchers.add((service_name, query), listener)
        try:
            with as_registry_errors("watch_instances", service_name):
                stop = self._client.naming.subscribe(
                    service_name,
                    lambda found: delivery.notify(_matching(found, query)),
                    clusters=query.clusters,
                    group=query.group_name or None,
                    namespace=query.namespace_id or None,
                )
        except BaseException:
            forget()
            raise

        def unsubscribe() -> None:
            stop()
            forget()

        return unsubscribe

    async def list_services(self, *, group_name: str = "", namespace_id: str = "") -> Sequence[str]:
        """The names of all services of a group, sorted; needs a user with admin permissions."""
        with as_registry_errors("list_services", group_name):
            return await self._client.naming.services(
                group=group_name or None, namespace=namespace_id or None
            )

    async def close(self) -> None:
        """Deregister what was registered, end every watch; the client stays open."""
        await self._watchers.aclose()
        for instance in list(self._registered.values()):
            await self.deregister(instance)


def _matching(found: Iterable[Instance], query: InstanceQuery) -> Instances:
    instances = (_service_instance(one) for one in found)
    return tuple(
        sorted(
            (instance for instance in instances if query.matches(instance)),
            key=lambda instance: instance.instance_id,
        )
    )


def _service_instance(found: Instance) -> ServiceInstance:
    return ServiceInstance(
        found.service,
        found.ip,
        found.port,
        weight=found.weight,
        healthy=found.healthy,
        enabled=found.enabled,
        ephemeral=found.ephemeral,
        metadata=found.metadata,
        cluster_name=found.cluster,
        namespace_id=found.namespace,
        group_name=found.group,
    )


def _key(instance: ServiceInstance) -> tuple[str, str, str, str]:
    return (
        instance.namespace_id,
        instance.group_name,
        instance.service_name,
        instance.instance_id,
    )
