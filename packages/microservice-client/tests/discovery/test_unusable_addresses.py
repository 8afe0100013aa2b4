"""An instance that no request can be addressed to is set aside; the others are called."""

import logging

import httpx
import pytest

from microservice_client import AsyncServiceClient, NoInstanceCallError, ServicePolicy
from microservice_core import InMemoryServiceRegistry, ServiceInstance

GOOD = ServiceInstance("orders", "10.0.0.2", 80)
BAD_HOSTS = [
    "höst",
    "a\0b",
    "a\r\nX-Evil: 1",
    "a b",
    "x" * 64 + ".example",
    "a..b",
    "-",
    "a." * 200,
]
BAD_IPS = ["[::1", "a b", "x" * 64 + ".example", "a\0b", "a/b"]


def with_host(host: str, **metadata: str) -> ServiceInstance:
    return ServiceInstance("orders", "10.0.0.1", 80, metadata={"host": host, **metadata})


async def registry_of(*instances: ServiceInstance) -> InMemoryServiceRegistry:
    registry = InMemoryServiceRegistry(ttl_seconds=1e9)
    for instance in instances:
        await registry.register(instance)
    return registry


class Counting(httpx.AsyncBaseTransport):
    def __init__(self) -> None:
        self.hosts: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.hosts.append(request.headers["host"])
        return httpx.Response(200)


@pytest.mark.parametrize(
    "bad",
    [
        *[with_host(host) for host in BAD_HOSTS],
        *[ServiceInstance("orders", ip, 80) for ip in BAD_IPS],
    ],
    ids=repr,
)
async def test_the_others_are_called_and_one_line_is_logged(
    bad: ServiceInstance, caplog: pytest.LogCaptureFixture
) -> None:
    transport = Counting()
    registry = await registry_of(bad, GOOD)
    policy = ServicePolicy(balancer="round_robin")
    with caplog.at_level(logging.WARNING, "microservice_client"):
        async with AsyncServiceClient(
            registry, transport=transport, default_policy=policy
        ) as client:
            for _ in range(4):
                assert (await client.get("orders", "/")).status_code == 200
            await registry.register(ServiceInstance("orders", "10.0.0.3", 80))
            await client.warm_up(["orders"])
            for _ in range(4):
                await client.get("orders", "/", policy=ServicePolicy())
            assert bad.instance_id not in client.breaker_states("orders")
    assert set(transport.hosts) <= {"10.0.0.2", "10.0.0.3"}
    lines = [one.getMessage() for one in caplog.records]
    assert [line for line in lines if "is not called" in line] == lines[:1]
    assert "\n" not in lines[0]


async def test_without_another_the_error_says_why() -> None:
    registry = await registry_of(with_host("a b"))
    async with AsyncServiceClient(registry, transport=Counting()) as client:
        with pytest.raises(NoInstanceCallError, match=r"none of 1 instances passes .*addressable"):
            await client.get("orders", "/")


@pytest.mark.parametrize("host", ["orders.example", "orders_1", "Orders.Example.:8080", "[::1]:80"])
async def test_names_and_addresses_of_all_kinds_are_used(host: str) -> None:
    transport = Counting()
    registry = await registry_of(with_host(host))
    async with AsyncServiceClient(registry, transport=transport) as client:
        await client.get("orders", "/")
    assert transport.hosts == [host]


@pytest.mark.parametrize("ip", ["::1", "fe80::1", "orders.example", "bücher.example", "localhost"])
async def test_an_instance_may_have_a_name_or_an_ipv6_address(ip: str) -> None:
    transport = Counting()
    registry = await registry_of(ServiceInstance("orders", ip, 80))
    async with AsyncServiceClient(registry, transport=transport) as client:
        await client.get("orders", "/")
    assert len(transport.hosts) == 1
