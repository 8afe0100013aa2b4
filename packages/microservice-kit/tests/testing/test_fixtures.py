"""The pytest fixtures: the application of a fixture of the test's own, opened for each test."""

import sys
from collections.abc import Mapping
from importlib import import_module, reload
from typing import Any

import httpx
import pytest

from microservice_core import MissingDependencyError
from microservice_kit import Microservice
from microservice_kit.asgi_types import App, Message, Receive, Send
from microservice_kit.testing import OpenedApp, open_app


async def greet(scope: Message, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def microservice() -> tuple[Microservice[Any], App | None]:
    return Microservice(app=greet, service_name="greeter", config_center="nacos"), None


@pytest.fixture
def config_documents() -> Mapping[str, str]:
    return {"greeter.yaml": ""}


async def test_the_application_is_open_and_has_its_documents(opened_app: OpenedApp) -> None:
    assert (await opened_app.http.get("/")).text == "hello"
    assert (await opened_app.http.get("/health/ready")).status_code == 200
    assert opened_app.module.config.text("greeter.yaml") == ""
    await opened_app.mesh.start("stock", "10.0.0.1:80", lambda _: httpx.Response(200))
    assert len(await opened_app.registry.get_instances("stock")) == 1
    assert (await opened_app.module.service_client.get("stock", "/")).status_code == 200


def test_without_pytest_the_line_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = import_module("microservice_kit.testing.fixtures")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pytest", None)
        with pytest.raises(MissingDependencyError, match=r"microservice-kit\[testing\]"):
            reload(module)
    reload(module)


async def test_a_microservice_that_is_open_is_refused() -> None:
    micro = Microservice(app=greet)
    async with open_app(micro):
        with pytest.raises(ValueError, match="micro must be a microservice that is not open yet"):
            async with open_app(micro):
                pytest.fail("it must not open")
