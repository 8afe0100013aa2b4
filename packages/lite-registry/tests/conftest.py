from collections.abc import AsyncIterator

import pytest

from lite_registry import LiteRegistryServer
from lite_registry.http_client import HttpClient


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
