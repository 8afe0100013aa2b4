import asyncio
from collections.abc import AsyncIterator

import pytest

from lite_registry.http_client import Answer, HttpClient, HttpClientError, SilenceError


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
async def test_an_answer_is_read_however_it_is_framed(
    peer: Peer, says: bytes, status: int, body: bytes
) -> None:
    peer.says = says
    answer = await HttpClient(peer.url).ask("GET", "/")
    assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (b"", "closed before an answer came"),
        (b"SSH-2.0-x\r\n", "is no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", "cut in the middle"),
    ],
)
async def test_what_is_no_whole_answer_is_an_error(peer: Peer, says: bytes, told: str) -> None:
    peer.says = says
    with pytest.raises(HttpClientError, match=told):
        await HttpClient(peer.url).ask("GET", "/")


async def test_a_server_that_says_nothing_is_given_up(peer: Peer) -> None:
    peer.silent = True
    with pytest.raises(SilenceError, match=r"silence for 0\.02 s"):
        await HttpClient(peer.url, silence_seconds=0.02).ask("GET", "/")


async def test_nobody_there_is_told_with_the_address() -> None:
    with pytest.raises(HttpClientError, match=r"^127\.0\.0\.1:1: "):
        await HttpClient("http://127.0.0.1:1").ask("GET", "/")


async def test_a_connection_that_does_not_come_about_is_given_up() -> None:
    with pytest.raises(HttpClientError, match="no connection within 0 s"):
        await HttpClient("http://127.0.0.1:1", connect_seconds=0.0).ask("GET", "/")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000])
def test_what_is_no_object_is_said(body: bytes) -> None:
    with pytest.raises(HttpClientError, match="the answer is no JSON"):
        Answer(200, {}, body).json()
