"""uvicorn in this process: its port is found, and the service registers once it listens."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from microservice_core import InMemoryServiceRegistry, ServiceInstance
from microservice_kit import Microservice
from microservice_kit.server_port import server_is_known, server_ports


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


@contextlib.asynccontextmanager
async def served(micro: Microservice, **options: object) -> AsyncIterator[QuietServer]:
    app = FastAPI(lifespan=micro.lifespan)
    server = QuietServer(uvicorn.Config(app, log_level="warning", **options))  # type: ignore[arg-type]
    task = asyncio.ensure_future(server.serve())
    try:
        yield server
    finally:
        server.should_exit = True
        await task


async def appears(registry: InMemoryServiceRegistry) -> ServiceInstance:
    found: asyncio.Queue[ServiceInstance] = asyncio.Queue()

    def note(seen: Sequence[ServiceInstance]) -> None:
        for one in seen:
            found.put_nowait(one)

    stop = registry.watch_instances("orders", note)
    async with asyncio.timeout(10):
        instance = await found.get()
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
        assert server_is_known()
        assert instance.port in server_ports()
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
