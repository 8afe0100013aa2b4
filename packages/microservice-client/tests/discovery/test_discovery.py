import asyncio
import gc
from collections.abc import Sequence

import httpx
import pytest

from microservice_client import (
    AsyncServiceClient,
    ClientClosedError,
    DnsAddresses,
    FirstSource,
    InstanceCache,
    NoInstanceCallError,
    StaticAddresses,
)
from microservice_client.testing import FakeMesh
from microservice_core import (
    InMemoryServiceRegistry,
    InstanceQuery,
    InstancesListener,
    InvalidValueError,
    ServiceInstance,
    ServiceRegistryUnavailableError,
    Unsubscribe,
)
from microservice_core.testing import ManualClock, settle

ORDERS = ServiceInstance("orders", "10.0.0.1", 80)
EVERYTHING = InstanceQuery()


class Registry:
    """A registry whose answers, failures and news are up to the test."""

    def __init__(self, *answers: Sequence[ServiceInstance] | Exception) -> None:
        self.answers = list(answers)
        self.queries = 0
        self.listeners: list[InstancesListener] = []
        self.confirms_empty_lists = False

    async def get_instances(
        self, service_name: str, query: InstanceQuery = EVERYTHING, /
    ) -> Sequence[ServiceInstance]:
        self.queries += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def watch_instances(
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = EVERYTHING, /
    ) -> Unsubscribe:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener) if listener in self.listeners else None

    async def notify(self, *instances: ServiceInstance) -> None:
        for listener in list(self.listeners):
            told = listener(instances)
            if told is not None:
                await told


DOWN = ServiceRegistryUnavailableError("try later", provider="test", operation="get")
OTHER = ServiceInstance("orders", "10.0.0.2", 80)


async def test_while_the_registry_is_down_the_last_known_stay_and_age(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    registry = Registry([ORDERS], DOWN, DOWN, [OTHER])
    cache = InstanceCache(registry, EVERYTHING, refresh_seconds=10, clock=clock)
    await cache.load("orders")
    assert cache.age("stock") is None
    for expected in (11.0, 22.0):
        clock.advance(11)
        await cache.maintain()
        assert cache.find("orders") == (ORDERS,)
        assert cache.age("orders") == expected
    assert caplog.text.count("cannot refresh") == 1
    await cache.maintain()
    assert (cache.find("orders"), cache.age("orders")) == ((OTHER,), 0.0)
    await cache.aclose()


async def test_a_source_with_a_bug_does_not_end_the_refresh(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    registry = Registry([ORDERS], ZeroDivisionError("a bug"), [OTHER])
    cache = InstanceCache(registry, EVERYTHING, refresh_seconds=10, clock=clock)
    await cache.load("orders")
    clock.advance(11)
    await cache.maintain()
    assert "a bug" in caplog.text
    await cache.maintain()
    assert cache.find("orders") == (OTHER,)
    await cache.aclose()


async def test_what_is_fresh_is_not_asked_for_again() -> None:
    clock = ManualClock()
    registry = Registry([ORDERS])
    cache = InstanceCache(registry, EVERYTHING, refresh_seconds=10, clock=clock)
    await cache.load("orders")
    clock.advance(6)
    await registry.notify(OTHER)
    clock.advance(6)
    await cache.maintain()
    assert registry.queries == 1
    await cache.aclose()


def open_cache(registry: Registry, clock: ManualClock) -> InstanceCache:
    return InstanceCache(registry, EVERYTHING, refresh_seconds=10, clock=clock, sleep=clock.sleep)


async def test_an_empty_list_is_believed_when_it_stays_empty() -> None:
    clock = ManualClock()
    registry = Registry([ORDERS], [])
    cache = open_cache(registry, clock)
    await cache.load("orders")
    await registry.notify()
    await clock.run(14.9)
    assert (cache.find("orders"), registry.queries) == ((ORDERS,), 1)
    await clock.run(0.1)
    assert (cache.find("orders"), registry.queries) == ((), 2)
    assert cache.age("orders") == 0.0
    await cache.aclose()
    assert clock.sleepers == 0


async def test_a_restarted_registry_that_has_forgotten_an_instance_for_a_while_loses_none() -> None:
    clock = ManualClock()
    registry = Registry([ORDERS], [], [], [ORDERS])
    changes: list[int] = []
    cache = InstanceCache(
        registry,
        EVERYTHING,
        refresh_seconds=10,
        clock=clock,
        sleep=clock.sleep,
        changed=lambda _, instances: changes.append(len(instances)),
    )
    await cache.load("orders")
    await registry.notify(ORDERS)  # the watch holds the last good list, and reports nothing more
    clock.advance(10)
    for _ in range(5):
        await cache.maintain()
    assert registry.queries == 2  # not asked a second time without a pause
    await clock.run(60)
    assert cache.find("orders") == (ORDERS,)
    assert changes == [1]
    assert registry.queries == 4
    await cache.aclose()


async def test_a_query_never_overrules_a_watch_that_knows_instances() -> None:
    clock = ManualClock()
    registry = Registry([ORDERS], [])
    cache = open_cache(registry, clock)
    await cache.load("orders")
    await registry.notify(ORDERS)
    clock.advance(10)
    await cache.maintain()
    for _ in range(3):
        await clock.run(15)
        await registry.notify(ORDERS)  # as every new watch, it begins with what it knows
        await cache.maintain()
        assert cache.find("orders") == (ORDERS,)
        assert len(registry.listeners) == 1
    await registry.notify()
    await clock.run(15)
    assert cache.find("orders") == ()
    await cache.aclose()


async def test_a_watch_that_has_fallen_silent_does_not_keep_what_is_gone() -> None:
    clock = ManualClock()
    registry = Registry([ORDERS], [])
    cache = open_cache(registry, clock)
    await cache.load("orders")
    await registry.notify(ORDERS)
    clock.advance(10)
    await cache.maintain()
    await clock.run(30)
    assert cache.find("orders") == ()
    await cache.aclose()


async def test_a_failing_query_confirms_no_empty_list() -> None:
    clock = ManualClock()
    registry = Registry([ORDERS], [], DOWN, DOWN, [])
    cache = open_cache(registry, clock)
    await cache.load("orders")
    clock.advance(10)
    await cache.maintain()
    await clock.run(40)
    assert cache.find("orders") == (ORDERS,)
    await clock.run(5)
    assert cache.find("orders") == ()
    await cache.aclose()


async def test_instances_that_come_back_end_the_hold() -> None:
    clock = ManualClock()
    registry = Registry([ORDERS], [])
    cache = open_cache(registry, clock)
    await cache.load("orders")
    await registry.notify()
    await clock.run(1)
    await registry.notify(OTHER)
    await clock.run(20)
    assert (cache.find("orders"), registry.queries) == ((OTHER,), 1)
    assert clock.sleepers == 0
    await cache.aclose()


async def test_a_hold_ends_with_the_service_and_with_the_cache() -> None:
    clock = ManualClock()
    registry = Registry([ORDERS], [])
    cache = InstanceCache(registry, EVERYTHING, forget_seconds=10, clock=clock, sleep=clock.sleep)
    for end in (cache.maintain, cache.aclose):
        registry.answers = [[ORDERS]]
        await cache.load("orders")
        await cache.maintain()
        await registry.notify()
        await settle()
        assert clock.sleepers == 1
        clock.advance(10)
        await end()
        await settle()
        assert clock.sleepers == 0
    assert cache.find("orders") is None


async def test_the_cache_and_the_watch_come_to_agree() -> None:
    clock = ManualClock()
    registry = Registry([ORDERS], [OTHER], [OTHER], [ORDERS])
    cache = open_cache(registry, clock)
    await cache.load("orders")
    await registry.notify(ORDERS)
    [first] = registry.listeners
    clock.advance(10)
    await cache.maintain()
    assert cache.find("orders") == (OTHER,)
    assert registry.listeners == [first]  # it may be about to report the same
    await cache.maintain()
    assert registry.listeners != [first]
    await registry.notify(ORDERS)
    assert cache.find("orders") == (ORDERS,)
    await cache.aclose()


@pytest.mark.parametrize("hold", [0.0, 15.0])
async def test_a_registry_may_say_that_its_empty_lists_are_true(hold: float) -> None:
    registry = Registry([ORDERS], [])
    registry.confirms_empty_lists = hold > 0
    cache = InstanceCache(registry, EVERYTHING, hold_empty_seconds=hold)
    await cache.load("orders")
    await registry.notify()
    assert (cache.find("orders"), registry.queries) == ((), 1)
    await cache.aclose()


def test_several_sources_confirm_what_each_of_them_confirms() -> None:
    memory, other = InMemoryServiceRegistry(), Registry([])
    assert FirstSource(StaticAddresses({}), memory).confirms_empty_lists
    assert not FirstSource(memory, other).confirms_empty_lists


async def test_no_call_fails_while_a_restarted_registry_knows_no_instance() -> None:
    mesh = FakeMesh()
    await mesh.start("orders", "10.0.0.1:80", lambda _: httpx.Response(200))
    registry = Registry([ORDERS], [])
    async with AsyncServiceClient(registry, transport=mesh) as client:
        for _ in range(3):
            assert (await client.get("orders", "/")).status_code == 200
            await registry.notify()
            await settle()
    async with AsyncServiceClient(
        Registry([ORDERS], []), transport=mesh, hold_empty_seconds=0
    ) as client:
        await client.get("orders", "/")


async def test_a_service_nobody_calls_is_forgotten_with_its_watch() -> None:
    clock = ManualClock()
    registry = Registry([ORDERS])
    changes: list[tuple[str, int]] = []
    cache = InstanceCache(
        registry,
        EVERYTHING,
        forget_seconds=100,
        clock=clock,
        changed=lambda name, now: changes.append((name, len(now))),
    )
    await cache.load("orders")
    for _ in range(3):
        clock.advance(60)
        cache.find("orders")
        await cache.maintain()
    assert cache.services == ("orders",)
    clock.advance(101)
    await cache.maintain()
    assert list(cache.services) == []
    assert registry.listeners == []
    assert changes == [("orders", 1), ("orders", 0)]
    await cache.aclose()


async def test_looking_at_everything_keeps_no_service_from_being_forgotten() -> None:
    clock = ManualClock()
    cache = InstanceCache(Registry([ORDERS]), EVERYTHING, forget_seconds=100, clock=clock)
    await cache.load("orders")
    await cache.maintain()
    clock.advance(101)
    assert cache.snapshot() == {"orders": (ORDERS,)}
    await cache.maintain()
    assert cache.snapshot() == {}
    await cache.aclose()


async def test_the_number_of_services_is_bounded() -> None:
    clock = ManualClock()
    registry = Registry([ORDERS])
    cache = InstanceCache(registry, EVERYTHING, max_services=2, clock=clock)
    for name in ("a", "b", "c"):
        await cache.load(name)
        clock.advance(1)
    assert cache.services == ("b", "c")
    assert len(registry.listeners) == 2
    await cache.aclose()


async def test_news_of_a_service_that_was_forgotten_meanwhile_changes_nothing() -> None:
    registry = Registry([ORDERS])
    changes: list[str] = []
    cache = InstanceCache(
        registry, EVERYTHING, changed=lambda name, now: changes.append(f"{name}: {len(now)}")
    )
    await cache.load("orders")
    (listener,) = registry.listeners
    await cache.aclose()
    listener((OTHER,))
    assert cache.find("orders") is None
    assert changes == ["orders: 1", "orders: 0"]


async def test_the_running_snapshot_looks_after_itself() -> None:
    clock = ManualClock()
    registry = Registry([ORDERS], [OTHER])
    cache = InstanceCache(registry, EVERYTHING, refresh_seconds=10, clock=clock, sleep=clock.sleep)
    cache.start()
    cache.start()
    await cache.load("orders")
    for _ in range(3):
        for _ in range(10):
            await asyncio.sleep(0)
        clock.advance(5)
        for _ in range(5):
            await asyncio.sleep(0)
    assert cache.find("orders") == (OTHER,)
    await cache.aclose()
    await cache.aclose()


async def test_warming_up_loads_all_and_tells_of_those_it_could_not() -> None:
    registry = Registry([ORDERS])
    cache = InstanceCache(registry, EVERYTHING)
    await cache.warm_up(["orders", "stock", "orders"])
    assert registry.queries == 2
    registry.answers = [DOWN]
    with pytest.raises(ServiceRegistryUnavailableError):
        await cache.warm_up(["orders", "bills"])
    await cache.aclose()


async def test_a_warmed_client_asks_no_more() -> None:
    registry = Registry([ORDERS])
    async with AsyncServiceClient(registry, transport=FakeMesh()) as client:
        await client.warm_up(["orders"])
        assert client.discovery_age("orders") is not None
        assert registry.queries == 1


async def test_a_first_call_while_the_registry_is_down_says_so() -> None:
    async with AsyncServiceClient(Registry(DOWN), transport=FakeMesh()) as client:
        with pytest.raises(NoInstanceCallError, match=r"cannot be looked up: .*try later"):
            await client.get("orders", "/")


async def test_each_address_of_a_host_name_is_an_instance() -> None:
    known = {"orders.svc": ["10.0.0.2", "10.0.0.1"]}

    async def resolve(host: str, port: int) -> Sequence[str]:
        if host not in known:
            raise OSError("name or service not known")
        return known[host]

    source = DnsAddresses(
        {"orders": "https://orders.svc:8443", "stock": "http://stock.svc"}, resolve=resolve
    )
    found = await source.get_instances("orders")
    assert [(one.address, one.secure) for one in found] == [
        ("10.0.0.1:8443", True),
        ("10.0.0.2:8443", True),
    ]
    assert found[0].metadata["host"] == "orders.svc"
    assert await source.get_instances("nobody") == ()
    with pytest.raises(ServiceRegistryUnavailableError, match=r"stock\.svc does not resolve"):
        await source.get_instances("stock")
    source.watch_instances("orders", lambda _: None)()


async def test_the_systems_resolver_knows_this_machine() -> None:
    found = await DnsAddresses({"me": "http://localhost:80"}).get_instances("me")
    assert {one.ip for one in found} & {"127.0.0.1", "::1"}


async def test_a_host_is_called_by_its_name() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["10.0.0.9"]

    mesh = FakeMesh()
    mesh.serve_at("10.0.0.9:443", lambda _: httpx.Response(200))
    source = DnsAddresses({"orders": "https://orders.svc"}, resolve=resolve)
    async with AsyncServiceClient(source, transport=mesh) as client:
        await client.get("orders", "/")
    (request,) = mesh.requests
    assert request.headers["host"] == "orders.svc"
    assert request.extensions["sni_hostname"] == "orders.svc"
    assert str(request.url) == "https://10.0.0.9/"


async def test_the_first_source_that_has_instances_answers() -> None:
    registry = InMemoryServiceRegistry()
    source = FirstSource(StaticAddresses({"stock": ["http://10.0.0.5:80"]}), registry)
    heard: list[list[str]] = []

    async def listen(instances: Sequence[ServiceInstance]) -> None:
        heard.append([one.instance_id for one in instances])

    stop = source.watch_instances("orders", listen)
    plain: list[int] = []
    stop_plain = source.watch_instances("stock", lambda now: plain.append(len(now)))
    await registry.register(ORDERS)
    for _ in range(10):
        await asyncio.sleep(0)
    stop()
    stop_plain()
    assert heard[-1] == [ORDERS.instance_id]
    assert plain[-1] == 1
    assert [one.ip for one in await source.get_instances("stock")] == ["10.0.0.5"]
    assert await source.get_instances("nobody") == ()
    await registry.close()


@pytest.mark.parametrize("turns", range(6))
async def test_a_service_that_is_loaded_as_the_cache_closes_leaves_no_watch(turns: int) -> None:
    registry = Registry([ORDERS])
    cache = InstanceCache(registry, EVERYTHING)
    cache.start()
    loading = asyncio.create_task(cache.load("orders"))
    for _ in range(turns):
        await asyncio.sleep(0)
    await cache.aclose()
    await asyncio.wait([loading])
    assert registry.listeners == []
    with pytest.raises(ClientClosedError):
        await cache.load("orders")
    loading.cancelled() or loading.exception()
    assert registry.listeners == []


async def test_a_source_that_cannot_be_watched_ends_the_watches_before_it() -> None:
    class Unwatched(Registry):
        def watch_instances(
            self,
            service_name: str,
            listener: InstancesListener,
            query: InstanceQuery = EVERYTHING,
            /,
        ) -> Unsubscribe:
            raise DOWN

    first = Registry([ORDERS])
    with pytest.raises(ServiceRegistryUnavailableError):
        FirstSource(first, Unwatched([])).watch_instances("orders", lambda _: None)
    assert first.listeners == []
    end = FirstSource(first, first).watch_instances("orders", lambda _: None)
    assert len(first.listeners) == 2
    end()
    end()
    assert first.listeners == []


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="address of 'orders'"):
        StaticAddresses({"orders": ["http://10.0.0.1:99999"]})
    with pytest.raises(InvalidValueError, match=r"a list of addresses.*not 'http://10.0.0.1'"):
        StaticAddresses({"orders": "http://10.0.0.1"})


class SlowRegistry:
    """A registry that answers when told to, and fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.inner = InMemoryServiceRegistry()
        self.loads = 0
        self.failures = failures
        self.gate = asyncio.Event()

    async def get_instances(
        self, service_name: str, query: InstanceQuery = EVERYTHING
    ) -> Sequence[ServiceInstance]:
        self.loads += 1
        await self.gate.wait()
        if self.loads <= self.failures:
            raise ServiceRegistryUnavailableError("try later", provider="slow", operation="get")
        return await self.inner.get_instances(service_name, query)

    def watch_instances(
        self, service_name: str, listener: InstancesListener, query: InstanceQuery = EVERYTHING
    ) -> Unsubscribe:
        return self.inner.watch_instances(service_name, listener, query)


async def test_many_first_readers_ask_the_registry_once() -> None:
    registry = SlowRegistry()
    await registry.inner.register(ORDERS)
    cache = InstanceCache(registry, EVERYTHING)
    readers = [asyncio.create_task(cache.load("orders")) for _ in range(10)]
    await asyncio.sleep(0)
    registry.gate.set()
    assert set(await asyncio.gather(*readers)) == {(ORDERS,)}
    assert registry.loads == 1
    assert cache.find("orders") == (ORDERS,)
    await cache.aclose()


async def test_a_reader_that_is_cancelled_takes_nobody_with_it() -> None:
    registry = SlowRegistry()
    cache = InstanceCache(registry, EVERYTHING)
    first = asyncio.create_task(cache.load("orders"))
    second = asyncio.create_task(cache.load("orders"))
    await asyncio.sleep(0)
    first.cancel()
    registry.gate.set()
    assert await second == ()
    await cache.aclose()


async def test_a_failed_load_is_told_and_tried_again_by_the_next_reader() -> None:
    registry = SlowRegistry(failures=1)
    registry.gate.set()
    cache = InstanceCache(registry, EVERYTHING)
    with pytest.raises(ServiceRegistryUnavailableError):
        await cache.load("orders")
    assert await cache.load("orders") == ()
    await cache.aclose()


async def test_a_failed_load_without_a_waiting_caller_is_not_reported_by_asyncio() -> None:
    reports: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: reports.append(str(context["message"]))
    )
    registry = SlowRegistry(failures=1)
    cache = InstanceCache(registry, EVERYTHING)
    reader = asyncio.create_task(cache.load("orders"))
    await asyncio.sleep(0)
    reader.cancel()
    registry.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()  # asyncio reports an unretrieved exception when its task is collected
    assert (registry.loads, cache.find("orders")) == (1, None)
    assert not any("never retrieved" in report for report in reports)
    await cache.aclose()


async def test_closing_ends_what_is_being_loaded() -> None:
    registry = SlowRegistry()
    cache = InstanceCache(registry, EVERYTHING)
    reader = asyncio.create_task(cache.load("orders"))
    await asyncio.sleep(0)
    await cache.aclose()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def test_only_the_instances_asked_for_are_kept() -> None:
    registry = InMemoryServiceRegistry()
    await registry.register(ServiceInstance("orders", "10.0.0.1", 80, group_name="blue"))
    await registry.register(ORDERS)
    cache = InstanceCache(registry, InstanceQuery(group_name="blue"))
    assert [one.group_name for one in await cache.load("orders")] == ["blue"]
    await cache.aclose()
