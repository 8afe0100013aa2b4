import pytest

from microservice_core import (
    InMemoryServiceRegistry,
    InvalidValueError,
    NoInstanceAvailableError,
    ServiceInstance,
)
from microservice_core.testing.clock import settle
from microservice_kit import MicroserviceModule, NotEnabledError, ServiceDiscovery


async def test_instances_are_found_and_chosen_in_turn() -> None:
    registry = InMemoryServiceRegistry()
    for host, enabled in (("a", True), ("b", True), ("c", False)):
        await registry.register(ServiceInstance("orders", host, 80, enabled=enabled))
    orders = ServiceDiscovery("orders")
    async with MicroserviceModule(service_registry=registry):
        assert len(await orders.instances()) == 3
        assert {(await orders.choose()).ip for _ in range(4)} == {"a", "b"}
        await registry.deregister(ServiceInstance("orders", "a", 80))
        await settle()
        assert {(await orders.choose()).ip for _ in range(4)} == {"b"}
        with pytest.raises(NoInstanceAvailableError):
            await ServiceDiscovery("nobody").choose()
    with pytest.raises(NotEnabledError):
        await orders.instances()


def test_a_balancer_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(InvalidValueError, match="name must be one of"):
        ServiceDiscovery("orders", balancer="dice")
