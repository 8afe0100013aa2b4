from collections.abc import AsyncIterator, Iterator

import pytest

from nacos_client import AsyncNacosClient
from nacos_client.testing import FakeNacosServer


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> Iterator[FakeNacosServer]:
    with FakeNacosServer(password="s3cret") as server:
        yield server


@pytest.fixture
async def client(server: FakeNacosServer) -> AsyncIterator[AsyncNacosClient]:
    async with AsyncNacosClient(
        server.address,
        username="nacos",
        password="s3cret",
        config_poll_seconds=0.05,
        instance_poll_seconds=0.05,
        empty_hold_seconds=0.1,
    ) as client:
        yield client
