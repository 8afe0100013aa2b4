"""One real registration, one real call, one real configuration change, on a real Nacos."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import httpx
import pytest

from microservice_client import AsyncServiceClient, AsyncServiceTransport
from microservice_core import (
    ConfigPublisher,
    ServiceRegistry,
    open_config_center,
    open_service_registry,
)
from microservice_core.testing import eventually

POLL_SECONDS = 2.0


@pytest.fixture
def service_name() -> str:
    return f"greeter-{uuid4().hex[:10]}"


@pytest.fixture
async def registry(nacos_settings: dict[str, object]) -> AsyncIterator[ServiceRegistry]:
    settings = {**nacos_settings, "instance_poll_seconds": 0.5, "empty_hold_seconds": 1.0}
    async with open_service_registry("nacos", settings) as registry:
        yield registry


@pytest.fixture
async def publisher(
    nacos_settings: dict[str, object], service_name: str
) -> AsyncIterator[ConfigPublisher]:
    async with open_config_center("nacos", nacos_settings) as center:
        assert isinstance(center, ConfigPublisher)
        await center.publish_config(f"{service_name}.yaml", "greeting: hi")
        yield center
        await center.delete_config(f"{service_name}.yaml")


@pytest.fixture
async def service(
    start: Callable[..., subprocess.Popen[str]],
    answers: Callable[..., httpx.Response],
    free_port: int,
    service_name: str,
    publisher: ConfigPublisher,
    registry: ServiceRegistry,
) -> subprocess.Popen[str]:
    """The README's service, running as a process of its own."""
    program = start(
        "-m",
        "uvicorn",
        "--app-dir",
        "tests-integration/main_job",
        "greeter:app",
        "--port",
        str(free_port),
        environment={
            "MICROSERVICE_SERVICE_NAME": service_name,
            "MICROSERVICE_PORT": str(free_port),
            "MICROSERVICE_SERVICE_REGISTRY": "nacos",
            "MICROSERVICE_CONFIG_CENTER": "nacos",
            "MICROSERVICE_CONFIG_CENTER_SETTINGS": json.dumps(
                {"config_poll_seconds": POLL_SECONDS}
            ),
        },
    )
    answers(program, f"http://127.0.0.1:{free_port}/hello/Ada")
    # It registers once it listens.
    await eventually(lambda: registry.get_instances(service_name), lambda seen: len(seen) == 1)
    return program


async def test_a_registered_service_is_called_by_name_through_the_httpx_transport(
    service: subprocess.Popen[str], registry: ServiceRegistry, service_name: str
) -> None:
    await eventually(lambda: registry.get_instances(service_name), lambda seen: len(seen) == 1)
    async with (
        AsyncServiceClient(registry) as client,
        httpx.AsyncClient(transport=AsyncServiceTransport(client)) as http,
    ):
        response = await http.get(f"http://{service_name}/hello/Ada")
    response.raise_for_status()
    assert response.json() == "hi, Ada"


async def test_a_published_document_reaches_the_running_app_within_one_poll_interval(
    service: subprocess.Popen[str],
    publisher: ConfigPublisher,
    registry: ServiceRegistry,
    service_name: str,
) -> None:
    async with AsyncServiceClient(registry) as client:

        async def greet() -> str:
            return str((await client.get(service_name, "/hello/Ada")).json())

        await publisher.publish_config(f"{service_name}.yaml", "greeting: good evening")
        # 0.5 s: until Nacos itself shows a document it has accepted, and the call's own way.
        within = POLL_SECONDS + 0.5
        await eventually(greet, lambda said: said == "good evening, Ada", within_seconds=within)


async def test_an_invalid_document_changes_nothing_in_the_running_app(
    service: subprocess.Popen[str],
    publisher: ConfigPublisher,
    registry: ServiceRegistry,
    service_name: str,
) -> None:
    async with AsyncServiceClient(registry) as client:

        async def ask(path: str) -> str:
            return str((await client.get(service_name, path)).json())

        await publisher.publish_config(f"{service_name}.yaml", "greeting: [oops")
        problem = await eventually(lambda: ask("/problem"), bool, within_seconds=POLL_SECONDS + 1)
        assert "in line 1 it must be YAML" in problem
        assert await ask("/hello/Ada") == "hi, Ada"
        await publisher.publish_config(f"{service_name}.yaml", "greeting: welcome back")
        await eventually(
            lambda: ask("/hello/Ada"),
            lambda said: said == "welcome back, Ada",
            within_seconds=POLL_SECONDS + 1,
        )
        assert await ask("/problem") == ""


async def test_a_normal_stop_takes_the_service_out_within_two_seconds(
    service: subprocess.Popen[str], registry: ServiceRegistry, service_name: str
) -> None:
    await eventually(lambda: registry.get_instances(service_name), lambda seen: len(seen) == 1)
    began = time.monotonic()
    service.terminate()
    await eventually(
        lambda: registry.get_instances(service_name), lambda seen: not seen, within_seconds=2
    )
    assert time.monotonic() - began < 2
    assert service.wait(5) in {0, -15}
