"""uvicorn instances and sockets that misbehave, for the tests of the client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from microservice_core import ServiceInstance

FOLDER = Path(__file__).resolve().parent


class Backend:
    """One uvicorn process."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.process = self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def instance(self) -> ServiceInstance:
        return ServiceInstance("orders", "127.0.0.1", self.port)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        self.process.terminate()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def restart(self) -> None:
        self.process = self._start()
        await self.answering()

    async def answering(self) -> None:
        """Wait until it answers."""
        async with httpx.AsyncClient() as http, asyncio.timeout(60):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    await http.get(f"{self.url}/who")
                    return
                await asyncio.sleep(0.05)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "uvicorn", "backend:app", "--app-dir", str(FOLDER)]
        command += ["--port", str(self.port), "--log-level", "error", "--no-access-log"]
        command += ["--timeout-graceful-shutdown", "5"]
        return subprocess.Popen(command, env={**os.environ, "NAME": self.name})


class Fleet:
    """Starts instances and ends those that are left."""

    def __init__(self) -> None:
        self.backends: list[Backend] = []

    async def start(self, count: int) -> list[Backend]:
        started = [
            Backend(f"i{len(self.backends) + number}", free_port()) for number in range(count)
        ]
        self.backends += started
        await asyncio.gather(*(one.answering() for one in started))
        return started

    def end(self) -> None:
        for one in self.backends:
            one.resume()
            one.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Instances to start, to kill and to pause."""
    fleet = Fleet()
    yield fleet
    fleet.end()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def listening() -> AsyncIterator[Callable[..., object]]:
    """`url = await listening(serve)`: a socket whose connections go to that function."""
    async with contextlib.AsyncExitStack() as stack:
        connections: set[asyncio.Task[object]] = set()

        async def listen(serve: Serve) -> str:
            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.current_task()
                assert task is not None
                connections.add(task)
                try:
                    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                        await serve(reader, writer)
                finally:
                    connections.discard(task)
                    writer.close()

            server = await asyncio.start_server(connected, "127.0.0.1", 0)
            stack.callback(server.close)
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        async def hang_up() -> None:
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

        stack.push_async_callback(hang_up)
        yield listen


@pytest.fixture(params=["httpx", "aiohttp"])
def layer(request: pytest.FixtureRequest) -> str:
    """Each connection layer."""
    return str(request.param)
