"""uvicorn instances for the benchmarks, and the measuring they share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

Call = Callable[[], Awaitable[Any]]


@dataclass
class Instance:
    """One uvicorn process."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def start(delay: float = 0.0) -> Instance:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "backend:app",
        "--app-dir",
        str(Path(__file__).parent),
        "--port",
        str(port),
    ]
    command += ["--log-level", "error", "--no-access-log"]
    environment = {**os.environ, "DELAY": str(delay)}
    return Instance(port, subprocess.Popen(command, env=environment))


@contextlib.asynccontextmanager
async def instances(delays: Sequence[float]) -> AsyncIterator[list[Instance]]:
    """uvicorn processes that answer, ended when the block ends."""
    started = [start(delay) for delay in delays]
    try:
        async with httpx.AsyncClient() as http:
            for one in started:
                await answering(http, one.url)
        yield started
    finally:
        for one in started:
            one.process.kill()
            one.process.wait()


async def answering(http: httpx.AsyncClient, url: str, within_seconds: float = 30.0) -> None:
    give_up = time.monotonic() + within_seconds
    while True:
        try:
            await http.get(url)
        except httpx.TransportError:
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.05)
        else:
            return


async def seconds_per_call(call: Call, calls: int, at_once: int) -> float:
    """Wall time of so many calls by so many workers, per call."""
    numbers = iter(range(calls))

    async def worker() -> None:
        for _ in numbers:
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return (time.perf_counter() - began) / calls
