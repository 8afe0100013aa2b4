"""A service that cannot start ends, and its last words say what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def start_hello(port: int, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "uvicorn",
            "--app-dir",
            "examples/hello",
            "app:app",
            "--port",
            f"{port}",
        ],
        cwd=ROOT,
        env={**os.environ, **{f"MICROSERVICE_{key}": value for key, value in environment.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {"SERVICE_REGISTRY": "consul"},
            "no service_registry provider named 'consul' (installed: lite, memory, nacos); use one",
        ),
        (
            {
                "SERVICE_REGISTRY": "nacos",
                "SERVICE_REGISTRY_SETTINGS": '{"server_addr": "127.0.0.1:1"}',
                "PORT": "8000",
            },
            "check the address and that the server is up",
        ),
        (
            {"LANE": "Not a lane!"},
            "lane must be valid (string should match pattern",
        ),
        (
            {"PORT": "eighty"},
            "port must be valid (input should be a valid integer",
        ),
    ],
    ids=["unknown provider", "unreachable nacos", "illegal lane", "illegal port"],
)
def test_what_is_wrong_is_the_last_line_of_the_error(
    free_port: int, environment: dict[str, str], line: str
) -> None:
    done = start_hello(free_port, **environment)
    assert done.returncode != 0
    last = [text for text in done.stderr.splitlines() if "startup failed" not in text and text]
    assert line in last[-1]


def test_an_invalid_document_at_the_start_says_where_it_is_wrong(
    free_port: int, tmp_path: Path
) -> None:
    (tmp_path / "greeter.yaml").write_text("greeting: [oops\n")
    settings = f'{{"folder": "{tmp_path}"}}'
    done = start_hello(free_port, CONFIG_CENTER="file", CONFIG_CENTER_SETTINGS=settings)
    assert done.returncode != 0
    assert "configuration 'greeter.yaml' is invalid: in line 2 it must be YAML" in done.stderr
    assert "correct and publish it" in done.stderr
