"""`make demo` as a newcomer meets it: embedded, on a real Nacos, and when something is wrong."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


PROMISES = (
    "its breaker opened, the others respond: 0 of",
    "orders-1 was started again and takes calls again",
    "all three use the new value after",
    "refused by all three, which keep the last valid one: welcome",
    "they greet as before, although the broken document is still there: hello",
    "calls of lane dev fell back to base: 0 of",
    "it left the registry, finished its requests, ended: 0 of",
)


def demo(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", "--act-seconds", "1.5", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def assert_it_held(done: subprocess.CompletedProcess[str]) -> None:
    """Every act kept its promise, in this order, and the end says what to read next."""
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert all(said.count(promise) == 1 for promise in PROMISES), said
    assert sorted(PROMISES, key=said.index) == list(PROMISES)
    assert re.search(
        r"every promise was kept: \d+ calls, 0 failed, 0 in the wrong lane\n.*read next:", said
    )


def processes_of_the_demo() -> list[str]:
    """Command lines of services the demo starts that run now."""
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in found.stdout.splitlines() if re.search(r"-m examples\.demo\.\w", line)]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture
def ports() -> str:
    """The first of five free ports in a row, below those the system hands out itself."""
    rows = (range(first, first + 5) for first in random.sample(range(12000, 32000, 5), 200))
    return str(next(row for row in rows if all(map(is_free, row)))[0])


def test_the_embedded_demo_holds_what_it_promises(ports: str, tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    done = demo("--port", ports, "--picture", str(picture))
    assert_it_held(done)
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert picture.read_text().startswith("<svg")
    assert processes_of_the_demo() == []


def test_the_very_same_demo_holds_on_a_real_nacos(
    ports: str, nacos_settings: dict[str, object]
) -> None:
    done = demo("--port", ports, "--nacos", str(nacos_settings["server_addr"]))
    assert_it_held(done)


def test_a_port_in_use_is_named_before_anything_starts(free_port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        done = demo("--port", str(free_port))
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"port {free_port}, meant for lite-registry, is taken; "
        "free it or choose others: make demo PORT=7200"
    )


def test_a_nacos_nobody_runs_is_one_clear_line(ports: str) -> None:
    done = demo("--port", ports, "--nacos", "127.0.0.1:1")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "127.0.0.1:1" in done.stderr
    assert "check the address and that the server is up" in done.stderr
    assert processes_of_the_demo() == []


def test_a_wrong_password_is_one_clear_line_that_does_not_show_it(
    ports: str, nacos_settings: dict[str, object]
) -> None:
    done = demo(
        "--port",
        ports,
        "--nacos",
        str(nacos_settings["server_addr"]),
        environment={"NACOS_PASSWORD": "wr0ng-password"},
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "check username and password" in done.stderr
    assert "wr0ng-password" not in done.stdout + done.stderr
    assert processes_of_the_demo() == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_stops_everything_it_started(
    ports: str, how: signal.Signals, start: Callable[..., subprocess.Popen[str]]
) -> None:
    program = start("-m", "examples.demo", "--port", ports, "--keep")
    deadline = time.monotonic() + 30
    while len(processes_of_the_demo()) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(processes_of_the_demo()) >= 4, f"it ended with {program.poll()}"
    program.send_signal(how)
    assert program.wait(15) == 130
    assert processes_of_the_demo() == []
