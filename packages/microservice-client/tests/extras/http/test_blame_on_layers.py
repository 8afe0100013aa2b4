"""On both connection layers, a caller's mistakes count against no instance, and its faults do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import httpx
import pytest

from microservice_client import (
    AsyncServiceClient,
    CallFailedError,
    CallTimeoutError,
    ConnectionLayer,
    ServiceCallError,
    ServicePolicy,
)
from microservice_client.http.aiohttp_transport import convert_error
from microservice_core import InvalidValueError
from microservice_governance import deadline

POLICY = ServicePolicy(attempts=1, breaker_failures=1)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture(params=["httpx", "aiohttp"])
def layer(request: pytest.FixtureRequest) -> ConnectionLayer:
    return request.param  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def serving(
    layer: ConnectionLayer, response: bytes = OK
) -> AsyncIterator[AsyncServiceClient]:
    """A client of one instance, which responds as soon as a request has come as a whole."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if b"content-length: " in head:
                    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                    await reader.readexactly(length)
                elif b"transfer-encoding: chunked" in head:
                    await reader.readuntil(b"0\r\n\r\n")
                if response:
                    writer.write(response)
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    addresses = {"orders": [f"http://127.0.0.1:{port}"]}
    async with (
        server,
        AsyncServiceClient.from_addresses(
            addresses, connection_layer=layer, default_policy=POLICY
        ) as client,
    ):
        yield client


async def failing(error: Exception) -> AsyncIterator[bytes]:
    yield b"first"
    raise error


async def short() -> AsyncIterator[bytes]:
    yield b"first"


def states(client: AsyncServiceClient) -> set[str]:
    return set(client.breaker_states("orders").values())


@pytest.mark.parametrize(
    "error",
    [LookupError("mine"), OSError("mine"), httpx.ReadError("mine"), TimeoutError("mine")],
    ids=["LookupError", "OSError", "ReadError", "TimeoutError"],
)
async def test_an_error_of_the_callers_body_reaches_the_caller(
    layer: ConnectionLayer, error: Exception
) -> None:
    async with serving(layer) as client:
        with pytest.raises(type(error), match="mine") as caught:
            await client.post("orders", "/", content=failing(error))
        assert caught.value is error
        assert states(client) == {"closed"}
        assert (await client.get("orders", "/")).text == "ok"


@pytest.mark.parametrize("declared", ["4", "10"])
async def test_a_body_of_another_length_is_refused(layer: ConnectionLayer, declared: str) -> None:
    async with serving(layer) as client:
        headers = {"content-length": declared}
        with pytest.raises(InvalidValueError, match=rf"{declared} bytes long"):
            await client.post("orders", "/", content=short(), headers=headers)
        assert states(client) == {"closed"}
        assert (await client.get("orders", "/")).text == "ok"


async def test_an_inherited_deadline_counts_against_no_instance(layer: ConnectionLayer) -> None:
    async with serving(layer, response=b"") as client:
        with deadline(0.05), pytest.raises(CallTimeoutError):
            await client.get("orders", "/")
        assert states(client) == {"closed"}


@pytest.mark.parametrize("response", [b"no HTTP\r\n\r\n", OK[:-1].replace(b"2", b"x")])
async def test_what_is_no_http_counts_against_the_instance(
    layer: ConnectionLayer, response: bytes
) -> None:
    async with serving(layer, response) as client:
        with pytest.raises(ServiceCallError) as caught:
            await client.get("orders", "/")
        assert isinstance(caught.value, CallFailedError)
        assert states(client) == {"open"}


def test_every_error_of_aiohttp_becomes_one_of_httpx() -> None:
    request = httpx.Request("GET", "http://orders/")
    assert type(convert_error(aiohttp.InvalidURL("x"), request)) is httpx.LocalProtocolError
    for kind in (
        aiohttp.ServerDisconnectedError,
        aiohttp.ClientPayloadError,
        aiohttp.ClientConnectionError,
        aiohttp.ClientConnectionResetError,
        aiohttp.ClientOSError,
        aiohttp.SocketTimeoutError,
        aiohttp.ConnectionTimeoutError,
        aiohttp.ClientError,
        ConnectionResetError,
        TimeoutError,
    ):
        assert isinstance(convert_error(kind("x"), request), httpx.TransportError)
