"""The contract of the store on Redis, on the real one; and what happens when it is cut off."""

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest
import redis.asyncio
from required_servers import read_variable

from lite_registry.instance import Instance, ServiceKey
from lite_registry.metrics import Metrics
from lite_registry.redis_store import RedisStore

CONTRACT = Path(__file__).parents[2] / "packages/lite-registry/tests/extras/test_redis_store.py"
ORDERS = ServiceKey("orders")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("redis_store_contract", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["redis_store_contract"] = module
    spec.loader.exec_module(module)
    return module


class TestRedisStoreOnTheRealOne(load(CONTRACT).RedisStoreContract):  # type: ignore[misc]
    pass


@pytest.fixture
def url() -> str:
    return read_variable("REDIS_URL")


@pytest.fixture
async def prefix(url: str) -> AsyncIterator[str]:
    prefix = f"{{lite-test-{uuid4().hex[:8]}}}:"
    yield prefix
    async with redis.asyncio.Redis.from_url(url) as client:
        async for key in client.scan_iter(f"{prefix}*"):
            await client.delete(key)


@pytest.fixture
def make_store(url: str, prefix: str) -> Callable[..., RedisStore]:
    def make(**options: object) -> RedisStore:
        return RedisStore(url, prefix=prefix, **options)  # type: ignore[arg-type]

    return make


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 10 s")


async def test_a_wire_that_is_cut_and_comes_back_loses_nothing(url: str, prefix: str) -> None:
    """One replica writes directly; the other sits behind a wire, and has to catch up."""
    host, port = url.partition("://")[2].partition("/")[0].split(":")
    open_writers: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.transport.abort()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        open_writers.update({writer, far_writer})
        both = pump(reader, far_writer), pump(far_reader, writer)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*both, return_exceptions=True)

    wire = await asyncio.start_server(carry, "127.0.0.1", 0)
    behind = wire.sockets[0].getsockname()[1]
    near = RedisStore(url, prefix=prefix)
    far = RedisStore(f"redis://127.0.0.1:{behind}/0", prefix=prefix)
    tasks = []
    for store in (near, far):
        store.start(lambda _: None, Metrics())
        tasks.append(asyncio.create_task(store.run()))
    await until(lambda: near.reachable and far.reachable)
    await near.put(ORDERS, Instance("a", "10.0.0.7", 8000))
    await until(lambda: len(far) == 1)
    wire.close()
    for writer in open_writers:
        writer.transport.abort()
    await until(lambda: not far.reachable)
    await near.put(ORDERS, Instance("b", "10.0.0.8", 8000))
    assert [one.id for one in far.instances(ORDERS)] == ["a"]
    wire = await asyncio.start_server(carry, "127.0.0.1", behind)
    await until(lambda: [one.id for one in far.instances(ORDERS)] == ["a", "b"])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    wire.close()
    for writer in open_writers:
        writer.transport.abort()
