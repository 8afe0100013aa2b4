import subprocess
import sys

import httpx
import pytest
from pydantic import BaseModel

from microservice_core import (
    InMemoryConfigCenter,
    InMemoryServiceRegistry,
    InvalidValueError,
    MissingDependencyError,
    ProviderNotFoundError,
    ServiceInstance,
    ServiceRegistryUnavailableError,
)
from microservice_kit import MicroserviceModule, NotEnabledError


class AppConfig(BaseModel):
    greeting: str = "hello"


class RecordingRegistry(InMemoryServiceRegistry):
    """Remembers the order of what happened to it."""

    def __init__(self, *, down: bool = False) -> None:
        super().__init__()
        self.events: list[str] = []
        self._down = down

    async def register(self, instance: ServiceInstance) -> None:
        self.events.append("register")
        if self._down:
            raise ServiceRegistryUnavailableError("start it", provider="r", operation="register")
        await super().register(instance)

    async def deregister(self, instance: ServiceInstance) -> None:
        self.events.append("deregister")
        await super().deregister(instance)

    async def close(self) -> None:
        self.events.append("close")
        await super().close()


async def test_everything_asked_for_is_open_inside_and_closed_after() -> None:
    center = InMemoryConfigCenter({"orders.json": '{"greeting": "hi"}'})
    registry = RecordingRegistry()
    microservice = MicroserviceModule(
        service_name="orders",
        host="10.0.0.7",
        port=8000,
        version="2",
        lane="dev",
        metadata={"team": "shop"},
        config_center=center,
        service_registry=registry,
        config=AppConfig,
        documents=["orders.json"],
    )
    async with microservice as module:
        assert module.config.current.greeting == "hi"
        assert module.config_center is center
        assert module.service_registry is registry
        (instance,) = await registry.get_instances("orders")
        assert instance == module.instance
        assert (instance.address, instance.version, instance.lane) == ("10.0.0.7:8000", "2", "dev")
        assert instance.metadata["team"] == "shop"
    assert registry.events == ["register", "deregister"]
    assert await registry.get_instances("orders") == ()


async def test_the_address_is_that_of_the_interface_to_the_registry() -> None:
    class OnLoopback(RecordingRegistry):
        server_address = "http://127.0.0.1:8848/nacos"

    async with MicroserviceModule(
        service_name="orders", port=8000, service_registry=OnLoopback()
    ) as module:
        assert module.instance is not None
        assert module.instance.address == "127.0.0.1:8000"


async def test_a_failure_half_way_closes_what_was_opened() -> None:
    registry = RecordingRegistry(down=True)
    microservice = MicroserviceModule(service_name="orders", port=8000, service_registry=registry)
    with pytest.raises(ServiceRegistryUnavailableError):
        async with microservice:
            pytest.fail("it must not open")
    assert registry.events == ["register", "deregister"]


async def test_an_error_inside_deregisters_and_comes_out() -> None:
    registry = RecordingRegistry()
    microservice = MicroserviceModule(service_name="orders", port=8000, service_registry=registry)
    with pytest.raises(ZeroDivisionError):
        async with microservice:
            raise ZeroDivisionError
    assert registry.events == ["register", "deregister"]


async def test_providers_are_chosen_by_name() -> None:
    microservice = MicroserviceModule(
        service_registry="memory",
        config_center="memory",
        config_center_settings={"documents": {"application.yaml": ""}},
        config=AppConfig,
    )
    async with microservice as module:
        assert isinstance(module.service_registry, InMemoryServiceRegistry)
        assert module.instance is None


async def test_settings_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SERVICE_NAME": "orders",
        "PORT": "8000",
        "HOST": "10.0.0.7",
        "SERVICE_REGISTRY": "memory",
        "SERVICE_REGISTRY_SETTINGS": '{"ttl_seconds": 60}',
        "METADATA": '{"team": "shop"}',
    }.items():
        monkeypatch.setenv(f"MICROSERVICE_{name}", value)
    async with MicroserviceModule(version="3") as module:
        (instance,) = await module.service_registry.get_instances("orders")
        assert (instance.address, instance.version) == ("10.0.0.7:8000", "3")
        assert instance.metadata["team"] == "shop"


async def test_what_was_not_enabled_says_so() -> None:
    async with MicroserviceModule() as module:
        with pytest.raises(NotEnabledError, match='open the module with config_center="nacos"'):
            module.config_center  # noqa: B018
        with pytest.raises(NotEnabledError, match="service_registry is not enabled"):
            module.service_registry  # noqa: B018
        with pytest.raises(NotEnabledError, match='with service_registry="nacos"'):
            module.service_client  # noqa: B018


async def test_registration_can_be_left_out() -> None:
    registry = RecordingRegistry()
    async with MicroserviceModule(
        service_name="orders", port=1, service_registry=registry, register=False
    ):
        assert await registry.get_instances("orders") == ()
    assert registry.events == []


async def test_the_client_looks_in_the_group_the_service_registers_in() -> None:
    registry = InMemoryServiceRegistry()
    async with MicroserviceModule(
        service_name="orders",
        host="127.0.0.1",
        port=1,
        group_name="blue",
        service_registry=registry,
    ) as module:
        with pytest.raises(httpx.TransportError, match=r"127\.0\.0\.1:1 ConnectError"):
            await module.service_client.get("orders", "/")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": 70000}, "port must be valid .*less than or equal to 65535.*, not 70000"),
        ({"weight": -1}, "weight must be valid .*greater than or equal to 0"),
        ({"weight": float("inf")}, "weight must be valid .*finite"),
        ({"lane": "Dev lane!"}, "lane must be valid .*should match pattern.*, not 'Dev lane!'"),
        ({"sevice_name": "orders"}, "sevice_name must be valid"),
    ],
)
def test_a_broken_setting_is_named_before_anything_opens(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidValueError, match=message):
        MicroserviceModule(**settings)  # type: ignore[arg-type]


async def test_an_unknown_provider_lists_what_is_installed() -> None:
    with pytest.raises(ProviderNotFoundError, match=r"installed: .*memory"):
        async with MicroserviceModule(service_registry="consul"):
            pytest.fail("it must not open")


async def test_a_settings_error_of_a_provider_names_it() -> None:
    with pytest.raises(InvalidValueError, match="setting of provider 'memory'"):
        async with MicroserviceModule(
            service_registry="memory", service_registry_settings={"tll": 3}
        ):
            pytest.fail("it must not open")


async def test_a_module_can_be_opened_again() -> None:
    microservice = MicroserviceModule(service_registry="memory")
    for _ in range(2):
        async with microservice as module:
            assert module.service_registry is not None


async def test_the_container_holds_the_opened_objects_and_can_be_overridden() -> None:
    async with MicroserviceModule(service_registry="memory", config=AppConfig) as module:
        container = module.container
        assert container.service_registry() is module.service_registry
        assert container.config() is module.config
        assert container.config_center() is None
        with container.service_registry.override("another"):
            assert container.service_registry() == "another"


def test_importing_the_kit_imports_no_provider_client_or_container() -> None:
    program = (
        "import sys, microservice_kit; "
        "heavy = {'dependency_injector', 'microservice_client', 'httpx', 'yaml', 'lane_router',"
        " 'microservice_nacos', 'lite_registry', 'starlette', 'pybreaker', 'opentelemetry'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_a_missing_dependency_is_an_error_of_ours() -> None:
    assert issubclass(MissingDependencyError, ImportError)
