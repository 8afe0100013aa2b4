"""Starts a registry and four services, and calls the gateway in three lanes."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

HERE = Path(__file__).parent
MAX_WAIT_SECONDS = 120.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def run_module(*arguments: str, **environment: str) -> Iterator[None]:
    """Run `python -m ARGUMENTS` for as long as the block."""
    command = [sys.executable, "-m", *arguments]
    program = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        program.terminate()
        program.wait()


def run_service(
    name: str, registry: str, port: int = 0, lane: str = ""
) -> contextlib.AbstractContextManager[None]:
    return run_module(
        *("uvicorn", "--app-dir", str(HERE), f"{name}:app", "--port", str(port)),
        *("--log-level", "warning"),
        MICROSERVICE_SERVICE_REGISTRY="lite",
        MICROSERVICE_SERVICE_REGISTRY_SETTINGS=json.dumps({"url": registry}),
        MICROSERVICE_LANE=lane,
        MICROSERVICE_LEAVE_SECONDS="0",
    )


def wait_until_registered(registry: str, **expected: int) -> None:
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    with httpx.Client() as http:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):  # not listening yet
                services = http.get(f"{registry}/v1/instances").json()["services"]
                if {entry["service"]: entry["instances"] for entry in services} == expected:
                    return
            time.sleep(0.1)
    raise TimeoutError(f"not all were registered within {MAX_WAIT_SECONDS:.0f} s: {expected}")


def call(gateway: str, lane: str) -> list[str]:
    response = httpx.get(gateway, headers={"x-lane": lane} if lane else {}, timeout=15.0)
    path: list[str] = response.raise_for_status().json()
    return path


def main() -> None:
    ports = free_port(), free_port()
    registry, gateway = (f"http://127.0.0.1:{port}" for port in ports)
    with (
        run_module("lite_registry", "serve", "--port", str(ports[0]), "--log-level", "warning"),
        run_service("inventory", registry),
        run_service("inventory", registry, lane="dev"),
        run_service("orders", registry),
        run_service("gateway", registry, port=ports[1]),
    ):
        wait_until_registered(registry, gateway=1, orders=1, inventory=2)
        for lane in ("", "dev", "test"):
            print(f"x-lane: {lane or '-':5}  {' -> '.join(call(gateway, lane))}")


if __name__ == "__main__":
    main()
