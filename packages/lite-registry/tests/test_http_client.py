import asyncio
from collections.abc import AsyncIterator

import pytest

from lite_registry.http_client import HttpClient, HttpClientError, HttpResponse, SilenceError


class Peer:
    """Answers every connection with the same bytes, then closes or stays silent."""

    def __init__(self) -> None:
        self.says = b""
        self.silent = False
        self.url = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(self.says)
        if self.silent:
            await reader.read()
        writer.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield peer
    server.close()


@pytest.mark.parametrize(
    ("says", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok"),
    ],
)
async def test_a_response_is_read_however_it_is_framed(
    peer: Peer, says: bytes, status: int, body: bytes
) -> None:
    peer.says = says
    response = await HttpClient(peer.url).request("GET", "/")
    assert (response.status, response.body) == (status, body)


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (b"", "closed before a response came"),
        (b"SSH-2.0-x\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", "cut in the middle"),
    ],
)
async def test_an_incomplete_response_is_an_error(peer: Peer, says: bytes, message: str) -> None:
    peer.says = says
    with pytest.raises(HttpClientError, match=message):
        await HttpClient(peer.url).request("GET", "/")


async def test_a_silent_server_is_an_error(peer: Peer) -> None:
    peer.silent = True
    with pytest.raises(SilenceError, match=r"nothing arrived for 0\.02 s"):
        await HttpClient(peer.url, silence_seconds=0.02).request("GET", "/")


async def test_an_unreachable_server_is_named() -> None:
    with pytest.raises(HttpClientError, match=r"^127\.0\.0\.1:1: "):
        await HttpClient("http://127.0.0.1:1").request("GET", "/")


async def test_a_connection_that_takes_too_long_is_an_error() -> None:
    with pytest.raises(HttpClientError, match="no connection within 0 s"):
        await HttpClient("http://127.0.0.1:1", connect_seconds=0.0).request("GET", "/")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000])
def test_a_body_that_is_not_an_object_is_an_error(body: bytes) -> None:
    with pytest.raises(HttpClientError, match=r"the response is not (JSON|a JSON object)"):
        HttpResponse(200, {}, body).json()
