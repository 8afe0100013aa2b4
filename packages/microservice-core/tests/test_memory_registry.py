from collections.abc import AsyncIterator, Sequence

import pytest

from microservice_core import (
    InMemoryServiceRegistry,
    InstanceNotFoundError,
    InstanceQuery,
    InvalidValueError,
    ServiceCatalog,
    ServiceInstance,
    open_service_registry,
)
from microservice_core.testing import ManualClock, ServiceRegistryContract, settle

ORDERS = ServiceInstance("orders", "10.0.0.7", 8000)


class TestInMemoryServiceRegistry(ServiceRegistryContract):
    @pytest.fixture
    async def registry(self) -> AsyncIterator[InMemoryServiceRegistry]:
        registry = InMemoryServiceRegistry()
        yield registry
        await registry.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def registry(clock: ManualClock) -> AsyncIterator[InMemoryServiceRegistry]:
    registry = InMemoryServiceRegistry(ttl_seconds=30, clock=clock, sleep=clock.sleep)
    yield registry
    await registry.close()


async def test_a_lease_that_is_not_renewed_expires(
    registry: InMemoryServiceRegistry, clock: ManualClock
) -> None:
    await registry.register(ORDERS)
    clock.advance(29.9)
    assert await registry.get_instances("orders") == (ORDERS,)
    clock.advance(0.1)
    assert await registry.get_instances("orders") == ()


async def test_a_renewal_starts_the_lease_anew(
    registry: InMemoryServiceRegistry, clock: ManualClock
) -> None:
    await registry.register(ORDERS)
    clock.advance(20)
    await registry.renew(ORDERS)
    clock.advance(20)
    assert await registry.get_instances("orders") == (ORDERS,)


async def test_renewing_a_lapsed_lease_says_so(
    registry: InMemoryServiceRegistry, clock: ManualClock
) -> None:
    await registry.register(ORDERS)
    clock.advance(30)
    with pytest.raises(InstanceNotFoundError, match="register it again"):
        await registry.renew(ORDERS)


async def test_a_persistent_instance_needs_no_renewal(
    registry: InMemoryServiceRegistry, clock: ManualClock
) -> None:
    stays = ServiceInstance("orders", "10.0.0.7", 8000, ephemeral=False)
    await registry.register(stays)
    await registry.renew(stays)
    clock.advance(1e6)
    assert await registry.get_instances("orders") == (stays,)


async def test_watchers_learn_of_an_expiry_without_anyone_asking(
    registry: InMemoryServiceRegistry, clock: ManualClock
) -> None:
    seen: list[Sequence[ServiceInstance]] = []
    await registry.register(ORDERS)
    registry.watch_instances("orders", seen.append)
    await settle()
    await clock.run(31)
    assert seen == [(ORDERS,), ()]


async def test_the_sweeper_starts_again_for_what_is_registered_later(
    registry: InMemoryServiceRegistry, clock: ManualClock
) -> None:
    seen: list[Sequence[ServiceInstance]] = []
    registry.watch_instances("orders", seen.append)
    await settle()
    for _ in range(2):
        await registry.register(ORDERS)
        await clock.run(31)
    assert seen == [(), (ORDERS,), (), (ORDERS,), ()]


async def test_leases_still_expire_after_the_sweep_has_failed(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    failures = iter([RuntimeError("broken on purpose")])

    async def sleep(seconds: float) -> None:
        for error in failures:
            raise error
        await clock.sleep(seconds)

    registry = InMemoryServiceRegistry(ttl_seconds=30, clock=clock, sleep=sleep)
    seen: list[Sequence[ServiceInstance]] = []
    registry.watch_instances("orders", seen.append)
    await registry.register(ORDERS)
    await clock.run(31)
    assert seen[-1] == ()
    assert "in-memory registry: task 'sweep' failed; restarting it" in caplog.text
    await registry.close()


async def test_groups_and_namespaces_are_separate(registry: InMemoryServiceRegistry) -> None:
    await registry.register(ServiceInstance("orders", "10.0.0.7", 1, group_name="g"))
    await registry.register(ServiceInstance("orders", "10.0.0.7", 2, namespace_id="n"))
    ports = [
        [one.port for one in await registry.get_instances("orders", query)]
        for query in (
            InstanceQuery(),
            InstanceQuery(group_name="g"),
            InstanceQuery(namespace_id="n"),
        )
    ]
    assert ports == [[], [1], [2]]


async def test_the_catalog_lists_services_that_have_an_instance(
    registry: InMemoryServiceRegistry, clock: ManualClock
) -> None:
    assert isinstance(registry, ServiceCatalog)
    for name in ("stock", "orders"):
        await registry.register(ServiceInstance(name, "10.0.0.7", 1))
    await registry.register(ServiceInstance("other", "10.0.0.7", 1, group_name="g"))
    assert await registry.list_services() == ["orders", "stock"]
    assert await registry.list_services(group_name="g") == ["other"]
    clock.advance(30)
    assert await registry.list_services() == []


async def test_a_watch_with_a_query_is_told_only_of_what_matches(
    registry: InMemoryServiceRegistry,
) -> None:
    seen: list[Sequence[ServiceInstance]] = []
    query = InstanceQuery(metadata={"version": "2"})
    registry.watch_instances("orders", seen.append, query)
    await registry.register(ORDERS)
    await settle()
    second = ServiceInstance("orders", "10.0.0.8", 8000, metadata={"version": "2"})
    await registry.register(second)
    await settle()
    assert seen == [(), (second,)]


async def test_the_provider_opens_by_name_with_its_setting() -> None:
    async with open_service_registry("memory", {"ttl_seconds": 5}) as registry:
        assert isinstance(registry, InMemoryServiceRegistry)
        await registry.register(ORDERS)
        assert await registry.get_instances("orders") == (ORDERS,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ttl": 5}, "setting of provider 'memory' must be one of ttl_seconds, not 'ttl'"),
        ({"ttl_seconds": "5"}, "ttl_seconds must be a number above 0, not '5'"),
        ({"ttl_seconds": 0}, "ttl_seconds must be a number above 0, not 0"),
    ],
)
async def test_a_wrong_setting_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        async with open_service_registry("memory", settings):
            pass
