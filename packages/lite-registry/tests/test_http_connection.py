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
from lite_registry.http_connection import Connection, Place
from lite_registry.http_listener import HttpListener
from lite_registry.http_reader import Limits
from lite_registry.request import Outcome, Request
from lite_registry.response import AnyResponse, Response, StreamResponse

SMALL = Limits(
    target_bytes=64,
    header_bytes=512,
    headers=8,
    body_bytes=100,
    connections=3,
    connections_per_client=3,
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


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def read_head(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Send it, and read the head and the body of one response."""
        self.writer.write(request)
        head = await self.read_head()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
        return head, await self.reader.readexactly(length)


async def test_a_client_that_expects_100_continue_gets_it(wire: Wire) -> None:
    client = await Client.connect(wire.port)
    client.writer.write(get("/a", "Expect: 100-continue", "Content-Length: 2", method="PUT"))
    assert await client.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    head, body = await client.ask(b"ok")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == b"PUT /a ok"
    client.writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        get("/a", CLOSE, "Expect: 100-continue", "Content-Length: 2", method="PUT") + b"ok",
        get("/a", CLOSE, "Expect: 100-continue", method="PUT"),
        get("/a", CLOSE, "Expect: 100-continue", "Content-Length: 0", method="PUT"),
        get("/a", "Expect: 100-continue", "Content-Length: 2", version="1.0", method="PUT") + b"ok",
    ],
)
async def test_100_continue_is_left_out_where_no_client_waits_for_it(
    wire: Wire, request_: bytes
) -> None:
    assert (await wire.exchange(request_)).startswith(b"HTTP/1.1 200 OK")


async def test_100_continue_waits_for_the_responses_before_it(wire: Wire) -> None:
    client = await Client.connect(wire.port)
    expecting = get("/b", "Expect: 100-continue", "Content-Length: 2", method="PUT")
    head, body = await client.ask(get("/later") + expecting)
    assert (head[:15], body) == (b"HTTP/1.1 200 OK", b"later")
    assert await client.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await client.ask(b"ok"))[1] == b"PUT /b ok"
    client.writer.close()


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ((), b""),
        (("Content-Length: 3",), b"xyz"),
        (("Transfer-Encoding: chunked",), b"1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n"),
    ],
)
async def test_an_offer_to_upgrade_is_ignored(
    wire: Wire, fields: tuple[str, ...], body: bytes
) -> None:
    client = await Client.connect(wire.port)
    request = get("/a", *UPGRADE, *fields, method="PUT") + body
    expected = b"PUT /a xyz" if body else b"PUT /a "
    for _ in range(2):
        head, received = await client.ask(request)
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" not in head
        assert received == expected
    assert (await client.ask(get("/b")))[1] == b"GET /b "
    client.writer.close()
    pieces = [bytes([byte]) for byte in get("/a", *UPGRADE, *fields, method="PUT") + body]
    assert expected in await wire.exchange(*pieces, get("/b", CLOSE))


async def test_many_offers_to_upgrade_at_once_are_served_one_after_another(wire: Wire) -> None:
    offers = get("/a", "Connection: upgrade", "Upgrade: h2c") * 2000
    response = await wire.exchange(offers + get("/b", CLOSE))
    assert response.count(b"HTTP/1.1 200 OK") == 2001
    assert response.endswith(b"GET /b ")


async def test_an_offer_to_upgrade_does_not_hide_the_wish_to_close(wire: Wire) -> None:
    response = await wire.exchange(get("/a", "Connection: upgrade, close", "Upgrade: h2c"))
    assert b"connection: close" in response


async def test_a_tunnel_is_refused_and_what_follows_is_not_read(wire: Wire) -> None:
    response = await wire.exchange(get("t:443", method="CONNECT") + get("/b"))
    assert response.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in response


async def test_a_trailer_field_is_not_a_header_field(wire: Wire) -> None:
    seen: list[dict[bytes, bytes]] = []

    def record(request: Request) -> Outcome:
        seen.append(request.headers)
        return Response(200, request.body)

    wire.listener.handler = record
    chunks = b"3\r\nxyz\r\n0\r\nAuthorization: Bearer t\r\nHost: b\r\n\r\n"
    request = get("/a", CLOSE, "Transfer-Encoding: chunked", method="PUT") + chunks
    assert (await wire.exchange(request)).endswith(b"\r\n\r\nxyz")
    assert [sorted(headers) for headers in seen] == [[b"connection", b"host", b"transfer-encoding"]]


async def test_trailer_fields_count_towards_the_limit_of_the_head(wire: Wire) -> None:
    chunks = b"0\r\n" + b"A: %b\r\n" % (b"b" * 100) * 6
    request = get("/a", "Transfer-Encoding: chunked", method="PUT") + chunks
    assert (await wire.exchange(request)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h:8x\r\n\r\n", 400),
        (get("/", "Transfer-Encoding: gzip, chunked", method="POST") + b"0\r\n\r\n", 501),
        (get("/", "Transfer-Encoding: chunked", method="POST", version="1.0"), 400),
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


async def fill(wire: Wire, count: int) -> list[Client]:
    clients = [await Client.connect(wire.port) for _ in range(count)]
    await until(lambda: wire.listener.connections == count)
    return clients


async def test_probes_have_reserved_places_when_the_house_is_full(wire: Wire) -> None:
    held = await fill(wire, 3)
    for path in ("/healthz", "/readyz", "/metrics"):
        response = await wire.exchange(get(path))
        assert response.startswith(b"HTTP/1.1 200 OK"), path
        assert b"connection: close" in response
    refused = await wire.exchange(get("/v1/routes"))
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"raise --max-connections" in refused
    for client in held:
        client.writer.close()
    await until(lambda: wire.listener.connections == 0)
    assert (await wire.exchange(get("/a", CLOSE))).startswith(b"HTTP/1.1 200 OK")


async def test_one_client_never_takes_every_place() -> None:
    listener = HttpListener(echo, limits=replace(SMALL, connections=8, connections_per_client=2))
    wire = Wire(listener, await listener.listen("127.0.0.1", 0))
    held = await fill(wire, 2)
    assert (await wire.exchange(get("/a"))).startswith(b"HTTP/1.1 503 ")
    assert (await wire.exchange(get("/healthz"))).startswith(b"HTTP/1.1 200 OK")
    for client in held:
        client.writer.close()
    await listener.aclose(0.1)


@pytest.mark.parametrize(
    ("limits", "share"),
    [(Limits(), 14_336), (Limits(connections=1), 1), (Limits(connections_per_client=5), 5)],
)
def test_the_share_of_one_client(limits: Limits, share: int) -> None:
    assert limits.largest_share == share


@pytest.mark.parametrize(
    ("one", "other", "are_one_client"),
    [
        ("10.0.0.7", "10.0.0.8", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.7", "10.0.0.7", True),
        ("::ffff:10.0.0.7", "::ffff:10.0.0.8", False),
    ],
)
def test_clients_are_told_apart_by_address_and_ipv6_network(
    one: str, other: str, are_one_client: bool
) -> None:
    listener = HttpListener(echo, limits=Limits(connections_per_client=1, reserved_connections=0))
    places = []
    for client in (one, other):
        connection = Connection(listener)
        connection.client = client
        places.append(listener.admit(connection))
    assert places == [Place.OPEN, Place.NONE if are_one_client else Place.OPEN]


async def test_silent_connections_do_not_keep_a_probe_from_the_reserved_places() -> None:
    limits = replace(SMALL, connections=1, reserved_connections=2, idle_seconds=60.0)
    listener = HttpListener(echo, limits=limits)
    wire = Wire(listener, await listener.listen("127.0.0.1", 0))
    held = [await Client.connect(wire.port) for _ in range(9)]
    await until(lambda: listener.connections == 3)
    assert (await wire.exchange(get("/healthz"))).startswith(b"HTTP/1.1 200 OK")
    await until(lambda: listener.connections <= 3)
    for client in held:
        client.writer.close()
    await listener.aclose(0.1)


async def test_a_silent_connection_in_a_reserved_place_is_soon_closed() -> None:
    now = 0.0
    limits = replace(SMALL, connections=1, idle_seconds=60.0)
    listener = HttpListener(echo, limits=limits, clock=lambda: now)
    wire = Wire(listener, await listener.listen("127.0.0.1", 0))
    held = await fill(wire, 2)
    now = 3.0
    await until(lambda: listener.connections == 1)
    for client in held:
        client.writer.close()
    await listener.aclose(0.1)


async def test_without_reserved_places_one_too_many_gets_503() -> None:
    listener = HttpListener(echo, limits=replace(SMALL, reserved_connections=0))
    wire = Wire(listener, await listener.listen("127.0.0.1", 0))
    held = await fill(wire, 3)
    assert (await wire.exchange(b"")).startswith(b"HTTP/1.1 503 ")
    assert listener.connections == 3
    for client in held:
        client.writer.close()
    await listener.aclose(0.1)


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
    assert (
        listener.connections <= listener.limits.connections + listener.limits.reserved_connections
    )


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
