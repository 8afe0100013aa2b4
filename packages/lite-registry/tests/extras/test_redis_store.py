"""The store on Redis: a contract that holds on the fake and, in tests-integration, on the real one."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from functools import partial

import fakeredis
import pytest
from redis.exceptions import ResponseError as RedisResponseError

from lite_registry import LiteRegistryServer, SettingsError
from lite_registry.errors import Problem
from lite_registry.http_client import HttpClient
from lite_registry.instance import Instance, ServiceKey
from lite_registry.leases import Precondition
from lite_registry.metrics import Metrics
from lite_registry.redis_entries import decode_member, encode_key
from lite_registry.redis_store import RedisStore, find_problem
from lite_registry.self_preservation import SelfPreservation

ORDERS = ServiceKey("orders")
DOCUMENT = {"ip": "10.0.0.7", "port": 8000, "ttl_seconds": 60}

MakeStore = Callable[..., RedisStore]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 10 s")


@contextlib.asynccontextmanager
async def running(make: MakeStore, **options: object) -> AsyncIterator[RedisStore]:
    store = make(**options)
    store.start(lambda _: None, Metrics())
    task = asyncio.create_task(store.run())
    await until(lambda: store.reachable)
    yield store
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def instance(instance_id: str = "a", **fields: object) -> Instance:
    return Instance(instance_id, "10.0.0.7", 8000, **fields)  # type: ignore[arg-type]


class RedisStoreContract:
    """Subclass it with a fixture `make_store`: stores on one Redis, options passed on."""

    async def test_what_one_replica_writes_the_other_shows(self, make_store: MakeStore) -> None:
        async with running(make_store) as one, running(make_store) as other:
            assert await one.put(ORDERS, instance())
            assert one.list_instances(ORDERS) == [instance()]
            await until(lambda: other.list_instances(ORDERS) == [instance()])
            assert not await other.put(ORDERS, instance(weight=2.0))
            await until(lambda: one.list_instances(ORDERS) == [instance(weight=2.0)])
            assert await one.remove(ORDERS, "a")
            assert not await one.remove(ORDERS, "a")
            await until(lambda: other.list_services() == [])
            assert (len(one), one.epoch) == (len(other), other.epoch)

    async def test_a_lease_lapses_by_the_clock_of_redis_unless_it_is_renewed(
        self, make_store: MakeStore
    ) -> None:
        async with running(make_store) as store:
            await store.put(ORDERS, instance("short", ttl_seconds=1.0))
            await store.put(ORDERS, instance("renewed", ttl_seconds=1.0))
            await store.put(ORDERS, instance("lasting", ephemeral=False))
            for _ in range(8):
                assert (await store.renew(ORDERS, "renewed")).id == "renewed"
                assert (await store.renew(ORDERS, "lasting")).id == "lasting"
                await asyncio.sleep(0.25)
            assert [one.id for one in store.list_instances(ORDERS)] == ["lasting", "renewed"]
            with pytest.raises(Problem, match="has no instance 'short'"):
                await store.renew(ORDERS, "short")

    async def test_preconditions_are_checked_where_the_truth_is(
        self, make_store: MakeStore
    ) -> None:
        async with running(make_store) as store:
            await store.put(ORDERS, instance(), Precondition(absent=True))
            for precondition, message in (
                (Precondition(absent=True), "leave out If-None-Match"),
                (Precondition(("other",)), "has changed"),
            ):
                with pytest.raises(Problem, match=message):
                    await store.put(ORDERS, instance(weight=3.0), precondition)
            with pytest.raises(Problem, match="has changed"):
                await store.remove(ORDERS, "a", Precondition(("other",)))
            with pytest.raises(Problem, match="is not registered"):
                await store.remove(ORDERS, "b", Precondition(("*",)))
            with pytest.raises(Problem, match="is not registered"):
                await store.put(ORDERS, instance("b"), Precondition(("*",)))
            await store.put(ORDERS, instance(weight=3.0), Precondition((instance().etag,)))
            assert await store.remove(ORDERS, "a", Precondition(("*",)))

    async def test_only_one_of_many_who_create_at_once_succeeds(
        self, make_store: MakeStore
    ) -> None:
        async with running(make_store) as one, running(make_store) as other:
            writes = [
                store.put(ORDERS, instance(weight=float(n)), Precondition(absent=True))
                for n, store in enumerate([one, other] * 10)
            ]
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
            assert sum(outcome is True for outcome in outcomes) == 1
            await until(lambda: one.list_instances(ORDERS) == other.list_instances(ORDERS))

    async def test_there_is_room_for_so_many_and_no_more(self, make_store: MakeStore) -> None:
        async with running(make_store, capacity=1) as store:
            await store.put(ORDERS, instance("a"))
            with pytest.raises(Problem, match="raise --capacity") as caught:
                await store.put(ORDERS, instance("b"))
            assert caught.value.status == 507
            await store.remove(ORDERS, "a")
            await store.put(ORDERS, instance("b"))

    async def test_when_too_many_lapse_at_once_they_are_kept(self, make_store: MakeStore) -> None:
        rules = SelfPreservation(share=0.5, least=1, window_seconds=0.5, longest_seconds=600.0)
        async with running(make_store, preservation=rules) as store:
            for number in range(4):
                await store.put(ORDERS, instance(str(number), ttl_seconds=1.0))
            await until(lambda: store.preserving)
            left = store.list_instances(ORDERS)
            assert len(left) >= 2  # an expiry between the first and the last may take half
            for one in left[1:]:
                await store.renew(ORDERS, one.id)
            await until(lambda: left[0] not in store.list_instances(ORDERS))

    async def test_an_overdue_instance_is_marked_and_goes_once_it_is_replaced(
        self, make_store: MakeStore
    ) -> None:
        rules = SelfPreservation(share=0.1, least=1, window_seconds=60.0, longest_seconds=600.0)
        async with running(make_store, preservation=rules) as store:
            for name in "abcd":
                await store.put(ORDERS, instance(name, ttl_seconds=1.0))
            await until(lambda: store.preserving)
            overdue = store.list_overdue(ORDERS)
            assert len(overdue) >= 2
            assert overdue <= {each.id for each in store.list_instances(ORDERS)}
            for name in "stuv":
                await store.put(ORDERS, instance(name, ttl_seconds=60.0))
            await store.renew(ORDERS, "s")  # in the same millisecond it may not count
            await asyncio.sleep(0.01)
            for name in "stuv":
                await store.renew(ORDERS, name)
            await until(lambda: [each.id for each in store.list_instances(ORDERS)] == list("stuv"))
            await until(lambda: not store.preserving)
            assert store.list_overdue(ORDERS) == frozenset()


NEWER = '{"id": "b", "ip": "10.0.0.8", "port": 8000, "weight": "heavy"}'


async def test_what_a_replica_cannot_read_is_skipped_counted_and_ends_nothing(
    server: fakeredis.FakeServer, make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()

    def has_counted(number: int) -> bool:
        return f"store_unreadable {number}\n" in metrics.render().decode()

    stranger = fakeredis.FakeAsyncRedis(server=server)
    store = make_store()
    store.start(lambda _: None, metrics)
    task = asyncio.create_task(store.run())
    await until(lambda: store.reachable)
    await store.put(ORDERS, instance())
    service = '["orders", "", ""]'
    for number, (name, entry) in enumerate(
        [("b", "0" * 16 + NEWER), ("c", ""), ("d", "0" * 16 + "[" * 100_000)], start=1
    ):
        await stranger.hset("{lite-registry}:service:" + service, name, entry)
        await stranger.publish("{lite-registry}:changes", service)
        await until(partial(has_counted, number))
    assert store.list_instances(ORDERS) == [instance()]
    names = ("hello", "7", "[1, 2, 3]", '["a"]', "[" * 100_000)
    for name in names:
        await stranger.publish("{lite-registry}:changes", name)
    await until(partial(has_counted, 3 + len(names)))
    await stranger.set("{lite-registry}:service:" + service.replace("orders", "text"), "x")
    await stranger.publish("{lite-registry}:changes", service.replace("orders", "text"))
    await until(partial(has_counted, 4 + len(names)))
    with pytest.raises(Problem, match="has no instance"):
        await store.renew(ORDERS, "b")
    assert await store.put(ORDERS, instance("z"))
    assert not task.done()
    assert len([each for each in caplog.records if "is skipped" in each.getMessage()]) == 5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await stranger.aclose()


async def test_an_instance_whose_entry_becomes_unreadable_stays_as_it_was(
    server: fakeredis.FakeServer, make_store: MakeStore
) -> None:
    stranger = fakeredis.FakeAsyncRedis(server=server)
    async with running(make_store) as store:
        await store.put(ORDERS, instance())
        service = '["orders", "", ""]'
        await stranger.hset("{lite-registry}:service:" + service, "a", "0" * 16 + NEWER)
        await stranger.publish("{lite-registry}:changes", service)
        await store.put(ORDERS, instance("c"))
        assert store.list_instances(ORDERS) == [instance(), instance("c")]
    await stranger.aclose()


@pytest.mark.parametrize(
    "member", ["x", "7", "[1, 2]", '["x", "a"]', '["[1]", "a"]', "[" * 100_000]
)
def test_a_member_that_names_no_lease_is_none(member: str) -> None:
    assert decode_member(member) is None
    assert decode_member(json.dumps([encode_key(ORDERS), "a"])) == (ORDERS, "a")


class TestRedisStoreOnTheFake(RedisStoreContract):
    pass


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
def make_store(server: fakeredis.FakeServer) -> MakeStore:
    def connect(_: str) -> fakeredis.FakeAsyncRedis:
        return fakeredis.FakeAsyncRedis(server=server, decode_responses=True)

    def make(**options: object) -> RedisStore:
        return RedisStore("redis://fake", connect=connect, **options)  # type: ignore[arg-type]

    return make


async def test_while_redis_is_away_reading_goes_on_and_writing_says_so(
    server: fakeredis.FakeServer, make_store: MakeStore
) -> None:
    store = make_store()
    async with LiteRegistryServer(port=0, store=store, settle_seconds=0.0) as registry:
        await until(lambda: store.reachable)
        client = HttpClient(registry.url)
        path = "/v1/instances/orders/a"
        assert (await client.request("PUT", path, document=DOCUMENT)).status == 201
        server.connected = False
        refused = await client.request("PUT", path, document=DOCUMENT)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        await until(lambda: not store.reachable)
        assert b'"10.0.0.7"' in (await client.request("GET", "/v1/instances/orders")).body
        assert b"store_failures" in (await client.request("GET", "/metrics")).body
        server.connected = True
        await until(lambda: store.reachable)
        assert (await client.request("POST", path + "/renew")).status == 204


async def test_what_is_not_redis_is_an_error() -> None:
    assert "Connect" in await find_problem("redis://127.0.0.1:1/0")
    with pytest.raises(SettingsError, match="memory or a url such as redis://host"):
        RedisStore("http://redis")


class LosesOneCancellation(fakeredis.FakeAsyncRedis):
    """As the real client does when it comes just as something was sent."""

    def __init__(self, *, server: fakeredis.FakeServer) -> None:
        super().__init__(server=server, decode_responses=True)
        self.expiring = asyncio.Event()
        self.lost = 0

    async def evalsha(self, *_: object) -> object:
        self.expiring.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        self.lost += 1
        return [0, []]


async def test_a_cancellation_that_the_client_loses_ends_it_all_the_same(
    server: fakeredis.FakeServer,
) -> None:
    client = LosesOneCancellation(server=server)
    store = RedisStore("redis://fake", connect=lambda _: client)
    task = asyncio.create_task(store.run())
    async with asyncio.timeout(20):
        await client.expiring.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert client.lost == 1


def count_failures(registry: LiteRegistryServer) -> float:
    """How many attempts to use the store have failed."""
    text = registry.metrics.render().decode()
    return float(text.partition("\nlite_registry_store_failures ")[2].partition("\n")[0])


class RefusingRedis(fakeredis.FakeAsyncRedis):
    """As one in protected mode is to clients of other machines."""

    async def execute_command(self, *_: object, **__: object) -> object:
        raise RedisResponseError("DENIED Redis is running in protected mode")


async def test_a_store_that_refuses_from_the_start_is_logged_once_and_shows_in_readiness(
    server: fakeredis.FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = RedisStore("redis://fake", connect=lambda _: RefusingRedis(server=server))
    async with LiteRegistryServer(port=0, store=store) as registry:
        client = HttpClient(registry.url)
        await until(lambda: "refuses or does not respond (DENIED" in caplog.text)
        readiness = await client.request("GET", "/readyz")
        assert readiness.status == 200
        assert readiness.json()["store"] == "unreachable"
        await until(lambda: b"\nlite_registry_store_failures 0" not in registry.metrics.render())
        failures = count_failures(registry)
        # Several more attempts fail, each without a line of its own.
        await until(lambda: count_failures(registry) >= failures + 4)
        assert caplog.text.count("refuses or does not respond") == 1


async def test_a_store_that_responds_shows_in_readiness(make_store: MakeStore) -> None:
    store = make_store()
    async with LiteRegistryServer(port=0, store=store) as registry:
        await until(lambda: store.reachable)
        readiness = await HttpClient(registry.url).request("GET", "/readyz")
        assert readiness.json()["store"] == "ok"
