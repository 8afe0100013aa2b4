import asyncio
import logging
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_core import (
    InMemoryServiceRegistry,
    InstanceQuery,
    InvalidValueError,
    ServiceInstance,
    ServiceRegistryAccessDeniedError,
    ServiceRegistryUnavailableError,
)
from microservice_core.testing.clock import ManualClock, settle
from microservice_kit import MicroserviceModule, service_registry
from microservice_kit.registration.declared_services import clear_declarations
from microservice_kit.registration.registrar import Registrar, WarmUp

ANY_INSTANCE = InstanceQuery()
INSTANCE = ServiceInstance("orders", "10.0.0.7", 8000, weight=10.0)


class FlakyRegistry(InMemoryServiceRegistry):
    """Refuses as many writes as it is told to, and remembers what it was told."""

    def __init__(self, refusals: int = 0, *, denied: bool = False) -> None:
        super().__init__()
        self.refusals = refusals
        self.denied = denied
        self.writes: list[ServiceInstance] = []
        self.removals: list[str] = []
        self.written = asyncio.Event()

    def _refuse(self, operation: str) -> None:
        if self.refusals > 0:
            self.refusals -= 1
            kind = ServiceRegistryUnavailableError
            if self.denied:
                kind = ServiceRegistryAccessDeniedError  # type: ignore[assignment]
            raise kind("start it", provider="r", operation=operation, retryable=not self.denied)

    async def get_instances(
        self, service_name: str, query: InstanceQuery = ANY_INSTANCE
    ) -> Sequence[ServiceInstance]:
        self._refuse("get_instances")
        return await super().get_instances(service_name, query)

    async def register(self, instance: ServiceInstance) -> None:
        self._refuse("register")
        self.writes.append(instance)
        self.written.set()
        self.written = asyncio.Event()
        await super().register(instance)

    async def wait_for_enabled(self, enabled: bool) -> None:
        while self.writes[-1].enabled is not enabled:
            await self.written.wait()

    async def deregister(self, instance: ServiceInstance) -> None:
        self.removals.append(instance.address)
        self._refuse("deregister")
        await super().deregister(instance)


async def test_by_default_a_registry_that_is_down_ends_the_start() -> None:
    registrar = Registrar(FlakyRegistry(1))
    with pytest.raises(ServiceRegistryUnavailableError):
        await registrar.add(INSTANCE)
    await registrar.aclose()


@pytest.mark.parametrize("policy", ["fail", "wait", "degrade"])
async def test_a_refusal_is_an_error_under_every_policy(policy: str) -> None:
    registrar = Registrar(FlakyRegistry(1, denied=True), on_unavailable=policy)  # type: ignore[arg-type]
    with pytest.raises(ServiceRegistryAccessDeniedError):
        await registrar.add(INSTANCE)
    await registrar.aclose()


async def test_degrading_starts_at_once_and_registers_when_the_registry_is_back() -> None:
    registry, clock = FlakyRegistry(4), ManualClock()
    registrar = Registrar(registry, on_unavailable="degrade", sleep=clock.sleep)
    registration = await registrar.add(INSTANCE)
    assert not registration.registered
    for _ in range(8):
        await clock.run(16)
    assert registration.registered
    assert [instance.address for instance in registry.writes] == ["10.0.0.7:8000"]
    await registrar.aclose()
    assert await registry.get_instances("orders") == ()


async def test_a_refusal_in_the_background_ends_the_attempts_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry, clock = FlakyRegistry(1), ManualClock()
    registrar = Registrar(registry, on_unavailable="degrade", sleep=clock.sleep)
    registration = await registrar.add(INSTANCE)
    registry.refusals, registry.denied = 1, True
    for _ in range(4):
        await clock.run(60)
    assert not registration.registered
    assert caplog.text.count("not retrying (permanent error)") == 1
    await registrar.aclose()


async def test_waiting_returns_when_it_is_registered() -> None:
    clock = ManualClock()
    registrar = Registrar(FlakyRegistry(3), on_unavailable="wait", sleep=clock.sleep)
    adding = asyncio.ensure_future(registrar.add(INSTANCE))
    for _ in range(6):
        await clock.run(8)
    assert (await adding).registered
    await registrar.aclose()


async def test_waiting_ends_in_time_with_the_error() -> None:
    clock = ManualClock()
    registrar = Registrar(
        FlakyRegistry(1000), on_unavailable="wait", wait_seconds=30, sleep=clock.sleep
    )
    adding = asyncio.ensure_future(registrar.add(INSTANCE))
    await settle()
    for _ in range(40):
        await clock.run(1)
    with pytest.raises(ServiceRegistryUnavailableError):
        await adding
    await registrar.aclose()


async def test_a_registry_is_asked_before_there_is_anything_to_tell_it() -> None:
    clock = ManualClock()
    with pytest.raises(ServiceRegistryUnavailableError):
        await Registrar(FlakyRegistry(1)).check_reachable("orders")
    await Registrar(FlakyRegistry(1), on_unavailable="degrade").check_reachable("orders")
    waiting = Registrar(FlakyRegistry(3), on_unavailable="wait", sleep=clock.sleep)
    reaching = asyncio.ensure_future(waiting.check_reachable("orders"))
    await clock.run(30)
    await reaching


async def test_a_patient_registration_goes_on_trying_under_every_policy() -> None:
    registry, clock = FlakyRegistry(2), ManualClock()
    registrar = Registrar(registry, sleep=clock.sleep)
    registration = await registrar.add(INSTANCE, patient=True)
    assert not registration.registered
    await clock.run(30)
    assert registration.registered
    await registrar.aclose()


async def test_a_young_instance_takes_its_share_step_by_step() -> None:
    registry, clock = FlakyRegistry(), ManualClock()
    registrar = Registrar(registry, warm_up_seconds=100, sleep=clock.sleep)
    await registrar.add(INSTANCE)
    for _ in range(12):
        await clock.run(10)
    assert [instance.weight for instance in registry.writes] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    await registrar.aclose()


@given(st.floats(min_value=0, max_value=1e6))
def test_shares_rise_to_the_whole(seconds: float) -> None:
    shares = WarmUp(seconds).shares
    assert shares[-1] == 1.0
    assert list(shares) == sorted(shares)
    assert all(0 < share <= 1 for share in shares)


async def test_bad_health_takes_it_out_and_good_health_back_in() -> None:
    registry = FlakyRegistry()
    registrar = Registrar(registry)
    await registrar.add(INSTANCE)
    for well in (False, False, True, True):
        await registrar.set_in_rotation(well)
    assert [instance.enabled for instance in registry.writes] == [True, False, True]
    await registrar.aclose()


async def test_a_change_the_registry_misses_is_told_with_the_next_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry, clock = FlakyRegistry(), ManualClock()
    registrar = Registrar(registry, warm_up_seconds=10, sleep=clock.sleep)
    await registrar.add(INSTANCE)
    registry.refusals = 1
    with caplog.at_level(logging.WARNING):
        await registrar.set_in_rotation(False)
    assert "it is written with the next change" in caplog.text
    await clock.run(1)
    assert registry.writes[-1].enabled is False
    await registrar.aclose()


async def test_nothing_is_registered_after_it_has_left() -> None:
    registry, clock = FlakyRegistry(), ManualClock()
    registrar = Registrar(registry, warm_up_seconds=10, sleep=clock.sleep)
    registration = await registrar.add(INSTANCE)
    await registrar.aclose()
    await registration.set_in_rotation(False)
    await registration.register()
    await clock.run(20)
    assert len(registry.writes) == 1
    assert await registry.get_instances("orders") == ()


async def test_one_that_cannot_leave_does_not_keep_the_others_in() -> None:
    registry = FlakyRegistry()
    registrar = Registrar(registry)
    await registrar.add(INSTANCE)
    await registrar.add(ServiceInstance("admin", "10.0.0.7", 9000))
    registry.refusals = 1
    await registrar.aclose()
    assert registry.removals == ["10.0.0.7:8000", "10.0.0.7:9000"]
    await registrar.aclose()
    assert len(registry.removals) == 2


async def test_several_services_of_one_process_leave_together() -> None:
    registry = InMemoryServiceRegistry()
    async with MicroserviceModule(
        service_name="orders", host="10.0.0.7", port=8000, service_registry=registry
    ) as module:
        await module.register(ServiceInstance("orders-admin", "10.0.0.7", 9000))
        assert len(module.registrations) == 2
        assert len(await registry.get_instances("orders-admin")) == 1
    assert await registry.get_instances("orders-admin") == ()


async def test_a_declared_service_is_registered_with_the_module_s_own() -> None:
    @service_registry("reports", port=9100, version="3", zone="a", metadata={"team": "x"})
    class Reports:
        pass

    assert Reports().__class__.__name__ == "Reports"
    registry = InMemoryServiceRegistry()
    try:
        async with MicroserviceModule(host="10.0.0.7", service_registry=registry):
            (instance,) = await registry.get_instances("reports")
    finally:
        clear_declarations()
    assert (instance.address, instance.version, instance.zone) == ("10.0.0.7:9100", "3", "a")
    assert instance.metadata["team"] == "x"
    assert instance.metadata["started_at"].startswith("20")
    assert instance.metadata["kit"]
    assert await registry.get_instances("reports") == ()


@pytest.mark.parametrize(("name", "port"), [("", 80), ("x", 70_000)])
def test_a_declaration_that_cannot_be_is_refused_where_it_stands(name: str, port: int) -> None:
    with pytest.raises(InvalidValueError):
        service_registry(name, port=port)


async def test_leaving_takes_it_out_and_leaves_it_answering() -> None:
    registry = InMemoryServiceRegistry()
    async with MicroserviceModule(
        service_name="orders",
        host="10.0.0.7",
        port=8000,
        service_registry=registry,
        leave_seconds=0,
    ) as module:
        assert await module.health.ready()
        await module.leave()
        assert await registry.get_instances("orders") == ()
        assert not await module.health.ready()
        assert module.config.current is not None


async def test_a_module_takes_its_instance_out_while_a_critical_check_fails() -> None:
    registry, well = FlakyRegistry(), False

    def disk() -> None:
        if not well:
            raise OSError("full")

    async with MicroserviceModule(
        service_name="orders",
        host="10.0.0.7",
        port=8000,
        service_registry=registry,
        health_seconds=0.01,
    ) as module:
        module.health.cache_seconds = 0.0
        module.health.add("disk", disk)
        async with asyncio.timeout(5):
            await registry.wait_for_enabled(False)
            well = True
            await registry.wait_for_enabled(True)
    assert [instance.enabled for instance in registry.writes] == [True, False, True]
