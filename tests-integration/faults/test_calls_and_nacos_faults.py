"""Calls by name go on while a real Nacos is killed, restarted, and given a new key.

A server that has just started knows no instance for a moment. A client that believed its empty list
would fail every call until its next refresh.
"""

import asyncio
import base64
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from own_servers import OwnServers

from microservice_client import AsyncServiceClient
from microservice_core import ServiceInstance
from microservice_nacos import NacosServiceRegistry
from nacos_client import AsyncNacosClient
from nacos_client.testing.contract import wait_until

pytestmark = pytest.mark.timeout(400)

RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
PAUSE_SECONDS = 0.05
GOES_ON_SECONDS = 40.0  # beyond the time for which an empty list is held, and the lease


async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readline():
        while (await reader.readline()).strip():
            pass
        writer.write(RESPONSE)
    writer.close()


def connect(servers: OwnServers) -> AsyncNacosClient:
    environment = servers.environment()
    return AsyncNacosClient(
        environment["NACOS_SERVER_ADDR"],
        username=environment["NACOS_USERNAME"],
        password=environment["NACOS_PASSWORD"],
        instance_poll_seconds=1,
    )


class Calls:
    """Calls one service all the time, and keeps what failed."""

    def __init__(self, client: AsyncServiceClient, service: str) -> None:
        self.client = client
        self.service = service
        self.succeeded = 0
        self.failures: list[str] = []

    async def run(self) -> None:
        while True:
            try:
                await self.client.get(self.service, "/")
                self.succeeded += 1
            except Exception as error:  # noqa: BLE001 - every failure is what the test is about
                self.failures.append(repr(error))
            await asyncio.sleep(PAUSE_SECONDS)


@pytest.fixture
async def calls(nacos: OwnServers) -> AsyncIterator[Calls]:
    """Two instances that serve and are registered, and a client that refreshes often."""
    service = f"calls-{uuid.uuid4().hex}"
    async with AsyncExitStack() as stack:
        provider = NacosServiceRegistry(await stack.enter_async_context(connect(nacos)))
        for _ in range(2):
            server = await asyncio.start_server(respond, "127.0.0.1", 0)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
            await provider.register(ServiceInstance(service, "127.0.0.1", port))
        consumer = NacosServiceRegistry(await stack.enter_async_context(connect(nacos)))

        async def both_listed() -> bool:
            return len(await consumer.get_instances(service)) == 2

        await wait_until(both_listed, 30)
        client = await stack.enter_async_context(AsyncServiceClient(consumer, refresh_seconds=1.0))
        calls = Calls(client, service)
        running = asyncio.create_task(calls.run())
        stack.callback(running.cancel)
        yield calls


def kill(nacos: OwnServers) -> None:
    nacos.kill()
    nacos.up()


def restart(nacos: OwnServers) -> None:
    nacos.restart()


def rotate_key(nacos: OwnServers) -> None:
    key = base64.b64encode(os.urandom(48)).decode()
    nacos.restart(nacos__core__auth__plugin__nacos__token__secret__key=key)


@pytest.mark.parametrize("disturb", [kill, restart, rotate_key])
async def test_no_idempotent_call_fails(
    nacos: OwnServers, calls: Calls, disturb: Callable[[OwnServers], None]
) -> None:
    await wait_until(lambda: calls.succeeded >= 20, 30)
    await asyncio.to_thread(disturb, nacos)
    reached = calls.succeeded + int(GOES_ON_SECONDS / PAUSE_SECONDS / 2)
    await wait_until(lambda: calls.succeeded + len(calls.failures) >= reached, 2 * GOES_ON_SECONDS)
    assert calls.failures == []
