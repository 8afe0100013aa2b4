"""A service that is told to stop under load: nobody who finds it by name sees a failure."""

import asyncio
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from lite_registry.provider import LiteServiceRegistry
from microservice_client import AsyncServiceClient, ServicePolicy

Start = Callable[..., subprocess.Popen[str]]
PROGRAM = "tests-integration/kit/stoppable.py"
ONE_TRY = ServicePolicy(attempts=1)


@pytest.fixture
async def registry(
    start: Start, answers: Callable[..., httpx.Response], free_port: int
) -> AsyncIterator[LiteServiceRegistry]:
    url = f"http://127.0.0.1:{free_port}"
    server = start("-m", "lite_registry", "serve", "--port", str(free_port))
    await asyncio.to_thread(answers, server, f"{url}/healthz")
    async with LiteServiceRegistry(url) as registry:
        yield registry


async def known(registry: LiteServiceRegistry, count: int) -> list[str]:
    async with asyncio.timeout(30):
        while len(found := await registry.get_instances("stoppable")) != count:
            await asyncio.sleep(0.02)
    return [one.address for one in found]


async def test_sigterm_under_200_requests_a_second_fails_none(
    registry: LiteServiceRegistry, start: Start, tmp_path: Path, free_port: int
) -> None:
    environment = {"LITE_REGISTRY_URL": f"http://127.0.0.1:{free_port}"}
    first, _second = (
        start(PROGRAM, str(tmp_path / f"pid-{number}"), environment=environment)
        for number in range(2)
    )
    await known(registry, 2)
    outcomes: Counter[str] = Counter()
    client = AsyncServiceClient(registry, default_policy=ONE_TRY)

    async def call() -> None:
        try:
            answer = await client.get("stoppable", "/slow")
            outcomes[str(answer.status_code)] += 1
        except Exception as error:  # noqa: BLE001 - every failure counts
            outcomes[repr(error)] += 1

    async with client, asyncio.TaskGroup() as tasks:
        for number in range(800):
            if number == 200:
                first.send_signal(signal.SIGTERM)
            tasks.create_task(call())
            await asyncio.sleep(0.005)
    assert outcomes == {"200": 800}
    assert await asyncio.to_thread(first.wait, 20) in {0, -signal.SIGTERM}


async def test_a_second_sigterm_does_not_wait(
    registry: LiteServiceRegistry, start: Start, tmp_path: Path, free_port: int
) -> None:
    environment = {"LITE_REGISTRY_URL": f"http://127.0.0.1:{free_port}", "LEAVE_SECONDS": "3600"}
    program = start(PROGRAM, str(tmp_path / "pid"), environment=environment)
    await known(registry, 1)
    program.send_signal(signal.SIGTERM)
    await known(registry, 0)
    assert program.poll() is None
    program.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(program.wait, 20) in {0, -signal.SIGTERM}
