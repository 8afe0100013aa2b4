"""pytest fixtures: `fake_mesh`, and a `service_client` that calls its instances.

    pytest_plugins = ["microservice_client.testing.fixtures"]

The async fixture needs anyio's pytest plugin (`anyio_mode = "auto"`, or a mark).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from microservice_client import AsyncServiceClient

from .mesh import FakeMesh

__all__ = ("fake_mesh", "service_client")


@pytest.fixture
def fake_mesh() -> FakeMesh:
    """A mesh without instances."""
    return FakeMesh()


@pytest.fixture
async def service_client(fake_mesh: FakeMesh) -> AsyncIterator[AsyncServiceClient]:
    """An open client of the mesh; the test fails if it leaves a response open."""
    async with AsyncServiceClient(fake_mesh.registry, transport=fake_mesh) as client:
        yield client
    assert fake_mesh.open_bodies == 0, f"{fake_mesh.open_bodies} responses were not closed"
