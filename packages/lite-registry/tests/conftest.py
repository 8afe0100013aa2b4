from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from lite_registry import LiteRegistryServer
from lite_registry.http_client import HttpClient

# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server() -> AsyncIterator[LiteRegistryServer]:
    async with LiteRegistryServer(port=0) as server:
        yield server


@pytest.fixture
def client(server: LiteRegistryServer) -> HttpClient:
    return HttpClient(server.url)
