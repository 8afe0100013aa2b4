import pytest

from microservice_core import (
    ConfigCenterAccessDeniedError,
    ConfigCenterUnavailableError,
    ConfigConflictError,
    ConfigNotFoundError,
    ConfigPublisher,
    InstanceQuery,
    InvalidValueError,
    ServerAddressed,
    ServiceCatalog,
    ServiceInstance,
    ServiceRegistryAccessDeniedError,
    ServiceRegistryUnavailableError,
    open_config_center,
    open_service_registry,
)
from microservice_core.testing import eventually
from microservice_nacos import NacosConfigCenter, NacosServiceRegistry
from nacos_client import AsyncNacosClient, NacosError
from nacos_client.testing import FakeNacosServer

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def settings(server: FakeNacosServer) -> dict[str, object]:
    return {"server_addr": server.address, "username": "nacos", "password": "s3cret"}


async def test_both_providers_open_by_name(settings: dict[str, object]) -> None:
    async with (
        open_service_registry("nacos", settings) as registry,
        open_config_center("nacos", settings) as center,
    ):
        assert isinstance(registry, NacosServiceRegistry)
        assert isinstance(registry, ServiceCatalog)
        assert isinstance(registry, ServerAddressed)
        assert str(settings["server_addr"]) in registry.server_address
        assert isinstance(center, NacosConfigCenter)
        assert isinstance(center, ConfigPublisher)
        assert str(settings["server_addr"]) in center.server_address


async def test_settings_that_are_missing_come_from_the_environment(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"NACOS_{name.upper()}", str(value))
    async with open_config_center("nacos") as center:
        with pytest.raises(ConfigNotFoundError):
            await center.get_config("app.yaml")


async def test_a_misspelt_variable_of_the_environment_is_warned_about_once(
    settings: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("NACOS_NAMESPACE_ID", "dev")
    monkeypatch.setenv("NACOS_CIPHER_KEYS", "")
    for _ in range(2):
        async with open_config_center("nacos", settings):
            pass
    (line,) = [record.getMessage() for record in caplog.records if "NACOS_" in record.getMessage()]
    assert line == (
        "environment variable NACOS_NAMESPACE_ID is not read; did you mean NACOS_NAMESPACE?"
    )


async def test_leaving_the_registry_deregisters(
    settings: dict[str, object], client: AsyncNacosClient
) -> None:
    async with open_service_registry("nacos", settings) as registry:
        await registry.register(ServiceInstance("orders", "10.0.0.7", 8000))
        assert len(await client.naming.instances("orders")) == 1
    await eventually(lambda: client.naming.instances("orders"), lambda instances: not instances)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"server_adr": "x"}, "setting of provider 'nacos' must be one of .*server_addr"),
        ({"server_addr": NOWHERE, "timeout_seconds": -1}, "timeout_seconds must be"),
        ({"server_addr": NOWHERE, "namespace": "a b"}, "namespace must be"),
    ],
)
async def test_a_wrong_setting_is_refused(settings: dict[str, object], message: str) -> None:
    for opening in (open_config_center, open_service_registry):
        with pytest.raises(InvalidValueError, match=message):
            async with opening("nacos", settings):
                pytest.fail("it must not open")


async def test_a_nacos_nobody_runs_is_named_in_one_line() -> None:
    settings = {"server_addr": NOWHERE, "timeout_seconds": 0.5}
    async with (
        open_service_registry("nacos", settings) as registry,
        open_config_center("nacos", settings) as center,
    ):
        with pytest.raises(ConfigCenterUnavailableError, match=NOWHERE) as config:
            await center.get_config("app.yaml")
        with pytest.raises(ServiceRegistryUnavailableError, match=NOWHERE) as naming:
            await registry.register(ServiceInstance("orders", "10.0.0.7", 8000))
    for error in (config.value, naming.value):
        assert error.retryable
        assert isinstance(error.__cause__, NacosError)
        assert "\n" not in str(error)


async def test_a_wrong_password_is_an_access_error_without_the_password(
    server: FakeNacosServer,
) -> None:
    settings = {
        "server_addr": server.address,
        "username": "nacos",
        "password": "wr0ng-password",
        "login_attempts": 1,
    }
    async with (
        open_service_registry("nacos", settings) as registry,
        open_config_center("nacos", settings) as center,
    ):
        with pytest.raises(
            ConfigCenterAccessDeniedError, match="check username and password"
        ) as config_error:
            await center.get_config("app.yaml")
        with pytest.raises(ServiceRegistryAccessDeniedError) as registry_error:
            await registry.get_instances("orders")
    assert "wr0ng-password" not in str(config_error.value) + str(registry_error.value)


async def test_compare_and_set_conflicts_are_told(client: AsyncNacosClient) -> None:
    center = NacosConfigCenter(client)
    await center.publish_config("app.yaml", "a: 1")

    async def read() -> str:
        try:
            return (await center.get_config("app.yaml")).md5
        except ConfigNotFoundError:
            return ""

    md5 = await eventually(read, bool)
    await center.publish_config("app.yaml", "a: 2", expected_md5=md5)
    with pytest.raises(ConfigConflictError):
        await center.publish_config("app.yaml", "a: 3", expected_md5=md5)


async def test_names_nacos_does_not_allow_are_refused_before_the_network(
    client: AsyncNacosClient, server: FakeNacosServer
) -> None:
    registry, center = NacosServiceRegistry(client), NacosConfigCenter(client)
    with pytest.raises(InvalidValueError, match="data_id"):
        await center.get_config("a b")
    with pytest.raises(InvalidValueError, match="data_id"):
        center.watch_config("a b", print)
    with pytest.raises(InvalidValueError, match="service"):
        registry.watch_instances("a@@b", print)
    with pytest.raises(InvalidValueError, match="service"):
        await registry.register(ServiceInstance("a@@b", "10.0.0.7", 8000))
    assert not server.requests


async def test_what_spring_cloud_alibaba_registers_is_understood(client: AsyncNacosClient) -> None:
    await client.naming.register(
        "stock",
        "10.0.0.8",
        8443,
        metadata={"preserved.register.source": "SPRING_CLOUD", "secure": "true", "version": "2"},
    )
    registry = NacosServiceRegistry(client)
    (instance,) = await registry.get_instances("stock")
    assert (instance.base_url, instance.version) == ("https://10.0.0.8:8443", "2")
    assert (instance.cluster_name, instance.group_name, instance.namespace_id) == (
        "DEFAULT",
        "DEFAULT_GROUP",
        "public",
    )


async def test_java_neighbours_see_where_an_instance_comes_from(client: AsyncNacosClient) -> None:
    registry = NacosServiceRegistry(client)
    await registry.register(ServiceInstance("orders", "10.0.0.7", 1, metadata={"secure": "true"}))
    (instance,) = await client.naming.instances("orders")
    assert instance.metadata == {"preserved.register.source": "PYTHON", "secure": "true"}
    await registry.close()


async def test_groups_namespaces_and_clusters_are_passed_on(client: AsyncNacosClient) -> None:
    registry = NacosServiceRegistry(client)
    instance = ServiceInstance(
        "orders", "10.0.0.7", 1, group_name="g", namespace_id="ns", cluster_name="east"
    )
    await registry.register(instance)
    where = InstanceQuery(group_name="g", namespace_id="ns", clusters=("east",))
    (instance,) = await registry.get_instances("orders", where)
    assert instance.cluster_name == "east"
    await registry.renew(instance)
    await registry.deregister(instance)
    assert await registry.get_instances("orders", where) == ()


async def test_the_catalog_lists_services(client: AsyncNacosClient) -> None:
    registry = NacosServiceRegistry(client)
    for name in ("stock", "orders"):
        await registry.register(ServiceInstance(name, "10.0.0.7", 1))
    assert await registry.list_services() == ["orders", "stock"]
