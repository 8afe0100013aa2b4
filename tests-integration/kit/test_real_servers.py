"""The servers a `Microservice` runs under, as real processes: which port is registered, what SIGTERM does."""

import asyncio
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest

from lite_registry.provider import LiteServiceRegistry
from microservice_client import AsyncServiceClient
from microservice_core import ServiceInstance

Start = Callable[..., subprocess.Popen[str]]
Serve = Callable[[str, float], subprocess.Popen[str]]

FOLDER = str(Path(__file__).parent)
WORKER = "uvicorn_worker.UvicornWorker"
SERVERS = {
    "uvicorn": ("uvicorn", "--app-dir", FOLDER, "--port", "0", "stoppable:app"),
    "gunicorn": ("gunicorn", "--chdir", FOLDER, "--bind", "127.0.0.1:0", "-k", WORKER,
                 "stoppable:app"),
    "two workers": ("gunicorn", "--chdir", FOLDER, "--bind", "127.0.0.1:0", "-k", WORKER,
                    "--workers", "2", "stoppable:app"),
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


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.02)


async def known(registry: LiteServiceRegistry, count: int) -> list[ServiceInstance]:
    async with asyncio.timeout(30):
        while len(found := await registry.get_instances("stoppable")) != count:
            await asyncio.sleep(0.02)
    return list(found)


def workers(program: subprocess.Popen[str]) -> frozenset[int]:
    """The processes that this one started."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(program.pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    return frozenset(map(int, listed.stdout.split()))


def are_present(pids: frozenset[int]) -> bool:
    """Whether each of these holds the lock by which workers of one address know of each other."""
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return pids <= {int(fields[4]) for fields in locks if fields[3] == "READ"}


@pytest.fixture
def serve(
    start: Start, registry: LiteServiceRegistry, free_tcp_port_factory: Callable[[], int]
) -> Serve:
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


@dataclass(slots=True)
class Answers:
    """What came back: how often which outcome, and from which processes."""

    outcomes: Counter[str] = field(default_factory=Counter)
    pids: set[int] = field(default_factory=set)


@asynccontextmanager
async def asked_all_the_time(registry: LiteServiceRegistry) -> AsyncIterator[Answers]:
    """Calls by name, about a hundred a second, while the block runs."""
    answers = Answers()
    async with AsyncServiceClient(registry) as client, asyncio.TaskGroup() as tasks:

        async def call() -> None:
            try:
                answer = await client.get("stoppable", "/slow")
                answers.outcomes[str(answer.status_code)] += 1
                answers.pids.add(answer.json())
            except Exception as error:  # noqa: BLE001 - every failure counts
                answers.outcomes[repr(error)] += 1

        async def keep_calling() -> None:
            while True:
                tasks.create_task(call())
                await asyncio.sleep(0.01)

        caller = tasks.create_task(keep_calling())
        yield answers
        caller.cancel()


@pytest.mark.parametrize("name", SERVERS)
async def test_the_port_it_listens_on_is_the_one_registered(
    name: str, serve: Serve, registry: LiteServiceRegistry
) -> None:
    program = serve(name, 0.0)
    (instance,) = await known(registry, 1)
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{instance.port}/slow")
    assert answer.status_code == 200
    program.terminate()
    assert await asyncio.to_thread(program.wait, 20) in CLEAN_END
    assert await registry.get_instances("stoppable") == ()


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn", "two workers"])
async def test_sigterm_leaves_the_registry_while_it_still_answers(
    name: str, serve: Serve, registry: LiteServiceRegistry
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


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn", "hypercorn"])
async def test_who_calls_by_name_sees_no_failure_when_one_of_two_is_stopped(
    name: str, serve: Serve, registry: LiteServiceRegistry
) -> None:
    first, second = serve(name, 1.0), serve(name, 1.0)
    await known(registry, 2)
    async with asked_all_the_time(registry) as answers:
        await until(lambda: len(answers.pids) == 2)
        first.terminate()
        assert await asyncio.to_thread(first.wait, 20) in CLEAN_END
        (left,) = await known(registry, 1)
        before = answers.outcomes["200"]
        await until(lambda: answers.outcomes["200"] > before + 20)
    assert left.port
    assert answers.outcomes.keys() == {"200"}
    second.terminate()
    await asyncio.to_thread(second.wait, 20)


async def test_workers_are_replaced_one_by_one_and_the_service_stays(
    serve: Serve, registry: LiteServiceRegistry
) -> None:
    program, beside = serve("two workers", 0.5), serve("uvicorn", 0.5)
    await known(registry, 2)
    old = workers(program)
    assert len(old) == 2

    def replaced(count: int) -> bool:
        now = workers(program)
        return len(now) == 2 and len(now - old) == count and are_present(now)

    sizes: set[int] = set()
    stop = registry.watch_instances("stoppable", lambda seen: sizes.add(len(seen)))
    async with asked_all_the_time(registry) as answers:
        await until(lambda: len(answers.pids) > 1 and are_present(old))
        for count, pid in enumerate(sorted(old), start=1):
            os.kill(pid, signal.SIGTERM)
            await until(partial(replaced, count))
            await known(registry, 2)
    stop()
    assert answers.outcomes.keys() == {"200"}
    assert sizes == {2}  # one hands the address over to the other
    for server in (program, beside):
        server.terminate()
        assert await asyncio.to_thread(server.wait, 20) in CLEAN_END
