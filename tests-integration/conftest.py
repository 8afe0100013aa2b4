"""Where the real servers are: environment variables only. A missing server is a skip that says
so; where REQUIRE_SERVERS names it, as the gate does with those it has started, it is a failure.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from chromium import PROGRAM, Browser
from required_servers import (
    pytest_runtest_makereport,
    pytest_terminal_summary,
    read_variable,
    skip_without,
)

__all__ = ("pytest_runtest_makereport", "pytest_terminal_summary")  # hooks of every test here

ROOT = Path(__file__).resolve().parent.parent

# Whoever runs this in the background of a shell ignores SIGINT, and so would all that is started here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def nacos_settings() -> dict[str, object]:
    """What the provider `nacos` needs to reach the real server."""
    return {
        "server_addr": read_variable("NACOS_SERVER_ADDR"),
        "username": read_variable("NACOS_USERNAME"),
        "password": read_variable("NACOS_PASSWORD"),
    }


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    """A real browser with an empty profile."""
    if PROGRAM is None:
        skip_without("chromium", "chromium is not installed: apt-get install chromium")
    browser = Browser(PROGRAM, tmp_path / "profile")
    yield browser
    browser.close()


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `python ARGUMENTS` in the checkout; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(
        *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        with (tmp_path / f"program-{len(running)}.log").open("w") as log:
            program = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        running.append(program)
        return program

    yield begin
    for program in running:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


@pytest.fixture
def answers(tmp_path: Path) -> Callable[..., httpx.Response]:
    """Waits until a program answers with a status below 500, or fails when it ended."""

    def wait(
        program: subprocess.Popen[str], url: str, within_seconds: float = 30
    ) -> httpx.Response:
        deadline = time.monotonic() + within_seconds
        while time.monotonic() < deadline:
            assert program.poll() is None, _said(tmp_path)
            try:
                response = httpx.get(url, trust_env=False)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if response.status_code < 500:
                return response
        pytest.fail(f"{url} did not answer within {within_seconds} s")

    return wait


def _said(folder: Path) -> str:
    logs = sorted(folder.glob("program-*.log"))
    return "\n".join(log.read_text()[-3000:] for log in logs)
