"""The store on a real Redis of the test's own; skipped where no redis-server is installed."""

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from lite_registry import LiteRegistryServer, SettingsError
from lite_registry.errors import Problem
from lite_registry.http_client import HttpClient
from lite_registry.instance import Instance, ServiceKey
from lite_registry.leases import Precondition, SelfPreservation
from lite_registry.metrics import Metrics
from lite_registry.redis_store import RedisStore, reach

PROGRAM = shutil.which("redis-server")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="redis-server is not installed")

ORDERS = ServiceKey("orders")
DOCUMENT = {"ip": "10.0.0.7", "port": 8000, "ttl_seconds": 60}


class Redis:
    """A redis-server on a socket in a folder, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        assert PROGRAM is not None
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", ""]
        self.process = subprocess.Popen([PROGRAM, *options], stdout=subprocess.DEVNULL)
        for _ in range(500):
            if self.socket.exists():
                return
            threading.Event().wait(0.01)
        raise AssertionError("redis-server did not start within 5 s")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)


@pytest.fixture
def redis() -> Iterator[Redis]:
    with tempfile.TemporaryDirectory(prefix="lite-redis-") as folder:  # a socket's path is short
        redis = Redis(Path(folder))
        redis.start()
        yield redis
        redis.kill()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 10 s")


@contextlib.asynccontextmanager
async def running(redis: Redis, **options: object) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis.url, **options)  # type: ignore[arg-type]
    store.start(lambda _: None, Metrics())
    task = asyncio.create_task(store.run())
    await until(lambda: store.reachable)
    yield store
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def instance(instance_id: str = "a", **fields: object) -> Instance:
    return Instance(instance_id, "10.0.0.7", 8000, **fields)  # type: ignore[arg-type]


async def test_what_one_replica_writes_the_other_shows(redis: Redis) -> None:
    async with running(redis) as one, running(redis) as other:
        assert await one.put(ORDERS, instance())
        assert one.instances(ORDERS) == [instance()]
        await until(lambda: other.instances(ORDERS) == [instance()])
        assert not await other.put(ORDERS, instance(weight=2.0))
        await until(lambda: one.instances(ORDERS) == [instance(weight=2.0)])
        assert await one.remove(ORDERS, "a")
        assert not await one.remove(ORDERS, "a")
        await until(lambda: other.services() == [])
        assert (len(one), one.epoch) == (len(other), other.epoch)


async def test_a_lease_lapses_by_the_clock_of_redis_unless_it_is_renewed(redis: Redis) -> None:
    async with running(redis) as store:
        await store.put(ORDERS, instance("short", ttl_seconds=1.0))
        await store.put(ORDERS, instance("renewed", ttl_seconds=1.0))
        await store.put(ORDERS, instance("lasting", ephemeral=False))
        for _ in range(8):
            assert (await store.renew(ORDERS, "renewed")).id == "renewed"
            assert (await store.renew(ORDERS, "lasting")).id == "lasting"
            await asyncio.sleep(0.25)
        assert [one.id for one in store.instances(ORDERS)] == ["lasting", "renewed"]
        with pytest.raises(Problem, match="has no instance 'short'"):
            await store.renew(ORDERS, "short")


async def test_preconditions_are_checked_where_the_truth_is(redis: Redis) -> None:
    async with running(redis) as store:
        await store.put(ORDERS, instance(), Precondition(absent=True))
        for precondition, told in (
            (Precondition(absent=True), "leave out If-None-Match"),
            (Precondition(("other",)), "has changed"),
        ):
            with pytest.raises(Problem, match=told):
                await store.put(ORDERS, instance(weight=3.0), precondition)
        with pytest.raises(Problem, match="has changed"):
            await store.remove(ORDERS, "a", Precondition(("other",)))
        with pytest.raises(Problem, match="is not registered"):
            await store.remove(ORDERS, "b", Precondition(("*",)))
        with pytest.raises(Problem, match="is not registered"):
            await store.put(ORDERS, instance("b"), Precondition(("*",)))
        await store.put(ORDERS, instance(weight=3.0), Precondition((instance().etag,)))
        assert await store.remove(ORDERS, "a", Precondition(("*",)))


async def test_only_one_of_many_who_create_at_once_succeeds(redis: Redis) -> None:
    async with running(redis) as one, running(redis) as other:
        writes = [
            store.put(ORDERS, instance(weight=float(n)), Precondition(absent=True))
            for n, store in enumerate([one, other] * 10)
        ]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert sum(outcome is True for outcome in outcomes) == 1
        await until(lambda: one.instances(ORDERS) == other.instances(ORDERS))


async def test_there_is_room_for_so_many_and_no_more(redis: Redis) -> None:
    async with running(redis, capacity=1) as store:
        await store.put(ORDERS, instance("a"))
        with pytest.raises(Problem, match="raise --capacity") as caught:
            await store.put(ORDERS, instance("b"))
        assert caught.value.status == 507
        await store.remove(ORDERS, "a")
        await store.put(ORDERS, instance("b"))


async def test_when_too_many_lapse_at_once_they_are_kept(redis: Redis) -> None:
    rules = SelfPreservation(share=0.5, least=1, longest_seconds=600.0)
    async with running(redis, preservation=rules) as store:
        for number in range(4):
            await store.put(ORDERS, instance(str(number), ttl_seconds=1.0))
        await until(lambda: store.preserving)
        assert len(store) == 4
        for number in range(3):
            await store.renew(ORDERS, str(number))
        await until(lambda: len(store) == 3)


async def test_while_redis_is_away_reading_goes_on_and_writing_says_so(redis: Redis) -> None:
    store = RedisStore(redis.url)
    async with LiteRegistryServer(port=0, store=store, settle_seconds=0.0) as server:
        await until(lambda: store.reachable)
        client = HttpClient(server.url)
        path = "/v1/instances/orders/a"
        assert (await client.ask("PUT", path, document=DOCUMENT)).status == 201
        redis.kill()
        await until(lambda: not store.reachable)
        refused = await client.ask("PUT", path, document=DOCUMENT)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        listed = await client.ask("GET", "/v1/instances/orders")
        assert b'"10.0.0.7"' in listed.body
        assert b"store_failures" in (await client.ask("GET", "/metrics")).body
        epoch = store.epoch
        redis.start()
        await until(lambda: store.reachable)
        assert store.epoch != epoch  # it had nothing on disk: everybody has to register again
        await until(lambda: len(store) == 0)
        assert (await client.ask("PUT", path, document=DOCUMENT)).status == 201


async def test_what_is_no_redis_is_told(redis: Redis) -> None:
    assert await reach(redis.url) == ""
    assert "nowhere" in await reach("unix:///nowhere/redis.sock")
    with pytest.raises(SettingsError, match="memory or a url such as redis://host"):
        RedisStore("http://redis")
