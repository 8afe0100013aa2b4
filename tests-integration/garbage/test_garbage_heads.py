"""Whatever a server or proxy sends as the head of a response, every client stands it.

The clients of the registry, of Nacos, of the lane routes and of other services each get broken heads:
none may end in anything but an error of its own package, and none may hang.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

import httpx
import pytest

from lane_router.route_table.registry_client import RegistryClient, RegistryUnreachableError
from lite_registry.http_client import HttpClient, HttpClientError
from lite_registry.provider import LiteServiceRegistry
from microservice_client import AsyncServiceClient, ServiceCallError, ServicePolicy
from microservice_core import ServiceRegistryError
from nacos_client import AsyncNacosClient, NacosError

EXAMPLES = 150
BODY = b'{"instances": [], "services": {}, "code": 0, "data": null}'
HEADS = [
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY),
    b"HTTP/1.1 503 Unavailable\r\nretry-after: 1\r\ncontent-length: %d\r\n\r\n" % len(BODY),
    b"HTTP/1.1 429 Slow\r\nRetry-After: Mon, 01 Jan 2026 00:00:00 GMT\r\ndate: x\r\n\r\n",
    b'HTTP/1.1 304 Not Modified\r\netag: W/"v1"\r\nage: 7\r\n\r\n',
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-encoding: gzip\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nlocation: http://[::1/%zz\r\nset-cookie: a=b; expires=never\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-type: text/\xff; charset=no-such-charset\r\ncontent-length: 2\r\n\r\n\xff\xfe",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
]  # fmt: skip
PIECES = [
    *(b"\xc2\xb2", b"-1", b"9" * 400, b"\x00", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\xff"),
    *(b"NaN", b"1e999", b"99999999999999999999", b'"', b",", b"chunked", b"gzip", b"br"),
]


def mutate(rng: random.Random) -> bytes:
    """A response whose head is broken in a few places."""
    data = bytearray(rng.choice(HEADS) + BODY)
    for _ in range(rng.randint(0, 6)):
        position = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[position] = rng.randrange(256)
            case 1:
                del data[position : position + rng.randint(1, 12)]
            case _:
                data[position:position] = rng.choice(PIECES)
        data = data or bytearray(b"\x00")
    return bytes(data)


class GarbageServer:
    """Sends the next response to each request, and closes the connection."""

    def __init__(self) -> None:
        self.response = b""
        self.address = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(65_536)
            writer.write(self.response)
            await writer.drain()
            writer.close()
            await writer.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[GarbageServer]:
    garbage = GarbageServer()
    async with await asyncio.start_server(garbage, "127.0.0.1", 0) as listener:
        host, port = listener.sockets[0].getsockname()
        garbage.address = f"{host}:{port}"
        yield garbage


async def survive(
    server: GarbageServer,
    ask: Callable[[], Awaitable[object]],
    expected: tuple[type[Exception], ...],
) -> None:
    rng = random.Random(16)
    for _ in range(EXAMPLES):
        server.response = mutate(rng)
        try:
            async with asyncio.timeout(20):
                await ask()
        except expected:
            pass
        except BaseException as error:
            error.add_note(f"the response was {server.response!r}")
            raise


async def test_the_client_of_lite_registry(server: GarbageServer) -> None:
    client = HttpClient(f"http://{server.address}", silence_seconds=1.0)

    async def ask() -> None:
        (await client.request("GET", "/v1/routes")).json()

    await survive(server, ask, (HttpClientError,))


async def test_the_provider_of_lite_registry(server: GarbageServer) -> None:
    async with LiteServiceRegistry(f"http://{server.address}", timeout_seconds=1.0) as registry:
        await survive(server, lambda: registry.get_instances("orders"), (ServiceRegistryError,))


async def test_the_poller_of_lane_routes(server: GarbageServer) -> None:
    client = RegistryClient(f"http://{server.address}", timeout_seconds=1.0)
    await survive(server, lambda: asyncio.to_thread(client.get_routes), (RegistryUnreachableError,))


async def test_the_client_of_nacos(server: GarbageServer) -> None:
    async with AsyncNacosClient(server.address, timeout_seconds=1.0, login_attempts=1) as client:

        async def ask() -> None:
            await client.config.get("a.yaml")
            await client.naming.instances("orders")

        await survive(server, ask, (NacosError,))


@pytest.mark.parametrize("layer", ["auto", "httpx"])
async def test_the_client_of_services(
    server: GarbageServer, layer: Literal["auto", "httpx"]
) -> None:
    # No breaker: after the first garbage it would keep the client from reading more.
    once = ServicePolicy(attempts=1, breaker_failures=10_000)
    async with AsyncServiceClient.from_addresses(
        {"orders": [f"http://{server.address}"]}, connection_layer=layer
    ) as client:

        async def ask() -> None:
            response = await client.get("orders", "/", policy=once, timeout=1.0)
            response.text  # noqa: B018 - decoded here

        await survive(server, ask, (ServiceCallError, httpx.HTTPError))
