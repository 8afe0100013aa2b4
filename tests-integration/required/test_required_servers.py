"""A test without its server: skipped and counted, or a failure where the server is required."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from required_servers import is_required, server_of

HERE = Path(__file__).parent

TESTS = """
import pytest
from required_servers import read_variable, servers_command, skip_without

@pytest.fixture(scope="session")
def nacos():
    return read_variable("NACOS_SERVER_ADDR")

def test_one(nacos): ...
def test_another(nacos): ...
def test_with_a_cluster(): servers_command("nacos-cluster")
def test_with_redis(): assert read_variable("REDIS_URL") == "redis://there"
def test_with_a_program(): skip_without("chromium", "not installed")
"""

ANONYMOUS = "import pytest\ndef test_it(): pytest.skip('for no reason')\n"

EXPECTED_TO_FAIL = "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_it(): assert False\n"


def run(folder: Path, tests: str = TESTS, **environment: str) -> "subprocess.CompletedProcess[str]":
    """pytest on these tests, with nothing set but REDIS_URL and a command that has no Nacos."""
    (folder / "test_it.py").write_text(tests)
    command = folder / "servers"
    command.write_text('#!/bin/sh\ncase "$1 $2" in "have nacos"*) exit 1;; esac\n')
    command.chmod(0o755)
    known = {key: os.environ[key] for key in ("PATH", "SYSTEMROOT") if key in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "required_servers", "-p", "no:cacheprovider",
         "--rootdir", str(folder), str(folder)],
        env=known | {"PYTHONPATH": str(HERE), "REDIS_URL": "redis://there",
                     "REFERENCE_SERVERS": str(command)} | environment,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_missing_server_is_a_skip_that_is_counted(tmp_path: Path) -> None:
    done = run(tmp_path, NOT_RUN=str(tmp_path / "not-run"))
    assert done.returncode == 0, done.stdout
    assert "1 passed, 4 skipped" in done.stdout
    assert "nacos: 3 tests" in done.stdout
    assert "chromium: 1 tests" in done.stdout
    lines = (tmp_path / "not-run").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["nacos", "nacos", "nacos", "chromium"]
    assert "NACOS_SERVER_ADDR is not set" in lines[0].split("\t")[2]


def test_a_server_that_is_required_and_missing_is_a_failure(tmp_path: Path) -> None:
    done = run(tmp_path, REQUIRE_SERVERS="kube nacos redis")
    assert done.returncode == 1
    assert "1 failed, 1 passed, 1 skipped, 2 errors" in done.stdout
    assert "skipped although REQUIRE_SERVERS asks for nacos: " in done.stdout


def test_a_server_that_is_not_required_may_be_missing(tmp_path: Path) -> None:
    done = run(tmp_path, REQUIRE_SERVERS="kube redis")
    assert done.returncode == 0, done.stdout
    assert "1 passed, 4 skipped" in done.stdout


def test_one_requires_all(tmp_path: Path) -> None:
    done = run(tmp_path, REQUIRE_SERVERS="1")
    assert "2 failed, 1 passed, 2 errors" in done.stdout


@pytest.mark.parametrize("required", ["1", "redis"])
def test_a_skip_that_names_no_server_is_a_failure_where_any_is_required(
    tmp_path: Path, required: str
) -> None:
    assert "1 failed" in run(tmp_path, ANONYMOUS, REQUIRE_SERVERS=required).stdout
    assert "1 skipped" in run(tmp_path, ANONYMOUS).stdout


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    assert "1 xfailed" in run(tmp_path, EXPECTED_TO_FAIL, REQUIRE_SERVERS="1").stdout


def test_the_list_may_have_commas() -> None:
    assert is_required("redis", "kube,redis")
    assert not is_required("nacos", "kube,redis")
    assert not is_required("nacos", "")


def test_a_variable_belongs_to_a_server() -> None:
    assert server_of("NACOS_PASSWORD") == server_of("POD_NACOS_SERVER_ADDR") == "nacos"
    assert server_of("KUBECONFIG") == server_of("KUBEBUILDER_ASSETS") == "kube"
    assert server_of("OTEL_EXPORTER_OTLP_ENDPOINT") == "otel-collector"
