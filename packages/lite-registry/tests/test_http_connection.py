"""The wire: clients that send wrong, slowly, or too much."""

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lite_registry.errors import Problem
from lite_registry.http_connection import Limits
from lite_registry.http_listener import HttpListener
from lite_registry.request import Outcome, Request
from lite_registry.response import AnyResponse, Response, StreamResponse

SMALL = Limits(
    target_bytes=64,
    header_bytes=512,
    headers=8,
    body_bytes=100,
    connections=3,
    pipelined=4,
    request_seconds=0.2,
    idle_seconds=0.4,
    write_seconds=0.4,
)


class Wire:
    """A listener with a handler, and raw connections to it."""

    def __init__(self, listener: HttpListener, port: int) -> None:
        self.listener = listener
        self.port = port

    async def exchange(self, *pieces: bytes) -> bytes:
        """Send the bytes and read until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            received = await reader.read()
        writer.close()
        return received


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("not within 5 s")


def echo(request: Request) -> Outcome:
    if request.target == b"/stream":
        return StreamResponse(_send_pieces(), "text/plain")
    if request.target == b"/later":
        return _respond_later(request)
    if request.target == b"/broken":
        raise RuntimeError("broken on purpose")
    return Response(200, request.method.encode() + b" " + request.target + b" " + request.body)


async def _respond_later(request: Request) -> AnyResponse:
    await asyncio.sleep(0)
    if request.body == b"break":
        raise RuntimeError("broken on purpose")
    return Response(200, b"later")


async def _send_pieces() -> AsyncIterator[bytes]:
    for piece in (b"one", b"two"):
        yield piece
        await asyncio.sleep(0)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    listener = HttpListener(echo, limits=SMALL)
    port = await listener.listen("127.0.0.1", 0)
    yield Wire(listener, port)
    await listener.aclose(0.1)


def get(target: str = "/", *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: t", *fields, "", ""]).encode()


CLOSE = "Connection: close"


async def test_pipelined_requests_get_their_responses_in_order(wire: Wire) -> None:
    response = await wire.exchange(get("/later") + get("/b") + get("/c", CLOSE))
    positions = [response.index(body) for body in (b"later", b"GET /b ", b"GET /c ")]
    assert positions == sorted(positions)
    assert response.count(b"HTTP/1.1 200 OK") == 3


async def test_too_many_pipelined_requests_get_no_response(wire: Wire) -> None:
    response = await wire.exchange(get("/later") + get("/x") * 9)
    assert response.count(b"HTTP/1.1 200 OK") == 1 + SMALL.pipelined
    assert response.count(b"connection: close") == 1


async def test_a_request_may_come_byte_by_byte(wire: Wire) -> None:
    request = get("/a", CLOSE, "Content-Length: 3", method="POST") + b"xyz"
    response = await wire.exchange(*(bytes([byte]) for byte in request))
    assert response.endswith(b"POST /a xyz")


async def test_an_old_client_gets_a_response_and_the_end(wire: Wire) -> None:
    response = await wire.exchange(b"GET /a HTTP/1.0\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in response


async def test_a_stream_is_chunked_for_new_clients_and_plain_for_old_ones(wire: Wire) -> None:
    assert (await wire.exchange(get("/stream"))).endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    assert (await wire.exchange(get("/stream", version="1.0"))).endswith(b"\r\n\r\nonetwo")
    assert (await wire.exchange(get("/stream", method="HEAD"))).endswith(b"\r\n\r\n")


async def test_a_client_that_expects_100_continue_gets_it(wire: Wire) -> None:
    response = await wire.exchange(
        get("/a", CLOSE, "Expect: 100-continue", "Content-Length: 2", method="PUT"), b"ok"
    )
    assert response.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


async def test_an_offer_to_upgrade_is_not_taken_up(wire: Wire) -> None:
    response = await wire.exchange(get("/a", "Connection: upgrade", "Upgrade: h2c") + b"PRI *")
    assert response.startswith(b"HTTP/1.1 200 OK")
    assert response.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: t\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : t\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: t\n\n\x00", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (get("/", "Content-Length: 1", "Transfer-Encoding: chunked", method="POST"), 400),
        (get("/", "Content-Length: -1", method="POST"), 400),
        (get("/", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n", 400),
        (get("/" + "a" * 64), 414),
        (get("/", "A: " + "b" * 512), 431),
        (get("/", *(f"A{n}: b" for n in range(9))), 431),
        (get("/", "Content-Length: 101", method="POST"), 413),
        (get("/", "Transfer-Encoding: chunked", method="POST") + b"65\r\n" + b"x" * 101, 413),
        (get("/broken", CLOSE), 500),
        (get("/later", CLOSE, "Content-Length: 5", method="POST") + b"break", 500),
    ],
)
async def test_wrong_or_too_much_input_gets_its_status_and_the_end(
    wire: Wire, sent: bytes, status: int
) -> None:
    response = await wire.exchange(sent)
    assert response.startswith(b"HTTP/1.1 %d " % status), response
    assert b"application/problem+json" in response
    assert b"connection: close" in response


async def test_a_header_without_end_is_refused_before_it_fills_memory(wire: Wire) -> None:
    response = await wire.exchange(b"GET / HTTP/1.1\r\nHost: t\r\nA: ", *([b"b" * 200] * 5))
    assert response.startswith(b"HTTP/1.1 431 ")


async def test_input_after_the_last_response_is_ignored(wire: Wire) -> None:
    after = b"\x00\x00" + get("/", "Content-Length: 1", "Expect: 100-continue", method="PUT")
    response = await wire.exchange(get("/a", CLOSE) + after)
    assert response.count(b"HTTP/1.1 ") == 1


async def test_requests_before_the_mistake_still_get_their_responses(wire: Wire) -> None:
    response = await wire.exchange(get("/later") + b"\x00\x00")
    assert response.startswith(b"HTTP/1.1 200 OK")
    assert b"HTTP/1.1 400 " in response


@pytest.mark.parametrize(
    "begun", [b"GET / HT", get("/", "Content-Length: 9", method="POST"), get("/")[:-2]]
)
async def test_a_request_that_takes_too_long_is_refused(wire: Wire, begun: bytes) -> None:
    assert (await wire.exchange(begun)).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_says_nothing_is_closed(wire: Wire) -> None:
    assert await wire.exchange(b"") == b""
    assert (await wire.exchange(get("/a"))).count(b"HTTP/1.1 200") == 1


async def test_one_client_too_many_gets_503(wire: Wire) -> None:
    held = [await asyncio.open_connection("127.0.0.1", wire.port) for _ in range(3)]
    await until(lambda: wire.listener.connections == 3)
    assert (await wire.exchange(b"")).startswith(b"HTTP/1.1 503 ")
    assert wire.listener.connections == 3
    for _, writer in held:
        writer.close()


async def test_a_client_that_does_not_read_is_cut_and_costs_bounded_memory() -> None:
    piece = b"x" * 65_536
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += len(piece)
            yield piece

    listener = HttpListener(lambda _: StreamResponse(endless(), "text/plain"), limits=SMALL)
    port = await listener.listen("127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(get("/"))
    await until(lambda: listener.connections == 1)
    await until(lambda: listener.connections == 0)
    assert sent < 16_000_000
    writer.close()
    await listener.aclose(0.1)


async def test_a_client_that_sends_on_without_reading_costs_bounded_memory() -> None:
    handled = 0

    def big(_: Request) -> AnyResponse:
        nonlocal handled
        handled += 1
        return Response(200, b"x" * 1_000_000)

    listener = HttpListener(big, limits=SMALL)
    port = await listener.listen("127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    for _ in range(200):
        writer.write(get("/"))
    await until(lambda: listener.connections == 1)
    await until(lambda: listener.connections == 0)
    assert handled < 20
    writer.close()
    await listener.aclose(0.1)


async def test_closing_ends_idle_connections_and_finishes_pending_responses() -> None:
    inside, gate = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> AnyResponse:
        inside.set()
        await gate.wait()
        return Response(200, b"finished")

    listener = HttpListener(slow, limits=SMALL)
    port = await listener.listen("127.0.0.1", 0)
    busy = asyncio.create_task(Wire(listener, port).exchange(get("/")))
    idle = asyncio.create_task(Wire(listener, port).exchange(b""))
    await until(lambda: listener.connections == 2)
    await inside.wait()
    closing = asyncio.create_task(listener.aclose(5.0))
    assert await idle == b""
    gate.set()
    assert (await busy).endswith(b"finished")
    await closing
    assert listener.connections == 0


async def test_closing_aborts_responses_that_take_too_long() -> None:
    inside = asyncio.Event()

    async def never(_: Request) -> AnyResponse:
        inside.set()
        await asyncio.Event().wait()
        raise AssertionError

    listener = HttpListener(never, limits=SMALL)
    port = await listener.listen("127.0.0.1", 0)
    busy = asyncio.create_task(Wire(listener, port).exchange(get("/")))
    await inside.wait()
    await listener.aclose(0.05)
    assert await busy == b""
    await listener.aclose(0.05)


CORPUS = [
    get("/v1/routes"),
    get("/a", "Content-Length: 3", method="PUT") + b"abc",
    get("/a", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\n\r\n",
    get("/later", "Expect: 100-continue", "Content-Length: 1", method="PUT") + b"x",
    get("/stream"),
    b"GET http://h/a?b=%zz#f HTTP/1.1\r\nHost: h\r\nCookie: a=b; c\r\n\r\n",
    b"\x00\xff\r\n\r\n",
]


async def survive(listener: HttpListener, port: int, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    with contextlib.suppress(OSError):  # it may have been answered and closed by now
        writer.write_eof()
    async with asyncio.timeout(10):
        try:
            response = await reader.read()
        except ConnectionResetError:
            response = b""
    writer.close()
    assert not response or response.startswith(b"HTTP/1.1 ")
    assert listener.connections <= listener.limits.connections


@settings(max_examples=150)
@given(st.binary(max_size=200), st.sampled_from(CORPUS), st.integers(0, 200))
def test_garbage_ends_in_a_status_or_a_closed_connection(
    noise: bytes, request: bytes, position: int
) -> None:
    async def run() -> None:
        listener = HttpListener(echo, limits=SMALL)
        port = await listener.listen("127.0.0.1", 0)
        await survive(listener, port, request[:position] + noise + request[position:])
        await listener.aclose(0.01)

    asyncio.run(run())


def mutations(rng: random.Random) -> Callable[[], bytes]:
    def mutate() -> bytes:
        data = bytearray(b"".join(rng.choices(CORPUS, k=rng.randint(1, 3))))
        for _ in range(rng.randint(0, 8)):
            position = rng.randrange(len(data))
            match rng.randrange(3):
                case 0:
                    data[position] = rng.randrange(256)
                case 1:
                    del data[position : position + rng.randint(1, 9)]
                case _:
                    data[position:position] = rng.randbytes(rng.randint(1, 9))
            data = data or bytearray(b"\x00")
        return bytes(data)

    return mutate


@pytest.mark.slow
async def test_100_000_broken_inputs_crash_hang_and_leak_nothing() -> None:
    listener = HttpListener(echo, limits=replace(SMALL, connections=64))
    port = await listener.listen("127.0.0.1", 0)
    mutate = mutations(random.Random(20))
    half = 0
    for number in range(100_000):
        await survive(listener, port, mutate())
        if number == 20_000:
            half = resident_kib()
    assert half
    assert resident_kib() - half < 2048
    await until(lambda: listener.connections == 0)
    await listener.aclose(0.1)


def resident_kib() -> int:
    """The memory of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_a_problem_carries_extra_members() -> None:
    problem = Problem(400, "Invalid value", "send another", extra={"field": "port"})
    assert (problem.status, problem.extra) == (400, {"field": "port"})
