"""Both connection layers against a real socket, by the same expectations."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from microservice_client import AsyncServiceClient, ConnectionLayer, ServicePolicy
from microservice_client.http.aiohttp_transport import AiohttpTransport
from microservice_client.http.connections import choose_pool_factory

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
POLICY = ServicePolicy(attempts=1, attempt_timeout_seconds=0.3, total_timeout_seconds=5)


@pytest.fixture(params=["httpx", "aiohttp"])
def layer(request: pytest.FixtureRequest) -> ConnectionLayer:
    return request.param  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def serving(
    serve: Serve, layer: ConnectionLayer, **fields: object
) -> AsyncIterator[AsyncServiceClient]:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    policy = POLICY.model_copy(update=fields)
    async with (
        server,
        AsyncServiceClient.from_addresses(
            {"orders": [f"http://127.0.0.1:{port}"]}, connection_layer=layer, default_policy=policy
        ) as client,
    ):
        yield client


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    if b"content-length: " in lowered:
        length = int(lowered.split(b"content-length: ")[1].split(b"\r\n")[0])
        return head + await reader.readexactly(length)
    if b"transfer-encoding: chunked" in lowered:
        return head + await reader.readuntil(b"0\r\n\r\n")
    return head


def answering(raw: bytes, seen: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                request = await read_request(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            if seen is not None:
                seen.append(request)
            writer.write(raw)
            with contextlib.suppress(ConnectionError):
                await writer.drain()

    return serve


OK = b"HTTP/1.1 200 Fine\r\ncontent-length: 2\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\nok"


async def test_a_response_is_the_same_on_both(layer: ConnectionLayer) -> None:
    seen: list[bytes] = []
    async with serving(answering(OK, seen), layer) as client:
        response = await client.put("orders", "/a%20b?c=%C3%BC", json={"a": 1})
        again = await client.get("orders", "/")
    assert (response.text, response.status_code, response.reason_phrase) == ("ok", 200, "Fine")
    assert response.http_version == "HTTP/1.1"
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert seen[0].startswith(b"PUT /a%20b?c=%C3%BC HTTP/1.1\r\n")
    assert seen[0].endswith(b'{"a":1}')
    assert seen[0].lower().count(b"\r\nhost: 127.0.0.1:") == 1
    assert seen[0].lower().count(b"\r\nuser-agent: python-microservice-client\r\n") == 1
    assert b"cookie" not in seen[1].lower().split(b"\r\n\r\n")[0]
    assert again.status_code == 200


async def test_an_upload_is_streamed_on_both(layer: ConnectionLayer) -> None:
    seen: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    async with serving(answering(OK, seen), layer) as client:
        await client.post("orders", "/", content=body())
    assert b"abc" in seen[0]
    assert b"def" in seen[0]
    assert seen[0].lower().count(b"transfer-encoding: chunked") == 1


async def test_a_stream_is_read_as_it_comes_on_both(layer: ConnectionLayer) -> None:
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await writer.drain()
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        await writer.drain()

    async with (
        serving(serve, layer, attempt_timeout_seconds=5) as client,
        client.stream("GET", "orders", "/") as response,
    ):
        chunks = response.aiter_bytes()
        assert await anext(chunks) == b"one"
        go_on.set()
        assert [chunk async for chunk in chunks] == [b"two"]


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await reader.read()


async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    await writer.drain()


async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"what?\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize("serve", [hang_up, say_nothing, talk_nonsense])
async def test_a_request_that_went_out_is_not_taken_for_one_that_did_not(
    serve: Serve, layer: ConnectionLayer
) -> None:
    calls = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await serve(reader, writer)

    async with serving(counted, layer, attempts=3) as client:
        with pytest.raises(httpx.TransportError):
            await client.post("orders", "/")
    assert calls == 1


async def test_a_body_that_breaks_off_is_an_error_on_both(layer: ConnectionLayer) -> None:
    async with serving(break_off, layer) as client:
        with pytest.raises(httpx.ReadError, match="broke off"):
            await client.get("orders", "/")


async def test_a_body_that_stops_coming_is_an_error_on_both(layer: ConnectionLayer) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        await reader.read()

    async with serving(serve, layer) as client:
        with pytest.raises(httpx.ReadError, match="broke off"):
            await client.get("orders", "/")


async def test_nobody_listening_is_a_request_never_sent(layer: ConnectionLayer) -> None:
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with AsyncServiceClient.from_addresses(
        {"orders": [f"http://127.0.0.1:{port}"]},
        connection_layer=layer,
        default_policy=ServicePolicy(attempts=2, backoff_seconds=0),
    ) as client:
        with pytest.raises(httpx.TransportError) as caught:
            await client.post("orders", "/")
    assert [one.outcome for one in caught.value.attempts] == ["ConnectError"] * 2  # type: ignore[attr-defined]


async def test_a_limit_of_connections_is_kept_on_both(layer: ConnectionLayer) -> None:
    open_now = most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await answering(OK)(reader, writer)
        open_now -= 1

    async with serving(
        serve,
        layer,
        max_connections_per_instance=2,
        connect_timeout_seconds=5.0,
        attempt_timeout_seconds=5.0,
    ) as client:
        await asyncio.gather(*(client.get("orders", "/") for _ in range(20)))
    assert most <= 2


def test_auto_takes_aiohttp_where_it_is_installed() -> None:
    assert choose_pool_factory("auto") is AiohttpTransport


async def test_closing_what_was_never_used_is_fine() -> None:
    import ssl

    # Neither raises nor leaves a session: an unclosed one is a warning, and warnings are errors.
    transport = AiohttpTransport(POLICY, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    await transport.aclose()
    await transport.aclose()


async def test_a_second_protocol_is_spoken_where_the_policy_says_so() -> None:
    async with serving(answering(OK), "auto", http2=True) as client:
        assert (await client.get("orders", "/")).http_version == "HTTP/1.1"


CLOSING = OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)


@pytest.mark.parametrize("answer", [OK, CLOSING], ids=["kept", "closed"])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("again_after", [None, 0, 1, 2], ids=lambda turns: f"again-{turns}")
# anyio, below httpx, leaves a socket to the collector when it is cancelled as the socket connects.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_call_cancelled_at_any_moment_gives_its_connection_back(
    layer: ConnectionLayer, answer: bytes, streamed: bool, again_after: int | None
) -> None:
    async def call() -> None:
        if not streamed:
            await client.get("orders", "/")
            return
        async with client.stream("GET", "orders", "/") as response:
            await response.aread()

    served = serving(answering(answer), layer, max_connections_per_instance=1)
    async with served as client:
        for turns in range(60):
            calling = asyncio.create_task(call())
            await turns_of_the_loop(turns)
            calling.cancel()
            if again_after is not None:
                await turns_of_the_loop(again_after)
                calling.cancel()
            await asyncio.wait([calling])
            assert (await client.get("orders", "/")).text == "ok", f"after {turns} turns"
    gc.collect()


async def turns_of_the_loop(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
