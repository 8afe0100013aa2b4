import asyncio
from collections.abc import Sequence

import pytest

from microservice_client import DiscoverySnapshot
from microservice_core import (
    InMemoryServiceRegistry,
    InstanceQuery,
    InstancesListener,
    ServiceInstance,
    ServiceRegistryUnavailableError,
    Unsubscribe,
)

ORDERS = ServiceInstance("orders", "10.0.0.1", 80)
EVERYTHING = InstanceQuery()


class SlowRegistry:
    """A registry that answers when told to, and fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.inner = InMemoryServiceRegistry()
        self.loads = 0
        self.failures = failures
        self.gate = asyncio.Event()

    async def get_instances(
        self, service_name: str, query: InstanceQuery = EVERYTHING
    ) -> Sequence[ServiceInstance]:
        self.loads += 1
        await self.gate.wait()
        if self.loads <= self.failures:
            raise ServiceRegistryUnavailableError("try later", provider="slow", operation="get")
        return await self.inner.get_instances(service_name, query)

    def watch_instances(
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = EVERYTHING
    ) -> Unsubscribe:
        return self.inner.watch_instances(service_name, listener, query)


async def test_many_first_readers_ask_the_registry_once() -> None:
    registry = SlowRegistry()
    await registry.inner.register(ORDERS)
    snapshot = DiscoverySnapshot(registry, EVERYTHING)
    readers = [asyncio.create_task(snapshot.load("orders")) for _ in range(10)]
    await asyncio.sleep(0)
    registry.gate.set()
    assert set(await asyncio.gather(*readers)) == {(ORDERS,)}
    assert registry.loads == 1
    assert snapshot.known("orders") == (ORDERS,)
    await snapshot.aclose()


async def test_a_reader_that_is_cancelled_takes_nobody_with_it() -> None:
    registry = SlowRegistry()
    snapshot = DiscoverySnapshot(registry, EVERYTHING)
    first = asyncio.create_task(snapshot.load("orders"))
    second = asyncio.create_task(snapshot.load("orders"))
    await asyncio.sleep(0)
    first.cancel()
    registry.gate.set()
    assert await second == ()
    await snapshot.aclose()


async def test_a_failed_load_is_told_and_tried_again_by_the_next_reader() -> None:
    registry = SlowRegistry(failures=1)
    registry.gate.set()
    snapshot = DiscoverySnapshot(registry, EVERYTHING)
    with pytest.raises(ServiceRegistryUnavailableError):
        await snapshot.load("orders")
    assert await snapshot.load("orders") == ()
    await snapshot.aclose()


async def test_a_failure_nobody_waits_for_any_more_makes_no_noise() -> None:
    registry = SlowRegistry(failures=1)
    snapshot = DiscoverySnapshot(registry, EVERYTHING)
    reader = asyncio.create_task(snapshot.load("orders"))
    await asyncio.sleep(0)
    reader.cancel()
    registry.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    await snapshot.aclose()


async def test_closing_ends_what_is_being_loaded() -> None:
    registry = SlowRegistry()
    snapshot = DiscoverySnapshot(registry, EVERYTHING)
    reader = asyncio.create_task(snapshot.load("orders"))
    await asyncio.sleep(0)
    await snapshot.aclose()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def test_only_the_instances_asked_for_are_kept() -> None:
    registry = InMemoryServiceRegistry()
    await registry.register(ServiceInstance("orders", "10.0.0.1", 80, group_name="blue"))
    await registry.register(ORDERS)
    snapshot = DiscoverySnapshot(registry, InstanceQuery(group_name="blue"))
    assert [one.group_name for one in await snapshot.load("orders")] == ["blue"]
    await snapshot.aclose()
