"""The servers a `Microservice` runs under, as real processes: which port is registered, what SIGTERM does."""

import asyncio
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from lite_registry.provider import LiteServiceRegistry
from microservice_client import AsyncServiceClient
from microservice_core import ServiceInstance

Start = Callable[..., subprocess.Popen[str]]

FOLDER = str(Path(__file__).parent)
WORKER = "uvicorn_worker.UvicornWorker"
SERVERS = {
    "uvicorn": ("uvicorn", "--app-dir", FOLDER, "--port", "0", "stoppable:app"),
    "gunicorn": ("gunicorn", "--chdir", FOLDER, "--bind", "127.0.0.1:0", "-k", WORKER,
                 "stoppable:app"),
    "hypercorn": ("hypercorn", "--bind", "127.0.0.1:{port}", "stoppable:app"),
}  # fmt: skip
CLEAN_END = {0, -signal.SIGTERM}


@pytest.fixture
async def registry(
    start: Start, answers: Callable[..., httpx.Response], free_port: int
) -> AsyncIterator[LiteServiceRegistry]:
    url = f"http://127.0.0.1:{free_port}"
    server = start("-m", "lite_registry", "serve", "--port", str(free_port))
    await asyncio.to_thread(answers, server, f"{url}/healthz")
    async with LiteServiceRegistry(url) as registry:
        yield registry


async def known(registry: LiteServiceRegistry, count: int) -> list[ServiceInstance]:
    async with asyncio.timeout(30):
        while len(found := await registry.get_instances("stoppable")) != count:
            await asyncio.sleep(0.02)
    return list(found)


@pytest.fixture
def serve(
    start: Start, registry: LiteServiceRegistry, free_tcp_port_factory: Callable[[], int]
) -> Callable[..., subprocess.Popen[str]]:
    """Starts `stoppable` under a server."""

    def begin(name: str, leave_seconds: float) -> subprocess.Popen[str]:
        port = str(free_tcp_port_factory())
        arguments = ["-m", *(one.format(port=port) for one in SERVERS[name])]
        environment = {
            "LITE_REGISTRY_URL": registry.server_address,
            "LEAVE_SECONDS": str(leave_seconds),
            "PYTHONPATH": FOLDER,
        }
        return start(*arguments, environment=environment)

    return begin


@asynccontextmanager
async def asked_all_the_time(
    registry: LiteServiceRegistry, outcomes: Counter[str]
) -> AsyncIterator[None]:
    """Calls by name, about a hundred a second, while the block runs."""
    async with AsyncServiceClient(registry) as client, asyncio.TaskGroup() as tasks:

        async def call() -> None:
            try:
                outcomes[str((await client.get("stoppable", "/slow")).status_code)] += 1
            except Exception as error:  # noqa: BLE001 - every failure counts
                outcomes[repr(error)] += 1

        async def keep_calling() -> None:
            while True:
                tasks.create_task(call())
                await asyncio.sleep(0.01)

        caller = tasks.create_task(keep_calling())
        yield
        caller.cancel()


@pytest.mark.parametrize("name", SERVERS)
async def test_the_port_it_listens_on_is_the_one_registered(
    name: str, serve: Start, registry: LiteServiceRegistry
) -> None:
    program = serve(name, 0.0)
    (instance,) = await known(registry, 1)
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{instance.port}/slow")
    assert answer.status_code == 200
    program.terminate()
    assert await asyncio.to_thread(program.wait, 20) in CLEAN_END
    assert await registry.get_instances("stoppable") == ()


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn"])
async def test_sigterm_leaves_the_registry_while_it_still_answers(
    name: str, serve: Start, registry: LiteServiceRegistry
) -> None:
    program = serve(name, 3.0)
    (instance,) = await known(registry, 1)
    program.terminate()
    await known(registry, 0)
    assert program.poll() is None
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{instance.port}/slow")
    assert answer.status_code == 200
    assert await asyncio.to_thread(program.wait, 20) in CLEAN_END


@pytest.mark.parametrize("name", SERVERS)
async def test_who_calls_by_name_sees_no_failure_when_one_of_two_is_stopped(
    name: str, serve: Start, registry: LiteServiceRegistry
) -> None:
    first, second = serve(name, 1.0), serve(name, 1.0)
    await known(registry, 2)
    outcomes: Counter[str] = Counter()
    async with asked_all_the_time(registry, outcomes):
        await asyncio.sleep(0.5)
        first.terminate()
        assert await asyncio.to_thread(first.wait, 20) in CLEAN_END
        await known(registry, 1)
        await asyncio.sleep(0.2)
    assert outcomes.keys() == {"200"}
    second.terminate()
    await asyncio.to_thread(second.wait, 20)
