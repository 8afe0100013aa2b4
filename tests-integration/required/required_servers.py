"""Which real servers the tests may use, and what the absence of one means.

A test without its server is skipped and says which it lacks. REQUIRE_SERVERS names those whose
absence is a failure (`kube redis`; `1` for all), as the gate does for whatever it has started. What
was skipped is counted at the end, and written to the file that NOT_RUN names: server, test, reason.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections import Counter
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

# What a variable's name begins with, and the server it belongs to; the first that fits.
SERVERS_BY_PREFIX = {
    "NACOS_": "nacos",
    "POD_NACOS_": "nacos",
    "REDIS_": "redis",
    "POD_REDIS_": "redis",
    "KUBE": "kube",
    "CONSUL_": "consul",
    "ETCD_": "etcd",
    "EUREKA_": "eureka",
    "SPRING_CONFIG_": "spring-config",
    "APOLLO_": "apollo",
    "PROMETHEUS_": "prometheus",
    "OTEL_": "otel-collector",
}

NOBODY = "unknown"
"""In place of a server's name where a skip does not say what it lacks."""

_skipped: list[tuple[str, str, str]] = []


def skip_without(server: str, reason: str) -> NoReturn:
    """Skip the test because of this server, or this program, which is not there."""
    skipped = pytest.skip.Exception(f"{reason} (needs {server})")
    skipped.server = server  # type: ignore[attr-defined] # read by the hook below
    raise skipped


def read_variable(name: str) -> str:
    """The variable's value, or a skip that names it and the server it belongs to."""
    value = os.environ.get(name, "")
    if not value:
        skip_without(server_of(name), f"{name} is not set: no server to test against")
    return value


def server_of(variable: str) -> str:
    """The server that an environment variable tells of."""
    found = (server for prefix, server in SERVERS_BY_PREFIX.items() if variable.startswith(prefix))
    return next(found, variable)


def servers_command(server: str) -> str:
    """The command that starts and disturbs this server, or a skip: REFERENCE_SERVERS."""
    command = os.environ.get("REFERENCE_SERVERS", "")
    kind = server.removesuffix("-cluster").removesuffix("-open")
    if not command:
        skip_without(kind, "REFERENCE_SERVERS is not set: no command to start a server with")
    if not can_start(command, server):
        skip_without(kind, f"`{command} have {server}` says it cannot be started here")
    return command


@cache
def can_start(command: str, server: str) -> bool:
    """What the command says to `have SERVER`: 1 means that it is not at hand."""
    asked = [*shlex.split(command), "have", server]
    return subprocess.run(asked, capture_output=True, check=False).returncode != 1


def is_required(server: str, required: str) -> bool:
    """Whether REQUIRE_SERVERS names the server; a skip that names none is never allowed by it."""
    names = required.replace(",", " ").split()
    return bool(names) and (names == ["1"] or server in {NOBODY, *names})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where its server is required; count it otherwise."""
    report = yield
    if not report.skipped or hasattr(report, "wasxfail"):
        return report
    server = str(getattr(call.excinfo and call.excinfo.value, "server", NOBODY))
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if is_required(server, os.environ.get("REQUIRE_SERVERS", "")):
        report.outcome = "failed"
        report.longrepr = f"skipped although REQUIRE_SERVERS asks for {server}: {reason}"
    else:
        _note(server, item.nodeid, reason)
    return report


def _note(server: str, test: str, reason: str) -> None:
    _skipped.append((server, test, reason))
    if name := os.environ.get("NOT_RUN"):
        with Path(name).open("a", encoding="utf-8") as file:
            file.write("\t".join((server, test, " ".join(reason.split()))) + "\n")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a server that was missing."""
    if _skipped:
        terminalreporter.section("not run for want of a server")
        for server, count in sorted(Counter(server for server, _, _ in _skipped).items()):
            terminalreporter.write_line(f"{server}: {count} tests")
