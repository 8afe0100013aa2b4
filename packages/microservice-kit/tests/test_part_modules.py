import pytest
from pydantic import BaseModel

from microservice_core import InMemoryConfigCenter, InMemoryServiceRegistry
from microservice_kit import ConfigCenterModule, NotEnabledError, ServiceRegistryModule


class Settings(BaseModel):
    pool: int = 5


async def test_the_configuration_alone_registers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROSERVICE_SERVICE_REGISTRY", "nobody")
    center = InMemoryConfigCenter({"app.json": '{"pool": 7}'})
    async with ConfigCenterModule(center, config=Settings, documents=["app.json"]) as config:
        assert config.current.pool == 7


def test_the_configuration_alone_without_a_loop() -> None:
    documents = {"documents": {"app.json": '{"pool": 8}'}}
    microservice = ConfigCenterModule(
        "memory", config=Settings, documents=["app.json"], config_center_settings=documents
    )
    with microservice as config:
        assert config.current.pool == 8


async def test_the_registry_alone_asks_no_configuration_center(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MICROSERVICE_CONFIG_CENTER", "nobody")
    registry = InMemoryServiceRegistry()
    async with ServiceRegistryModule(
        registry, service_name="orders", host="10.0.0.7", port=8000
    ) as module:
        assert len(await registry.get_instances("orders")) == 1
        with pytest.raises(NotEnabledError):
            module.config_center  # noqa: B018
    assert await registry.get_instances("orders") == ()


def test_the_registry_alone_without_a_loop() -> None:
    with ServiceRegistryModule("memory", service_name="orders", host="h", port=80) as module:
        assert [instance.ip for instance in module.instances("orders")] == ["h"]
