"""uvicorn in this process: its port is found, and the service registers once it listens."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from microservice_core import InMemoryServiceRegistry, ServiceInstance
from microservice_kit import Microservice
from microservice_kit.web import server_port
from microservice_kit.web.server_port import find_server_port, find_server_ports, has_known_server


class ListeningRegistry(InMemoryServiceRegistry):
    """Notes whether the instance accepted connections when it was registered."""

    def __init__(self) -> None:
        super().__init__()
        self.answered: list[bool] = []

    async def register(self, instance: ServiceInstance) -> None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", instance.port)
            writer.close()
            self.answered.append(True)
        except OSError:
            self.answered.append(False)
        await super().register(instance)


class QuietServer(uvicorn.Server):
    """Leaves the signals of the test's process alone."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


def served(micro: Microservice, port: int) -> contextlib.AbstractAsyncContextManager[QuietServer]:
    return running(FastAPI(lifespan=micro.lifespan), port)


@contextlib.asynccontextmanager
async def running(app: object, port: int = 0) -> AsyncIterator[QuietServer]:
    server = QuietServer(uvicorn.Config(app, log_level="warning", port=port))  # type: ignore[arg-type]
    task = asyncio.ensure_future(server.serve())
    try:
        yield server
    finally:
        server.should_exit = True
        await task


async def appears(registry: InMemoryServiceRegistry) -> ServiceInstance:
    instances: asyncio.Queue[ServiceInstance] = asyncio.Queue()

    def note(present: Sequence[ServiceInstance]) -> None:
        for instance in present:
            instances.put_nowait(instance)

    stop = registry.watch_instances("orders", note)
    async with asyncio.timeout(10):
        instance = await instances.get()
    stop()
    return instance


@pytest.mark.parametrize("port", [0, None])
async def test_the_service_registers_on_the_server_s_port_once_it_listens(
    port: int | None, free_tcp_port: int
) -> None:
    registry = ListeningRegistry()
    micro = Microservice(service_name="orders", service_registry=registry, host="127.0.0.1")
    async with served(micro, port=free_tcp_port if port is None else port):
        instance = await appears(registry)
        assert has_known_server()
        assert instance.port in find_server_ports()
        assert registry.answered == [True]
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{instance.port}/health/ready")
        assert answer.json() == {"status": "up"}
    assert await registry.get_instances("orders") == ()


async def test_an_explicit_port_is_waited_for_as_well(free_tcp_port: int) -> None:
    registry = ListeningRegistry()
    micro = Microservice(
        service_name="orders", service_registry=registry, host="127.0.0.1", port=free_tcp_port
    )
    async with served(micro, port=free_tcp_port):
        assert (await appears(registry)).port == free_tcp_port
        assert registry.answered == [True]


@pytest.mark.parametrize("wrapped", [False, True])
async def test_of_two_servers_in_one_process_it_registers_the_one_that_runs_it(
    wrapped: bool, free_tcp_port: int
) -> None:
    registry = ListeningRegistry()
    micro = Microservice(
        app=FastAPI() if wrapped else None,
        service_name="orders",
        service_registry=registry,
        host="127.0.0.1",
    )
    app = GZipMiddleware(micro) if wrapped else FastAPI(lifespan=micro.lifespan)
    async with running(FastAPI(), free_tcp_port) as other, running(app) as own:
        port = (await appears(registry)).port
        assert [port] == [bound.sockets[0].getsockname()[1] for bound in own.servers]
        assert port != free_tcp_port == other.config.port


async def test_where_it_cannot_tell_which_it_asks_and_looks_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []

    def find_two_then_one(_: object) -> tuple[int, ...]:
        return (8000, 9000) if len(pauses) < 9 else (8000,)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(server_port, "find_server_ports", find_two_then_one)
    assert await find_server_port(sleep=sleep) == 8000
    assert pauses == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.0, 2.0]
    assert caplog.text.count("serves on the ports 8000, 9000: set `port`") == 1
