"""Who offers a service now, for an application that does not call it over HTTP."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from microservice_core import ServiceInstance, ServiceRegistry
from microservice_kit.current import current_services
from microservice_lb import Balancer, create

__all__ = ("ServiceDiscovery",)


class ServiceDiscovery:
    """The instances of one service, kept up to date, and one of them by a balancer.

    `orders = ServiceDiscovery("orders")` may stand anywhere; it belongs to the module open in this
    context, else to the only one that is open. It takes part in the discovery of that module's
    service client, so that asking twice costs nothing.

    Args:
        balancer: any name that microservice-lb knows, such as `round_robin` or `p2c`.
    """

    def __init__(self, service_name: str, *, balancer: str = "round_robin") -> None:
        self.service_name = service_name
        self._balancer_name = balancer
        self._chosen: WeakKeyDictionary[
            ServiceRegistry, tuple[tuple[ServiceInstance, ...], Balancer[ServiceInstance]]
        ] = WeakKeyDictionary()
        self._balancer()  # refuses a name that no balancer has

    async def instances(self) -> tuple[ServiceInstance, ...]:
        """Everybody the registry knows, healthy or not.

        Raises:
            NotEnabledError: no module with a registry is open.
            ServiceRegistryError: the registry cannot be asked, and never was.
        """
        return await current_services().service_client.instances(self.service_name)

    async def choose(self, key: str | None = None) -> ServiceInstance:
        """One that is healthy, enabled and has a weight.

        Args:
            key: equal keys lead to the same instance, with a hash balancer.

        Raises:
            NoInstanceAvailableError: there is none.
        """
        usable = tuple(one for one in await self.instances() if one.healthy and one.enabled)
        registry = current_services().service_registry
        known, balancer = self._chosen.get(registry, (None, None))
        if balancer is None:
            balancer = self._balancer()
        if known != usable:
            balancer.update(usable)
            self._chosen[registry] = (usable, balancer)
        return balancer.pick(key)

    def _balancer(self) -> Balancer[ServiceInstance]:
        return create(self._balancer_name)
