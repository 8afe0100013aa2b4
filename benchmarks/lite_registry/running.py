"""A program under measurement: its processor time, its memory, and how to load it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")


class Program:
    """A child process that prints its address once it listens."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        assert found, line
        self.host, self.port = found[1], int(found[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    @property
    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1024


def registry(*arguments: str) -> Program:
    """lite-registry with these arguments."""
    return Program("-m", "lite_registry", "serve", "--port", "0", "--linger", "0", *arguments)


class Client(asyncio.Protocol):
    """One keep-alive connection that sends the same request; knows the length of the answer."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.length = 0
        self.received = 0
        self.done: asyncio.Future[None] | None = None
        self.left = 0
        self.answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if not self.length:
            self.answer += data
            head, found, _ = self.answer.partition(b"\r\n\r\n")
            if not found:
                return
            size = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            self.length = len(head) + 4 + (int(size[1]) if size else 0)
        while self.received >= self.length:
            self.received -= self.length
            self.left -= 1
            if self.left > 0:
                self.transport.write(self.request)  # type: ignore[attr-defined]
            elif self.done is not None and not self.done.done():
                self.done.set_result(None)

    async def ask(self, times: int = 1) -> None:
        self.left = times
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(self.request)  # type: ignore[attr-defined]
        await self.done


async def connect(program: Program, target: str, count: int) -> list[Client]:
    """So many connections."""
    request = f"GET {target} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Client(request), program.host, program.port)
        for _ in range(count)
    ]
    return [client for _, client in made]


async def load(program: Program, target: str, *, clients: int, each: int) -> tuple[float, float]:
    """Requests per second, and microseconds of the program's processor time per request."""
    connections = await connect(program, target, clients)
    await asyncio.gather(*(client.ask(20) for client in connections))
    before, began = program.processor_seconds, time.perf_counter()
    await asyncio.gather(*(client.ask(each) for client in connections))
    took, spent = time.perf_counter() - began, program.processor_seconds - before
    for client in connections:
        client.transport.close()
    return clients * each / took, spent / (clients * each) * 1e6
