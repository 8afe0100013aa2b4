"""A watch that is stopped right after it began leaves no poll behind."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nacos_client import AsyncNacosClient, NacosClient
from nacos_client.testing import FakeNacosServer
from nacos_client.testing.contract import wait_until

COUNT = 100


def connect(server: FakeNacosServer) -> NacosClient:
    return NacosClient(server.address, username="nacos", password="nacos")


def aconnect(server: FakeNacosServer) -> AsyncNacosClient:
    return AsyncNacosClient(server.address, username="nacos", password="nacos")


def watched(nacos: Any) -> int:
    """How many keys are polled; those of which the last watch has ended do not count."""
    return int(nacos.config.watch_status.watched + nacos.naming.subscription_status.watched)


def polls(server: FakeNacosServer) -> int:
    return sum(path.endswith(("/cs/config", "/instance/list")) for _, path in server.requests)


def begin_config(nacos: Any, number: int) -> Callable[[], None]:
    stop: Callable[[], None] = nacos.config.watch(f"short-{number}", print)
    return stop


def begin_subscription(nacos: Any, number: int) -> Callable[[], None]:
    stop: Callable[[], None] = nacos.naming.subscribe(f"short-{number}", print)
    return stop


BEGINNINGS = pytest.mark.parametrize("begin", [begin_config, begin_subscription])


@BEGINNINGS
def test_a_sync_watch_stopped_at_once_is_never_polled(
    server: FakeNacosServer, begin: Callable[[Any, int], Callable[[], None]]
) -> None:
    with connect(server) as nacos:
        for number in range(COUNT):
            begin(nacos, number)()
        # Later on the same loop: once both have their first state, the others had their turn.
        heard = threading.Semaphore(0)
        nacos.config.watch("last", print, on_deleted=lambda _: heard.release())
        nacos.naming.subscribe("last", lambda _: heard.release())
        assert all(heard.acquire(timeout=20) for _ in range(2))
        assert watched(nacos) == 2
        assert polls(server) <= 3  # a missing document is read twice


@BEGINNINGS
async def test_an_async_watch_stopped_at_once_is_never_polled(
    server: FakeNacosServer, begin: Callable[[Any, int], Callable[[], None]]
) -> None:
    async with aconnect(server) as nacos:
        for number in range(COUNT):
            begin(nacos, number)()
        await settle(nacos)
        assert watched(nacos) == 2
        assert polls(server) <= 3


async def settle(nacos: AsyncNacosClient) -> None:
    """Wait until what was begun on the client's loop before has had its turn."""
    heard: list[object] = []
    nacos.config.watch("last", heard.append, on_deleted=heard.append)
    nacos.naming.subscribe("last", heard.append)
    await wait_until(lambda: len(heard) == 2)


async def open_and_leave(nacos: AsyncNacosClient, number: int) -> None:
    async with nacos.config.changes(f"short-{number}"):
        pass


async def use_after_close(nacos: AsyncNacosClient, number: int) -> None:
    changes = nacos.config.changes(f"short-{number}")
    await changes.aclose()
    with contextlib.suppress(StopAsyncIteration):
        await changes.next()


async def wait_and_cancel(nacos: AsyncNacosClient, number: int) -> None:
    waiting = asyncio.create_task(nacos.config.wait_for_change(f"short-{number}"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def wait_too_short(nacos: AsyncNacosClient, number: int) -> None:
    with pytest.raises(TimeoutError):
        await nacos.config.wait_for_change(f"short-{number}", timeout_seconds=0)


@pytest.mark.parametrize("use", [open_and_leave, use_after_close, wait_and_cancel, wait_too_short])
async def test_changes_that_are_left_at_once_are_never_polled(
    server: FakeNacosServer,
    use: Callable[[AsyncNacosClient, int], Coroutine[Any, Any, None]],
) -> None:
    async with aconnect(server) as nacos:
        for number in range(COUNT):
            await use(nacos, number)
        await settle(nacos)
        await wait_until(lambda: watched(nacos) == 2)


def test_sync_changes_that_are_left_at_once_are_never_polled(server: FakeNacosServer) -> None:
    with connect(server) as nacos:
        for number in range(COUNT):
            with nacos.config.changes(f"short-{number}"):
                pass
            closed = nacos.config.changes(f"closed-{number}")
            closed.close()
            with pytest.raises(TimeoutError):
                closed.next()
        heard = threading.Event()
        nacos.config.watch("last", print, on_deleted=lambda _: heard.set())
        assert heard.wait(20)
        assert nacos.config.watch_status.watched == 1


async def test_a_second_watch_of_the_key_survives_the_end_of_the_first(
    server: FakeNacosServer,
) -> None:
    async with aconnect(server) as nacos:
        heard: list[object] = []
        stop = nacos.naming.subscribe("orders", print)
        nacos.naming.subscribe("orders", heard.append)
        stop()
        await wait_until(lambda: heard)
        assert nacos.naming.subscription_status.watched == 1


def test_a_watch_whose_event_loop_has_ended_is_polled_no_longer(server: FakeNacosServer) -> None:
    nacos = AsyncNacosClient(
        server.address, username="nacos", password="nacos", instance_poll_seconds=0.05
    )

    async def begin() -> None:
        heard: list[object] = []
        nacos.naming.subscribe("orders", heard.append)
        await wait_until(lambda: heard)
        await nacos.close_connections()

    asyncio.run(begin())
    with connect(server) as other:
        other.naming.register("orders", "10.0.0.1", 80)
        asyncio.run(wait_until(lambda: nacos.naming.subscription_status.watched == 0))
    asyncio.run(nacos.aclose())
