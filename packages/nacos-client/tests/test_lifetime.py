"""Closing, forking, several event loops: nothing is left behind, nothing is shared by accident."""

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future

import httpx
import pytest

from nacos_client import (
    AsyncNacosClient,
    ClientClosedError,
    InvalidArgumentError,
    MissingDependencyError,
    NacosClient,
)
from nacos_client._background import BackgroundLoop
from nacos_client._steps import Operation, Wait
from nacos_client._transport import AsyncRunner, SyncRunner, TransportOptions
from nacos_client.testing import FakeNacosServer
from nacos_client.testing.contract import wait_until


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "nacos" in thread.name}


def test_nothing_is_started_or_sent_before_the_first_call(server: FakeNacosServer) -> None:
    before = threads()
    with NacosClient(server.address, username="nacos", password="nacos") as nacos:
        assert threads() == before
        nacos.naming.instances("orders")
        assert threads() == before


def test_closing_a_sync_client_joins_its_threads(server: FakeNacosServer) -> None:
    before = threads()
    nacos = NacosClient(server.address, username="nacos", password="nacos")
    nacos.naming.register("orders", "10.0.0.1", 80)
    nacos.config.watch("app.yaml", print)
    assert threads() - before == {"nacos-client", "nacos-listeners"}
    nacos.close()
    assert threads() == before


async def test_closing_an_async_client_joins_its_thread_and_leaves_no_task(
    server: FakeNacosServer,
) -> None:
    before, tasks = threads(), asyncio.all_tasks()
    nacos = AsyncNacosClient(server.address, username="nacos", password="nacos")
    await nacos.naming.register("orders", "10.0.0.1", 80)
    nacos.naming.subscribe("orders", lambda _: None)
    await nacos.aclose()
    await asyncio.sleep(0)
    assert threads() == before
    assert asyncio.all_tasks() == tasks


async def test_closing_while_the_server_hangs_takes_two_seconds_at_most(
    server: FakeNacosServer,
) -> None:
    nacos = AsyncNacosClient(server.address, username="nacos", password="nacos")
    await nacos.naming.register("orders", "10.0.0.1", 80)
    server.inject("delay", seconds=60, times=100)
    began = time.monotonic()
    await nacos.aclose()
    assert time.monotonic() - began < 3


async def test_a_cancelled_call_comes_out_cancelled_and_the_client_stays_usable(
    server: FakeNacosServer,
) -> None:
    async with AsyncNacosClient(server.address, username="nacos", password="nacos") as nacos:
        fault = server.inject("delay", "/login", seconds=60)
        waiting = [asyncio.create_task(nacos.naming.instances("orders")) for _ in range(3)]
        await wait_until(lambda: fault.times == 0)
        waiting[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        assert [list(found) for found in await asyncio.gather(*waiting[1:])] == [[], []]


@pytest.mark.parametrize("idle_connections", [0, 1], ids=["new", "kept"])
# anyio, below httpx, leaves a socket to the collector when it is cancelled as the socket connects.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_call_cancelled_at_any_moment_gives_its_connection_back(
    server: FakeNacosServer, idle_connections: int
) -> None:
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=idle_connections)
    nacos = AsyncNacosClient(
        server.address,
        username="nacos",
        password="nacos",
        transport=lambda: httpx.AsyncHTTPTransport(limits=limits),
        timeout_seconds=1,
    )
    async with nacos:
        for turns in range(100):
            calling = asyncio.create_task(nacos.naming.instances("orders"))
            for _ in range(turns):
                await asyncio.sleep(0)
            calling.cancel()
            await asyncio.wait([calling])
            assert list(await nacos.naming.instances("orders")) == [], f"after {turns} turns"
    gc.collect()


def test_one_client_serves_one_event_loop_after_the_other(server: FakeNacosServer) -> None:
    nacos = AsyncNacosClient(server.address, username="nacos", password="nacos")

    async def use(last: bool) -> int:
        found = await nacos.naming.instances("orders")
        if last:
            await nacos.aclose()
        else:
            await nacos.close_connections()
        return len(found)

    assert [asyncio.run(use(last)) for last in (False, True)] == [0, 0]


def test_one_client_serves_two_event_loops_at_once(server: FakeNacosServer) -> None:
    nacos = AsyncNacosClient(server.address, username="nacos", password="nacos")
    results: list[int] = []
    ended = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def elsewhere() -> None:
        loops.append(asyncio.get_running_loop())
        results.append(len(await nacos.naming.instances("orders")))
        await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()

    async def here() -> None:
        await wait_until(lambda: results == [0])
        results.append(len(await nacos.naming.instances("orders")))
        await nacos.aclose()
        loops[0].call_soon_threadsafe(ended.set)

    asyncio.run(here())
    thread.join()
    assert results == [0, 0]


def test_a_watch_whose_event_loop_has_ended_ends_too(
    server: FakeNacosServer, caplog: pytest.LogCaptureFixture
) -> None:
    nacos = AsyncNacosClient(
        server.address, username="nacos", password="nacos", config_poll_seconds=0.05
    )
    heard: list[object] = []

    async def begin() -> None:
        await nacos.admin.publish("app.yaml", "a: 1")
        nacos.config.watch("app.yaml", heard.append)
        await wait_until(lambda: heard)
        await nacos.close_connections()

    asyncio.run(begin())
    with NacosClient(server.address, username="nacos", password="nacos") as other:
        other.admin.publish("app.yaml", "a: 2")
    asyncio.run(wait_until(lambda: "the event loop it was started on is closed" in caplog.text))
    asyncio.run(nacos.aclose())
    assert len(heard) == 1


FORK = """
    import os, sys
    from nacos_client import ClientClosedError, NacosClient

    nacos = NacosClient(sys.argv[1], username="nacos", password="nacos")
    nacos.admin.publish("app.yaml", "a: 1")
    nacos.naming.register("orders", "10.0.0.1", 80)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert nacos.admin.get("app.yaml").content == "a: 1"
            for refused in (
                lambda: nacos.naming.register("orders", "10.0.0.2", 80),
                lambda: nacos.config.watch("app.yaml", print),
            ):
                try:
                    refused()
                except ClientClosedError as error:
                    assert "after the fork" in str(error)
                else:
                    raise AssertionError("not refused")
            nacos.close()
            with NacosClient(sys.argv[1], username="nacos", password="nacos") as own:
                own.naming.register("orders", "10.0.0.3", 80)
                assert len(own.naming.instances("orders")) == 2
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [each.ip for each in nacos.naming.instances("orders")] == ["10.0.0.1"]
    nacos.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_reads_but_does_not_take_over_its_parents_watches(
    server: FakeNacosServer,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK), server.address],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


FORK_DURING_LOGIN = """
    import os, sys, threading, time
    from nacos_client import NacosClient
    from nacos_client.testing import FakeNacosServer

    with FakeNacosServer() as server:
        nacos = NacosClient(server.address, username="nacos", password="nacos")
        fault = server.inject("delay", "/login", seconds=5)
        thread = threading.Thread(target=lambda: nacos.naming.instances("orders"))
        thread.start()
        while fault.times:
            time.sleep(0.01)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                began = time.monotonic()
                nacos.naming.instances("orders")
                code = 0 if time.monotonic() - began < 4 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        thread.join()
        nacos.close()
"""


ASYNC_FORK = """
    import asyncio, os, sys
    from nacos_client import AsyncNacosClient

    nacos = AsyncNacosClient(sys.argv[1], username="nacos", password="nacos")

    async def use():
        found = await nacos.naming.instances("orders")
        return len(found)

    async def parent():
        assert await use() == 0
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        await nacos.close_connections()

    asyncio.run(parent())
    child = os.fork()
    if child == 0:
        async def in_child():
            assert await use() == 0
            await nacos.aclose()
        asyncio.run(in_child())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    asyncio.run(nacos.aclose())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_does_not_wait_for_a_login_of_its_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK_DURING_LOGIN)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_an_async_client_can_be_used_in_a_forked_child(server: FakeNacosServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ASYNC_FORK), server.address],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_instance_outlives_20_seconds_in_which_user_code_blocks_the_loop(
    server: FakeNacosServer,
) -> None:
    labels = {
        "preserved.heart.beat.interval": "100",
        "preserved.heart.beat.timeout": "300",
        "preserved.ip.delete.timeout": "600",
    }

    async def main() -> None:
        async with AsyncNacosClient(server.address, username="nacos", password="nacos") as nacos:
            await nacos.naming.register("orders", "10.0.0.1", 80, metadata=labels)
            time.sleep(1.5)  # noqa: ASYNC251 - as if for 20 s at the usual interval
            (instance,) = await nacos.naming.instances("orders")
            assert instance.healthy
            assert nacos.naming.beat_status.reregistered == 0

    asyncio.run(main())


def test_a_clock_set_back_by_an_hour_disturbs_nothing(
    server: FakeNacosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"preserved.heart.beat.interval": "50"}
    with NacosClient(
        server.address, username="nacos", password="nacos", config_poll_seconds=0.05
    ) as nacos:
        heard: list[object] = []
        nacos.admin.publish("app.yaml", "a: 1")
        nacos.config.watch("app.yaml", heard.append)
        nacos.naming.register("orders", "10.0.0.1", 80, metadata=labels)
        asyncio.run(wait_until(lambda: heard))
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() - 3600)
        sent = nacos.naming.beat_status.sent
        nacos.admin.publish("app.yaml", "a: 2")
        asyncio.run(wait_until(lambda: len(heard) == 2))
        asyncio.run(wait_until(lambda: nacos.naming.beat_status.sent > sent + 3))
        assert nacos.naming.beat_status.failed == 0
        assert [path for _, path in server.requests].count("/v3/auth/user/login") == 1


class TestTransport:
    """Connections of the user's own making."""

    async def test_an_asgi_transport_reaches_the_fake_without_a_socket(self) -> None:
        fake = FakeNacosServer(publish_delay_seconds=0)
        async with AsyncNacosClient(
            "fake:8848",
            username="nacos",
            password="nacos",
            transport=httpx.ASGITransport(fake),
            config_poll_seconds=0.05,
        ) as nacos:
            heard: list[object] = []
            await nacos.admin.publish("app.yaml", "a: 1")
            nacos.config.watch("app.yaml", heard.append)
            await wait_until(lambda: heard)

    def test_a_sync_transport_serves_the_background_too(self) -> None:
        def handle(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, json={"code": 0, "data": "ok"})

        transports: list[httpx.MockTransport] = []

        def factory() -> httpx.MockTransport:
            transports.append(httpx.MockTransport(handle))
            return transports[-1]

        with NacosClient("127.0.0.1:1", transport=factory) as nacos:
            labels = {"preserved.heart.beat.interval": "50"}
            nacos.naming.register("orders", "10.0.0.1", 80, metadata=labels)
            asyncio.run(wait_until(lambda: nacos.naming.beat_status.sent > 2))
            assert nacos.naming.beat_status.failed == 0
        assert len(transports) == 2

    @pytest.mark.parametrize(
        ("address", "proxied"),
        [
            ("127.0.0.1:8848", False),
            ("localhost:8848", False),
            ("[::1]:8848", False),
            ("nacos.example:8848", True),
            ("nacos.internal:8848", False),
        ],
    )
    def test_a_proxy_is_taken_from_the_environment_but_never_for_loopback(
        self, monkeypatch: pytest.MonkeyPatch, address: str, proxied: bool
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("no_proxy", "nacos.internal")
        url = f"http://{address}/nacos"
        proxy = TransportOptions().build_arguments(url)["proxy"]
        assert (proxy == "http://127.0.0.1:9") is proxied
        assert TransportOptions(trust_env=False).build_arguments(url)["proxy"] is None


SOCKS = pytest.mark.parametrize(
    ("proxy", "error", "words"),
    [
        ("socks5://proxy:1080", MissingDependencyError, r"pip install 'httpx\[socks\]'"),
        ("gopher://u:hunter2@proxy:1080", InvalidArgumentError, "http_proxy must be a URL"),
    ],
)


@SOCKS
async def test_a_proxy_that_cannot_be_used_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, proxy: str, error: type[Exception], words: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setitem(sys.modules, "socksio", None)
    with NacosClient("nacos.example") as nacos, pytest.raises(error, match=words) as caught:
        nacos.naming.instances("orders")
    assert "hunter2" not in str(caught.value)
    async with AsyncNacosClient("nacos.example") as client:
        with pytest.raises(error, match=words):
            await client.naming.instances("orders")


def test_a_client_is_closed_even_where_nothing_was_started() -> None:
    nacos = NacosClient("127.0.0.1:1")
    nacos.close()
    with pytest.raises(ClientClosedError):
        nacos.config.get("a")


def test_a_task_that_has_not_begun_when_the_thread_ends_begins_before_it_is_cancelled() -> None:
    """One cancelled earlier drops the coroutine it should await, and Python warns of that."""

    async def nothing() -> None:
        await asyncio.sleep(0)

    async def waiting_for(inner: Coroutine[None, None, None]) -> None:
        await inner

    async def starting(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        while True:
            await asyncio.wait([asyncio.create_task(waiting_for(nothing()))])

    for _ in range(20):
        background = BackgroundLoop("nacos-test", nothing)
        for turns in range(4):
            background.submit(starting(turns))
        background.close().result(10)
        background.join()
    gc.collect()


def waiting_for(future: Future[None]) -> Operation[None]:
    yield Wait(future)


def test_a_call_that_a_close_cuts_off_says_so() -> None:
    cut_off: Future[None] = Future()
    cut_off.cancel()
    with pytest.raises(ClientClosedError, match="while this call was under way"):
        SyncRunner(TransportOptions()).run(waiting_for(cut_off))
    with pytest.raises(ClientClosedError, match="while this call was under way"):
        asyncio.run(AsyncRunner(TransportOptions()).run(waiting_for(cut_off)))


@pytest.mark.parametrize("closed", [True, False])
def test_a_caller_that_is_cancelled_stays_cancelled(closed: bool) -> None:
    async def main() -> None:
        future: Future[None] = Future()
        call = asyncio.create_task(AsyncRunner(TransportOptions()).run(waiting_for(future)))
        await asyncio.sleep(0)
        call.cancel()
        if closed:
            future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())


def test_work_submitted_while_another_thread_closes_always_ends() -> None:
    async def nothing() -> None:
        """Done at once."""

    def submit() -> None:
        with pytest.raises(ClientClosedError):  # noqa: PT012 - only one of many is refused
            while True:
                background.submit(nothing()).result(10)
                submitted.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            background = BackgroundLoop("nacos-test", nothing)
            submitted = threading.Event()
            submitters = [threading.Thread(target=submit, daemon=True) for _ in range(4)]
            for submitter in submitters:
                submitter.start()
            assert submitted.wait(10)
            background.close().result(10)
            for submitter in submitters:
                submitter.join(10)
            assert not any(submitter.is_alive() for submitter in submitters)
    finally:
        sys.setswitchinterval(before)
