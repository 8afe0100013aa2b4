import httpx
import pytest
from pydantic import BaseModel

from microservice_core import InMemoryServiceRegistry
from microservice_kit import Microservice, NotEnabledError


class AppConfig(BaseModel):
    greeting: str = "hello"


async def test_the_lifespan_registers_on_start_and_deregisters_on_stop() -> None:
    registry = InMemoryServiceRegistry()
    micro = Microservice(
        service_name="orders", host="10.0.0.7", port=8000, service_registry=registry
    )
    async with micro.lifespan(None) as state:
        assert state == {"services": micro.services}
        assert len(await registry.get_instances("orders")) == 1
    assert await registry.get_instances("orders") == ()


async def test_the_open_parts_are_at_hand_while_the_application_runs() -> None:
    micro = Microservice(service_registry="memory", config=AppConfig)
    async with micro.lifespan(None):
        assert micro.config.current.greeting == "hello"
        assert micro.client is micro.services.service_client
    with pytest.raises(NotEnabledError, match="use it while the application runs"):
        micro.services  # noqa: B018


async def test_a_broken_setting_is_told_when_the_application_is_built() -> None:
    with pytest.raises(ValueError, match="port must be valid"):
        Microservice(port=0)


async def test_httpx_errors_of_the_client_are_errors_of_the_toolkit() -> None:
    micro = Microservice(service_registry="memory")
    async with micro.lifespan(None):
        with pytest.raises(httpx.TransportError, match="none is registered"):
            await micro.client.get("orders", "/")
