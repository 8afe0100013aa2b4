"""The instances of a service, for an application that does not call it over HTTP."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from microservice_core import ServiceInstance, ServiceRegistry
from microservice_lb import Balancer, create

from .current import current_module

__all__ = ("ServiceDiscovery",)


class ServiceDiscovery:
    """The instances of one service, kept up to date, and a balancer that picks among them.

    `orders = ServiceDiscovery("orders")` may stand anywhere; it uses the module that was opened in
    this context, else the only one that is open, and shares the discovery of that module's service
    client: asking again costs no request.

    Args:
        balancer: any name that microservice-lb knows, such as `round_robin` or `p2c`.

    Raises:
        InvalidValueError: no balancer has this name.
    """

    def __init__(self, service_name: str, *, balancer: str = "round_robin") -> None:
        self.service_name = service_name
        self._balancer_name = balancer
        self._balancers: WeakKeyDictionary[
            ServiceRegistry, tuple[tuple[ServiceInstance, ...], Balancer[ServiceInstance]]
        ] = WeakKeyDictionary()
        self._create_balancer()  # only to refuse an unknown name here, not at the first use

    async def instances(self) -> tuple[ServiceInstance, ...]:
        """Return every instance that the registry lists, healthy or not.

        Raises:
            NotEnabledError: no module with a registry is open.
            ServiceRegistryError: the registry cannot be reached, and never was.
        """
        return await current_module().service_client.instances(self.service_name)

    async def choose(self, key: str | None = None) -> ServiceInstance:
        """Pick an instance that is healthy, enabled and has a weight.

        Args:
            key: equal keys lead to the same instance, with a hash balancer.

        Raises:
            NotEnabledError: no module with a registry is open.
            NoInstanceAvailableError: there is no such instance.
            ServiceRegistryError: the registry cannot be reached, and never was.
        """
        usable = tuple(
            instance for instance in await self.instances() if instance.healthy and instance.enabled
        )
        # One balancer per registry: each module that is open in turn has its own instances.
        registry = current_module().service_registry
        last_usable, balancer = self._balancers.get(registry, (None, None))
        if balancer is None:
            balancer = self._create_balancer()
        if last_usable != usable:
            balancer.update(usable)
            self._balancers[registry] = (usable, balancer)
        return balancer.pick(key)

    def _create_balancer(self) -> Balancer[ServiceInstance]:
        return create(self._balancer_name)
