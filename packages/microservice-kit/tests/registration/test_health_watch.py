"""The checks that a module adds, and what they do to its readiness."""

from microservice_core import (
    ConfigCenterUnavailableError,
    ConfigListener,
    ConfigResult,
    InMemoryConfigCenter,
    InMemoryServiceRegistry,
    ServiceInstance,
    ServiceRegistryUnavailableError,
    Unsubscribe,
)
from microservice_core.testing.clock import settle
from microservice_kit import MicroserviceModule


async def test_a_module_shows_its_configuration_s_problem_without_going_out_of_service() -> None:
    center = InMemoryConfigCenter({"a.json": "{}"})
    async with MicroserviceModule(config_center=center, documents=["a.json"]) as module:
        await center.publish_config("a.json", "{")
        await settle()
        results = await module.health.check()
        assert results["config"].status == "down"
        assert "it must be JSON" in results["config"].detail
        assert await module.health.ready()


async def test_a_module_that_is_not_registered_yet_says_so_and_stays_ready() -> None:
    class Down(InMemoryServiceRegistry):
        async def register(self, instance: ServiceInstance) -> None:
            raise ServiceRegistryUnavailableError(
                "start it", provider="r", operation="register", retryable=True
            )

    async with MicroserviceModule(
        service_name="orders",
        host="10.0.0.7",
        port=8000,
        service_registry=Down(),
        on_registry_unavailable="degrade",
    ) as module:
        result = (await module.health.check())["service_registry"]
        assert result.status == "down"
        assert result.detail == "NotRegisteredError: not registered yet: orders"
        assert await module.health.ready()


async def test_a_module_that_started_without_its_center_says_what_is_in_force() -> None:
    class Gone(InMemoryConfigCenter):
        async def get_config(
            self, data_id: str, group_name: str = "", namespace_id: str = ""
        ) -> ConfigResult:
            raise ConfigCenterUnavailableError(
                "start it", provider="m", operation="get_config", retryable=True
            )

        def watch_config(
            self,
            data_id: str,
            listener: ConfigListener,
            group_name: str = "",
            namespace_id: str = "",
        ) -> Unsubscribe:
            return lambda: None

    async with MicroserviceModule(
        config_center=Gone(), documents=["a.json"], on_config_unavailable="degrade"
    ) as module:
        detail = (await module.health.check())["config"].detail
        assert "the configuration in use comes from: defaults" in detail
