"""The container of a module: one, and what is overridden in it is what the module uses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from microservice_client import AsyncServiceClient, CallStatusError, ServicePolicy
from microservice_client.testing import FakeMesh
from microservice_core import InMemoryConfigCenter, InMemoryServiceRegistry
from microservice_core.testing.clock import settle
from microservice_kit import Microservice, MicroserviceModule
from microservice_kit.fastapi import (
    api_client,
    config_value,
    instance_of,
    open_module,
    service_client,
)


async def serve_orders(text: str) -> FakeMesh:
    mesh = FakeMesh()
    await mesh.start("orders", "10.0.0.1:80", lambda _: httpx.Response(200, text=text))
    return mesh


@asynccontextmanager
async def client_of(text: str) -> AsyncIterator[AsyncServiceClient]:
    mesh = await serve_orders(text)
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        yield client


async def test_a_module_has_one_container() -> None:
    micro = Microservice(service_registry="memory")
    container = micro.container
    async with micro.lifespan(None):
        assert micro.module.container is micro.module.container is container
        assert container.service_client() is micro.client
    assert micro.container is container


async def test_a_client_overridden_while_the_module_is_open_is_used_until_the_reset() -> None:
    micro = Microservice(service_registry="memory")
    async with micro.lifespan(None), client_of("fake") as fake:
        own = micro.client
        with micro.container.service_client.override(fake):
            assert micro.client is await service_client() is fake
            assert api_client(lambda client: [client])() == [fake]
            assert (await open_module()).service_client is fake
            assert (await instance_of("orders")()).ip == "10.0.0.1"
            assert (await micro.client.get("orders", "/")).text == "fake"
        assert micro.client is await service_client() is own


async def test_a_client_overridden_before_the_start_is_used_even_without_a_registry() -> None:
    micro = Microservice()
    async with client_of("fake") as fake:
        micro.container.service_client.override(fake)
        async with micro.lifespan(None):
            assert micro.client is fake


async def test_what_is_overridden_before_the_start_is_what_the_module_opens_with() -> None:
    micro = Microservice(
        service_name="shop",
        host="10.0.0.7",
        port=80,
        config_center="nacos",
        documents=["shop.json"],
        service_registry="nacos",
    )
    mesh = await serve_orders("from the mesh")
    center = InMemoryConfigCenter({"shop.json": '{"currency": "CNY"}'})
    with (
        micro.container.config_center.override(center),
        micro.container.service_registry.override(mesh.registry),
        micro.container.transport.override(mesh),
    ):
        async with micro.lifespan(None):
            assert micro.module.config_center is center
            assert micro.config.get("currency", "") == "CNY"
            assert len(await mesh.registry.get_instances("shop")) == 1
            assert (await micro.client.get("orders", "/")).text == "from the mesh"


async def test_an_overridden_configuration_and_registry_are_seen_everywhere() -> None:
    center = InMemoryConfigCenter({"a.json": '{"name": "other"}'})
    other = MicroserviceModule(config_center=center, documents=["a.json"])
    async with other as other_module, MicroserviceModule(service_registry="memory") as module:
        registry = InMemoryServiceRegistry()
        with (
            module.container.config.override(other_module.config),
            module.container.service_registry.override(registry),
        ):
            assert config_value("name", "")() == "other"
            assert module.service_registry is registry
        assert config_value("name", "")() == ""


async def test_the_options_of_the_client_reach_it() -> None:
    mesh = await serve_orders("here")
    mesh.fail("10.0.0.1:80", "reset")
    seen: list[str] = []
    micro = Microservice(
        service_registry=mesh.registry,
        transport=mesh,
        fallbacks={"orders": httpx.Response(200, text="fallback")},
        interceptors=[lambda request: seen.append(request.url.path)],
        default_policy=ServicePolicy(attempts=1),
    )
    async with micro.lifespan(None):
        assert micro.container.transport() is mesh
        response = await micro.client.post("orders", "/v1")
        assert (response.text, seen) == ("fallback", ["/v1"])
        assert mesh.request_counts.total() == 1


async def test_the_configuration_wins_over_the_default_policy_while_it_has_one() -> None:
    mesh = FakeMesh()
    await mesh.start("orders", "10.0.0.1:80", lambda _: httpx.Response(404))
    center = InMemoryConfigCenter({"a.json": '{"calls": {"default": {"raise_on": "never"}}}'})
    micro = Microservice(
        config_center=center,
        documents=["a.json"],
        service_registry=mesh.registry,
        transport=mesh,
        default_policy=ServicePolicy(raise_on="errors"),
    )
    async with micro.lifespan(None):
        assert (await micro.client.get("orders", "/")).status_code == 404
        await center.publish_config("a.json", "{}")
        await settle()
        with pytest.raises(CallStatusError):
            await micro.client.get("orders", "/")


def test_a_client_is_overridden_for_code_without_an_event_loop_as_well() -> None:
    with MicroserviceModule(service_registry="memory") as module:
        own = module.service_client
        with module.container.service_client.override(fake := object()):
            assert module.service_client is fake
        other = AsyncServiceClient(InMemoryServiceRegistry())
        with module.container.service_client.override(other):
            assert type(module.service_client) is type(own)
            assert module.service_client is not own
        assert module.service_client is own
