"""pytest fixtures: `opened_app`, the application of the fixture `microservice`, opened for a test.

    pytest_plugins = ["microservice_kit.testing.fixtures"]

    @pytest.fixture
    def microservice():
        return orders.micro, orders.app

The async fixture needs anyio's pytest plugin (`anyio_mode = "auto"`, or a mark).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from microservice_core import MissingDependencyError
from microservice_kit.asgi_types import App
from microservice_kit.web.asgi import Microservice

from .app import OpenedApp, open_app

try:
    import pytest
except ImportError as error:
    raise MissingDependencyError("fixtures", "microservice-kit[testing]") from error

__all__ = ("config_documents", "microservice", "opened_app")


@pytest.fixture
def microservice() -> tuple[Microservice[Any], App | None]:
    """What is tested; define a fixture of this name that returns it."""
    raise pytest.UsageError(
        "define a fixture `microservice` that returns the Microservice and its application: "
        "`return micro, app`"
    )


@pytest.fixture
def config_documents() -> Mapping[str, str]:
    """The documents that the application starts with, by data id; none by default."""
    return {}


@pytest.fixture
async def opened_app(
    microservice: tuple[Microservice[Any], App | None], config_documents: Mapping[str, str]
) -> AsyncIterator[OpenedApp]:
    """The open application; the test fails if it leaves a response of another service open."""
    micro, app = microservice
    async with open_app(micro, app, documents=config_documents) as opened:
        yield opened
    assert opened.mesh.open_bodies == 0, f"{opened.mesh.open_bodies} responses were not closed"
