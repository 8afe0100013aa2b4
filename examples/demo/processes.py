"""The demo's processes: each on a port of its own, each stopped whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

__all__ = ("DemoError", "Process", "Processes", "check_ports")

READY_SECONDS = 30.0
STOP_SECONDS = 5.0


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


@dataclass(slots=True)
class Process:
    """One child process, what it was started for, and how it was ended."""

    name: str
    port: int
    log: Path
    child: asyncio.subprocess.Process
    labels: Mapping[str, str] = field(default_factory=dict)
    told: str = ""

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.told = "killed"
        self.child.kill()

    def terminate(self) -> None:
        """Ask it to stop."""
        self.told = "stopped"
        self.child.terminate()

    @property
    def state(self) -> str:
        """In one word."""
        if self.alive:
            return "leaving" if self.told == "stopped" else "up"
        return self.told or "ended"

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.child.returncode is None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def last_words(self) -> str:
        """The end of what it printed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return "\n".join(lines[-6:]) or "(it printed nothing)"


class Processes:
    """Starts child processes; leaving the block ends them all, in reverse order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Process] = []

    async def start(
        self,
        name: str,
        port: int,
        arguments: list[str],
        environment: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
    ) -> Process:
        """Start `python ARGUMENTS`; its output goes to a log file."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                env={**os.environ, **environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the demo only, which ends them in order
            )
        process = Process(name, port, log, child, labels or {})
        self._started.append(process)
        return process

    async def ready(self, process: Process, path: str) -> None:
        """Wait until it answers on `path`.

        Raises:
            DemoError: it ended, or did not answer in time.
        """
        async with httpx.AsyncClient(trust_env=False) as http, _time_limit(process):
            while process.alive:
                with contextlib.suppress(httpx.TransportError):
                    answer = await http.get(f"http://{process.address}{path}")
                    if answer.status_code < 500:
                        return
                await asyncio.sleep(0.05)
        raise DemoError(f"{process.name} ended at once:\n{process.last_words()}")

    async def stop(self) -> None:
        """Ask each to end, wait, and kill those that do not."""
        for process in reversed(self._started):
            if process.alive:
                process.child.send_signal(signal.SIGTERM)
        for process in self._started:
            try:
                await asyncio.wait_for(process.child.wait(), STOP_SECONDS)
            except TimeoutError:
                process.child.kill()
                await process.child.wait()


@contextlib.asynccontextmanager
async def _time_limit(process: Process) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(READY_SECONDS):
            yield
    except TimeoutError:
        problem = f"{process.name} did not get ready within {READY_SECONDS:.0f} s"
        raise DemoError(f"{problem}:\n{process.last_words()}") from None


def check_ports(ports: Mapping[str, int]) -> None:
    """Every port has to be free before anything is started.

    Raises:
        DemoError: one is taken; it says which and how to choose others.
    """
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise DemoError(
                    f"port {port}, meant for {name}, is taken; "
                    "free it or choose others: make demo PORT=7200"
                ) from error


def as_json(value: Mapping[str, object]) -> str:
    """A mapping as the environment carries it."""
    return json.dumps(value)
