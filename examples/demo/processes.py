"""The demo's processes: each on its own port, each stopped whatever happens."""

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
    """The demo cannot continue; the message says why and what to do."""


@dataclass(slots=True)
class Process:
    """One child process, its labels, and how it was ended."""

    name: str
    port: int
    log: Path
    child: asyncio.subprocess.Process
    labels: Mapping[str, str] = field(default_factory=dict)
    ending: str = ""

    def kill(self) -> None:
        """Kill it, as a crash does."""
        self.ending = "killed"
        self.child.kill()

    def terminate(self) -> None:
        """Ask it to stop."""
        self.ending = "stopped"
        self.child.terminate()

    @property
    def state(self) -> str:
        """Its state in one word."""
        if self.alive:
            return "leaving" if self.ending == "stopped" else "up"
        return self.ending or "ended"

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self.child.returncode is None

    @property
    def address(self) -> str:
        """The address it listens on."""
        return f"127.0.0.1:{self.port}"

    def read_last_lines(self) -> str:
        """Return the end of its output."""
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

    async def wait_until_ready(self, process: Process, path: str) -> None:
        """Wait until it responds on `path`.

        Raises:
            DemoError: it ended, or did not respond in time.
        """
        async with httpx.AsyncClient(trust_env=False) as http, _time_limit(process):
            while process.alive:
                with contextlib.suppress(httpx.TransportError):
                    response = await http.get(f"http://{process.address}{path}")
                    if response.status_code < 500:
                        return
                await asyncio.sleep(0.05)
        raise DemoError(f"{process.name} ended at once:\n{process.read_last_lines()}")

    async def stop(self) -> None:
        """Send each SIGTERM, wait, and kill those that do not end."""
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
        raise DemoError(f"{problem}:\n{process.read_last_lines()}") from None


def check_ports(ports: Mapping[str, int]) -> None:
    """Check that every port is free, before anything is started.

    Raises:
        DemoError: a port is taken; the message says how to choose others.
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


def encode_json(value: Mapping[str, object]) -> str:
    """Encode a mapping for an environment variable."""
    return json.dumps(value)
