"""Which server gets a request, when it is sent to another one, and when it may not be."""

import asyncio
import random
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from nacos_client import (
    AsyncNacosClient,
    ConflictError,
    DeadlineExceededError,
    NacosClient,
    ServerError,
    ServerUnavailableError,
)
from nacos_client._servers import Servers
from nacos_client.testing import FakeNacosServer, ManualClock

GET = ("GET", "/v3/client/cs/config")
PUBLISH = ("POST", "/v3/admin/cs/config")


@pytest.fixture
def pair() -> Iterator[tuple[FakeNacosServer, FakeNacosServer]]:
    """Two servers without authentication that hold the same document."""
    with (
        FakeNacosServer(auth=False, publish_delay_seconds=0) as first,
        FakeNacosServer(auth=False, publish_delay_seconds=0) as second,
    ):
        for each in (first, second):
            with NacosClient(each.address) as nacos:
                nacos.admin.publish("app.yaml", "a: 1")
            each.requests.clear()
        yield first, second


def in_use_first(
    nacos: NacosClient, pair: tuple[FakeNacosServer, FakeNacosServer]
) -> tuple[FakeNacosServer, FakeNacosServer]:
    """The server the client has chosen, then the other one."""
    return pair if nacos.server_in_use == pair[0].address else (pair[1], pair[0])


def client(*servers: FakeNacosServer, **options: Any) -> NacosClient:
    return NacosClient([each.address for each in servers], **options)


def test_a_server_that_is_gone_is_replaced_by_the_next(
    pair: tuple[FakeNacosServer, FakeNacosServer],
) -> None:
    with client(*pair) as nacos:
        first, other = in_use_first(nacos, pair)
        first.stop()
        assert nacos.config.get("app.yaml").source == "server"
        assert nacos.server_in_use == other.address


@pytest.mark.parametrize("fault", ["drop", "error", "empty"])
def test_a_read_that_fails_is_retried_on_another_server(
    pair: tuple[FakeNacosServer, FakeNacosServer], fault: Any
) -> None:
    with client(*pair) as nacos:
        first, other = in_use_first(nacos, pair)
        first.inject(fault, "/cs/config")
        assert nacos.config.get("app.yaml").content == "a: 1"
        assert list(other.requests) == [GET]


def test_a_failed_server_rests_until_its_time_is_over(
    pair: tuple[FakeNacosServer, FakeNacosServer],
) -> None:
    with client(*pair) as nacos:
        first, other = in_use_first(nacos, pair)
        first.inject("error", "/cs/config")
        for _ in range(5):
            nacos.config.get("app.yaml")
        assert len(first.requests) == 1
        assert len(other.requests) == 5


def test_when_all_servers_rest_one_is_used_nevertheless(
    pair: tuple[FakeNacosServer, FakeNacosServer],
) -> None:
    with client(*pair, server_rest_seconds=3600) as nacos:
        for each in pair:
            each.inject("error", "/cs/config", times=2)
        with pytest.raises(ServerError):
            nacos.config.get("unknown")
        assert nacos.config.get("app.yaml").content == "a: 1"


def test_a_silent_server_leaves_time_for_another(
    pair: tuple[FakeNacosServer, FakeNacosServer],
) -> None:
    with client(*pair, timeout_seconds=2) as nacos:
        first, _ = in_use_first(nacos, pair)
        first.inject("delay", "/cs/config", seconds=30)
        assert nacos.config.get("app.yaml").source == "server"


async def test_the_async_client_leaves_a_silent_server_too(
    pair: tuple[FakeNacosServer, FakeNacosServer],
) -> None:
    async with AsyncNacosClient(
        [each.address for each in pair], attempt_seconds=0.2, timeout_seconds=5
    ) as nacos:
        for each in pair:
            each.inject("delay", "/cs/config", seconds=30)
        assert (await nacos.config.get("app.yaml")).source == "server"


@pytest.mark.parametrize("sync", [True, False])
async def test_one_deadline_holds_for_all_attempts(server: FakeNacosServer, sync: bool) -> None:
    server.inject("delay", seconds=30, times=100)
    options: dict[str, Any] = {"timeout_seconds": 0.3, "snapshot_dir": ""}

    async def get() -> None:
        if sync:
            with NacosClient(server.address, **options) as nacos:
                await asyncio.to_thread(nacos.config.get, "app.yaml")
        else:
            async with AsyncNacosClient(server.address, **options) as anacos:
                await anacos.config.get("app.yaml")

    with pytest.raises(DeadlineExceededError, match=r"within 0.3 s") as caught:
        await get()
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.attempts


async def test_many_calls_at_once_wait_for_connections_and_blame_no_server(
    server: FakeNacosServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncNacosClient(
        server.address, username="nacos", password="nacos", timeout_seconds=50, attempt_seconds=3
    ) as nacos:
        await nacos.naming.instances("orders")
        server.inject("delay", "/instance/list", seconds=0.1, times=1000)
        lists = await asyncio.gather(*(nacos.naming.instances("orders") for _ in range(600)))
    assert [len(each) for each in lists] == [0] * 600
    assert "lost Nacos server" not in caplog.text


async def test_a_call_that_finds_no_free_connection_in_time_says_so(
    server: FakeNacosServer,
) -> None:
    async with AsyncNacosClient(
        server.address, username="nacos", password="nacos", timeout_seconds=2.0
    ) as nacos:
        await nacos.naming.instances("orders")
        server.inject("delay", seconds=30, times=1000)
        outcomes = await asyncio.gather(
            *(nacos.naming.instances(f"orders-{n}") for n in range(100)), return_exceptions=True
        )
    assert all(isinstance(each, ServerUnavailableError) for each in outcomes)
    assert any("no connection was free" in str(each) for each in outcomes)


def test_a_publish_that_may_have_arrived_is_not_repeated(
    pair: tuple[FakeNacosServer, FakeNacosServer],
) -> None:
    with client(*pair) as nacos:
        first, other = in_use_first(nacos, pair)
        first.inject("drop", "/cs/config")
        with pytest.raises(ServerUnavailableError):
            nacos.admin.publish("app.yaml", "a: 2")
        assert list(first.requests) == [PUBLISH]
        assert not other.requests


def test_a_publish_that_ends_in_a_server_error_is_not_repeated(
    pair: tuple[FakeNacosServer, FakeNacosServer],
) -> None:
    with client(*pair) as nacos:
        first, other = in_use_first(nacos, pair)
        first.inject("error", "/cs/config")
        with pytest.raises(ServerError):
            nacos.admin.publish("app.yaml", "a: 2")
        assert not other.requests


def test_a_publish_that_cannot_have_arrived_goes_to_the_next_server(
    pair: tuple[FakeNacosServer, FakeNacosServer],
) -> None:
    with client(*pair) as nacos:
        first, other = in_use_first(nacos, pair)
        first.stop()
        nacos.admin.publish("app.yaml", "a: 2")
        assert list(other.requests) == [PUBLISH]


def test_a_lost_compare_and_set_is_no_reason_to_leave_the_server(
    pair: tuple[FakeNacosServer, FakeNacosServer],
) -> None:
    with client(*pair) as nacos:
        first, _ = in_use_first(nacos, pair)
        with pytest.raises(ConflictError):
            nacos.admin.publish("app.yaml", "a: 2", cas_md5="0" * 32)
        assert nacos.server_in_use == first.address


def test_without_any_server_the_error_lists_each_attempt(server: FakeNacosServer) -> None:
    server.stop()
    with client(server) as nacos, pytest.raises(ServerUnavailableError) as caught:
        nacos.config.get("app.yaml")
    assert len(caught.value.attempts) == 3
    assert "ConnectError" in caught.value.attempts[0]
    assert str(caught.value).endswith("check the address and that the server is up")


def test_an_unknown_host_is_named() -> None:
    with (
        NacosClient("nacos.invalid:8848", snapshot_dir="") as nacos,
        pytest.raises(ServerUnavailableError, match=r"nacos\.invalid"),
    ):
        nacos.config.get("app.yaml")


def test_tls_to_a_server_that_speaks_none_is_a_named_failure(server: FakeNacosServer) -> None:
    with (
        NacosClient(f"https://{server.address}", snapshot_dir="") as nacos,
        pytest.raises(ServerUnavailableError, match=r"SSL|TLS|handshake|disconnect"),
    ):
        nacos.config.get("app.yaml")


def test_lost_and_back_are_logged_once_each(
    server: FakeNacosServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nacos_client")
    with client(server, username="nacos", password="nacos", server_rest_seconds=0.01) as nacos:
        nacos.admin.publish("app.yaml", "a: 1")
        server.stop()
        for _ in range(3):
            with pytest.raises(ServerUnavailableError):
                nacos.naming.instances("orders")
        server.start()
        for _ in range(3):
            nacos.naming.instances("orders")
    lines = [record.message for record in caplog.records]
    assert sum("lost Nacos server" in line for line in lines) == 1
    assert sum("is back" in line for line in lines) == 1


def test_want_of_a_connection_is_not_blamed_on_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def find_no_connection(_: httpx.Request) -> httpx.Response:
        raise httpx.PoolTimeout("no connection was free")

    transport = httpx.MockTransport(find_no_connection)
    with (
        NacosClient("127.0.0.1:1", transport=transport) as nacos,
        pytest.raises(ServerUnavailableError, match="no connection was free"),
    ):
        nacos.naming.instances("orders")
    assert "lost Nacos server" not in caplog.text


class TestServers:
    """The choice itself, by a clock of the test's own."""

    @staticmethod
    def three(clock: ManualClock) -> tuple[Servers, str, list[str]]:
        servers = Servers(["a", "b", "c"], clock=clock, rng=random.Random(1), rest_seconds=5)
        first = servers.pick()
        at = "abc".index(first)
        return servers, first, list("abcabc"[at + 1 : at + 3])

    def test_those_that_rest_are_passed_over_until_their_time_is_over(self) -> None:
        clock = ManualClock()
        servers, first, (second, third) = self.three(clock)
        servers.record_failure(second, "gone")
        assert servers.pick(tried=[first]) == third
        clock.advance(5)
        assert servers.pick(tried=[first]) == second

    def test_when_all_rest_the_one_that_rested_longest_is_tried(self) -> None:
        clock = ManualClock()
        servers, first, (second, third) = self.three(clock)
        for each in (second, third, first):
            servers.record_failure(each, "gone")
            clock.advance(1)
        assert servers.pick() == second

    def test_a_new_list_keeps_the_server_in_use_if_it_can(self) -> None:
        servers, first, _ = self.three(ManualClock())
        servers.replace([])
        assert servers.addresses == ("a", "b", "c")
        servers.replace(["x", first])
        assert servers.pick() == first
        servers.replace(["y"])
        assert servers.pick() == "y"
        servers.record_failure("gone-from-the-list", "late news")
        assert servers.pick() == "y"

    def test_one_that_comes_and_goes_gets_a_line_in_ten_seconds(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock = ManualClock()
        servers, first, _ = self.three(clock)
        for _ in range(30):
            servers.record_failure(first, "flaps")
            servers.record_success(first)
            clock.advance(1)
        assert sum("lost" in record.message for record in caplog.records) == 3

    def test_after_a_fork_the_lock_of_a_parents_thread_is_not_waited_for(self) -> None:
        inside, release = threading.Event(), threading.Event()

        def clock() -> float:
            if threading.current_thread().name == "parent's":
                inside.set()
                assert release.wait(30)
            return 1000.0

        servers = Servers(["a"], clock=clock, rng=random.Random(1), rest_seconds=5)
        thread = threading.Thread(target=servers.pick, name="parent's")
        thread.start()
        try:
            assert inside.wait(30)
            servers.after_fork()
            assert servers.pick() == "a"
        finally:
            release.set()
            thread.join()


class TestAddressServer:
    """The servers come from a list over HTTP."""

    @staticmethod
    def transport(*lists: httpx.Response) -> httpx.MockTransport:
        remaining = list(lists)

        def handle(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/nacos/serverlist":
                return remaining.pop(0)
            body = {"code": 0, "message": "", "data": []}
            return httpx.Response(200, json=body)

        return httpx.MockTransport(handle)

    def test_lines_become_servers(self) -> None:
        lines = httpx.Response(200, text="# ours\n10.0.0.1:8848\n\n10.0.0.2\n")
        with NacosClient(endpoint="10.9.9.9", transport=self.transport(lines)) as nacos:
            assert list(nacos.naming.instances("orders")) == []
            assert nacos.server_in_use in {"10.0.0.1:8848", "10.0.0.2:8848"}

    @pytest.mark.parametrize(
        ("response", "reason"),
        [
            (httpx.Response(500), "HTTP 500"),
            (httpx.Response(200, text=""), "an empty list"),
            (httpx.Response(200, text="<html>no list"), "server_addr must be"),
        ],
    )
    def test_without_any_list_a_call_fails_with_the_reason(
        self, response: httpx.Response, reason: str
    ) -> None:
        with (
            NacosClient(endpoint="10.9.9.9", transport=self.transport(response)) as nacos,
            pytest.raises(ServerUnavailableError, match=reason),
        ):
            nacos.naming.instances("orders")

    def test_the_address_server_may_be_gone_once_servers_are_known(self) -> None:
        transport = self.transport(httpx.Response(500))
        with NacosClient(
            "10.0.0.1", endpoint="10.9.9.9", transport=transport, snapshot_dir=""
        ) as nacos:
            assert list(nacos.naming.instances("orders")) == []

    def test_an_address_server_that_is_unreachable_is_named(self) -> None:
        with (
            NacosClient(endpoint="127.0.0.1:1") as nacos,
            pytest.raises(ServerUnavailableError, match="the address server gave no list"),
        ):
            nacos.naming.instances("orders")
