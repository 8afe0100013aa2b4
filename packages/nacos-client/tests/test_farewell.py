"""The end of a program whose client was never closed: its instances are deregistered."""

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from nacos_client import AsyncNacosClient, NacosClient
from nacos_client._after_fork import run_after_fork
from nacos_client._farewell import InlineExecutor, say_farewells
from nacos_client.testing import FakeNacosServer

SYNC = """
    import sys
    from nacos_client import NacosClient
    nacos = NacosClient(sys.argv[1], username="nacos", password="nacos")
    nacos.naming.register("orders", "10.0.0.1", 80)
"""
ASYNC = """
    import asyncio, sys
    from nacos_client import AsyncNacosClient
    async def main():
        nacos = AsyncNacosClient(sys.argv[1], username="nacos", password="nacos")
        await nacos.naming.register("orders", "10.0.0.1", 80)
    asyncio.run(main())
"""
FORK = """
    import os
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        assert len(nacos.naming.instances("orders")) == 1, "the child took it out"
    else:
        sys.exit()
"""


@pytest.fixture
def observer(server: FakeNacosServer) -> Iterator[NacosClient]:
    with NacosClient(server.address, username="nacos", password="nacos") as nacos:
        yield nacos


def connect(server: FakeNacosServer) -> NacosClient:
    return NacosClient(server.address, username="nacos", password="nacos")


def deregistrations(server: FakeNacosServer) -> int:
    return sum(method == "DELETE" for method, _ in server.requests)


@pytest.mark.parametrize("program", [SYNC, ASYNC], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("ending", "code"),
    [("", 0), ("sys.exit(3)", 3), ("raise RuntimeError", 1)],
    ids=["end", "exit", "exception"],
)
def test_a_program_that_ends_without_closing_leaves_no_instance(
    server: FakeNacosServer, observer: NacosClient, program: str, ending: str, code: int
) -> None:
    # By name: at the end of the interpreter no thread can be started that would resolve it.
    address = server.address.replace("127.0.0.1", "localhost")
    text = textwrap.dedent(program) + ending
    done = subprocess.run(
        [sys.executable, "-c", text, address],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert ("POST", "/v3/client/ns/instance") in server.requests
    assert list(observer.naming.instances("orders")) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_end_of_a_forked_child_takes_nothing_out(
    server: FakeNacosServer, observer: NacosClient
) -> None:
    text = textwrap.dedent(SYNC) + textwrap.dedent(FORK)
    subprocess.run([sys.executable, "-c", text, server.address], check=True, timeout=60)
    assert deregistrations(server) == 1
    assert list(observer.naming.instances("orders")) == []


def test_all_clients_that_are_still_open_say_farewell_once(
    server: FakeNacosServer, observer: NacosClient
) -> None:
    with connect(server) as first, connect(server) as second:
        first.naming.register("orders", "10.0.0.1", 80)
        second.naming.register("orders", "10.0.0.2", 80, cluster="east")
        second.naming.register("billing", "10.0.0.2", 81)
        say_farewells(10)
        assert list(observer.naming.instances("orders")) == []
        assert list(observer.naming.instances("billing")) == []
        assert deregistrations(server) == 3
        say_farewells(10)
    assert deregistrations(server) == 3


def test_an_async_client_whose_loop_has_ended_says_farewell(
    server: FakeNacosServer, observer: NacosClient
) -> None:
    nacos = AsyncNacosClient(
        server.address.replace("127.0.0.1", "localhost"), username="nacos", password="nacos"
    )

    async def register() -> None:
        await nacos.naming.register("orders", "10.0.0.1", 80)
        await nacos.close_connections()

    asyncio.run(register())
    say_farewells(10)
    assert list(observer.naming.instances("orders")) == []
    asyncio.run(nacos.aclose())


def test_a_closed_client_and_one_that_handed_over_say_nothing(
    server: FakeNacosServer, observer: NacosClient
) -> None:
    closed = connect(server)
    closed.naming.register("orders", "10.0.0.1", 80)
    closed.close()
    with connect(server) as nacos:
        nacos.naming.register("orders", "10.0.0.2", 80)
        nacos.naming.hand_over("orders", "10.0.0.2", 80)
        say_farewells(10)
        assert deregistrations(server) == 1
        assert [each.ip for each in observer.naming.instances("orders")] == ["10.0.0.2"]


def test_a_server_that_hangs_does_not_hold_up_the_end(server: FakeNacosServer) -> None:
    nacos = connect(server)
    nacos.naming.register("orders", "10.0.0.1", 80)
    server.inject("delay", seconds=3600, times=100)
    say_farewells(0.05)  # returns
    nacos.close()


def test_after_a_fork_the_child_says_nothing(
    server: FakeNacosServer, observer: NacosClient
) -> None:
    with connect(server) as nacos:
        nacos.naming.register("orders", "10.0.0.1", 80)
        run_after_fork()
        say_farewells(10)
        assert len(observer.naming.instances("orders")) == 1


def test_what_runs_at_the_end_starts_no_thread() -> None:
    executor = InlineExecutor()
    assert executor.submit(int, "7").result(0) == 7
    assert isinstance(executor.submit(int, "x").exception(0), ValueError)
