"""Lanes by metadata on real registries: what Nacos and lite-registry give back is told apart."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from lane_router import LaneCounts, LaneInstanceFilter, LaneUnavailableError, lane_scope
from lite_registry import LiteRegistryServer
from microservice_core import ServiceInstance, ServiceRegistry, open_service_registry


@dataclass
class Call:
    service_name: str
    headers: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture(params=["lite", "nacos"])
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[ServiceRegistry]:
    if request.param == "nacos":
        settings = request.getfixturevalue("nacos_settings")
        async with open_service_registry("nacos", settings) as nacos:
            yield nacos
        return
    async with (
        LiteRegistryServer(port=0) as server,
        open_service_registry("lite", {"url": server.url}) as lite,
    ):
        yield lite


async def test_a_lane_is_picked_by_the_metadata_of_any_registry(registry: ServiceRegistry) -> None:
    service = f"lanes-{uuid4().hex[:8]}"
    base = ServiceInstance(service, "10.1.0.1", 8000)
    dev = ServiceInstance(service, "10.1.0.2", 8000, metadata={"lane": "dev"})
    for instance in (base, dev):
        await registry.register(instance)
    async with asyncio.timeout(60):
        while len(found := await registry.get_instances(service)) < 2:
            await asyncio.sleep(0.1)
    counts = LaneCounts()
    narrowing = LaneInstanceFilter(observer=counts)
    for lane, address in (("dev", "10.1.0.2"), ("other", "10.1.0.1"), (None, "10.1.0.1")):
        with lane_scope(lane):
            assert [one.ip for one in narrowing(found, Call(service))] == [address]
    with lane_scope("other"), pytest.raises(LaneUnavailableError):
        LaneInstanceFilter(mode="strict")(found, Call(service))
    assert {outcome for _, _, outcome in counts.resolutions} == {"lane", "base_fallback", "base"}
    for instance in (base, dev):
        await registry.deregister(instance)
