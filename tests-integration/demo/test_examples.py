"""The README's service, started as its README says."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import httpx


def test_the_hello_service_answers(
    start: Callable[..., subprocess.Popen[str]],
    answers: Callable[..., httpx.Response],
    free_port: int,
) -> None:
    program = start(
        "-m", "uvicorn", "--app-dir", "examples/hello", "app:app", "--port", str(free_port)
    )
    answer = answers(program, f"http://127.0.0.1:{free_port}/hello/Ada")
    assert answer.json() == "hello, Ada"
    program.terminate()
    assert program.wait(10) in {0, -15}
