"""Server-sent events, JSON lines, uploads, WebSocket addresses, and bodies that are read by bits."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_client import (
    AsyncServiceClient,
    CallStatusError,
    MessageTooLongError,
    NoInstanceCallError,
    ServerSentEvent,
    ServiceCallError,
    ServicePolicy,
    aiter_events,
    aiter_json_lines,
)
from microservice_client.testing import FakeMesh
from microservice_core.testing import ManualClock
from microservice_lb import PeakEwma

A, B = "10.0.0.1:80", "10.0.0.2:80"

STREAM = (
    b"\xef\xbb\xbf: a comment\nretry: 1500\n\n"
    b"event: created\ndata: one\ndata:two\nid: 7\n\n"
    b"data\n\nid: a\0b\nretry: soon\nunknown: x\ndata:  spaced\n\n"
    b"event: nothing\n\ndata: unfinished"
)
EVENTS = [
    ServerSentEvent("created", "one\ntwo", "7"),
    ServerSentEvent("message", "", "7"),
    ServerSentEvent("message", " spaced", "7"),
]


class Pieces(httpx.AsyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


def cut(body: bytes, cuts: list[int]) -> Pieces:
    places = [0, *sorted(at % (len(body) + 1) for at in cuts), len(body)]
    return Pieces([body[a:b] for a, b in pairwise(places)])


async def events_of(stream: httpx.AsyncByteStream) -> list[ServerSentEvent]:
    return [event async for event in aiter_events(httpx.Response(200, stream=stream))]


@given(st.lists(st.integers(0, 400), max_size=10), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_events_are_the_same_however_the_stream_is_cut(cuts: list[int], end: bytes) -> None:
    body = STREAM.replace(b"\n", end)
    assert asyncio.run(events_of(cut(body, cuts))) == EVENTS


TEXT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(st.lists(TEXT, min_size=1, max_size=3), TEXT), max_size=5))
def test_what_was_written_as_events_is_read_as_these(
    written: list[tuple[list[str], str]],
) -> None:
    body = "".join(
        f"event: {kind}\n" + "".join(f"data: {line}\n" for line in lines) + "\n"
        for lines, kind in written
    )
    got = asyncio.run(events_of(Pieces([body.encode()])))
    assert [(one.event, one.data) for one in got] == [
        (kind or "message", "\n".join(lines)) for lines, kind in written
    ]


def test_an_event_may_hold_json_and_a_wait() -> None:
    (event,) = asyncio.run(events_of(Pieces([b'retry: 250\ndata: {"a": 1}\n\n'])))
    assert (event.json(), event.retry_seconds) == ({"a": 1}, 0.25)


@pytest.mark.parametrize("line", [b"x" * 9000, b"data: " + b"x" * 9000 + b"\n"])
async def test_an_event_without_end_does_not_fill_the_memory(line: bytes) -> None:
    with pytest.raises(MessageTooLongError, match="1048576"):
        await events_of(Pieces([line] * 200))


DOCUMENTS = st.lists(
    st.none() | st.integers() | st.text() | st.dictionaries(st.text(), st.integers()), max_size=6
)


@given(DOCUMENTS, st.lists(st.integers(0, 400), max_size=8))
def test_json_lines_are_the_same_however_the_stream_is_cut(
    documents: list[object], cuts: list[int]
) -> None:
    body = b"\n".join(json.dumps(one).encode() for one in documents) + b"\r\n\n"

    async def read() -> list[object]:
        response = httpx.Response(200, stream=cut(body, cuts))
        return [one async for one in aiter_json_lines(response)]

    assert asyncio.run(read()) == documents


async def test_a_line_without_end_does_not_fill_the_memory() -> None:
    lines = aiter_json_lines(httpx.Response(200, stream=Pieces([b"x" * 9000] * 200)))
    with pytest.raises(MessageTooLongError):
        await anext(lines)


async def client_of(mesh: FakeMesh, **options: object) -> AsyncServiceClient:
    return AsyncServiceClient(mesh.registry, transport=mesh, **options)  # type: ignore[arg-type]


async def read(stream: httpx.AsyncByteStream, coding: str = "identity") -> tuple[int, int]:
    """The number of events in a stream, and how often another task ran meanwhile."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    response = httpx.Response(200, headers={"content-encoding": coding}, stream=stream)
    events = [event async for event in aiter_events(response)]
    other.cancel()
    return len(events), turns


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", ":\n", "event: x\n"])
async def test_a_stream_of_line_ends_does_not_keep_other_tasks_waiting(end: str) -> None:
    # A decoder that copied the rest of a piece for each line would take many minutes.
    body = end.encode() * (2_000_000 // len(end))
    small = gzip.compress(body)
    assert len(small) < 12_000
    assert (await read(Pieces([small]), "gzip"))[1] >= len(body) // 65_536 - 1


async def test_a_long_message_in_small_pieces_is_read_in_linear_time() -> None:
    line = b"data: " + b"x" * 1_000_000 + b"\n\n"
    pieces = [line[start : start + 4] for start in range(0, len(line), 4)]
    assert (await read(Pieces(pieces)))[0] == 1


@pytest.mark.parametrize("line", [b"data\n", b"data:\n", b"data: x\r\n"])
async def test_data_without_a_blank_line_does_not_fill_the_memory(line: bytes) -> None:
    with pytest.raises(MessageTooLongError):
        await events_of(Pieces([line * 13_000] * 40))


@pytest.mark.parametrize("size", [1_048_570, 1_048_577])
async def test_a_line_that_came_at_once_is_bounded_as_well(size: int) -> None:
    document = b'"' + b"x" * (size - 2) + b'"\n'
    event = b"data:" + b"x" * (size - 5) + b"\n\n"

    async def documents() -> list[object]:
        response = httpx.Response(200, stream=Pieces([document]))
        return [one async for one in aiter_json_lines(response)]

    if size <= 1_048_576:
        assert len(await documents()) == len(await events_of(Pieces([event]))) == 1
    else:
        with pytest.raises(MessageTooLongError):
            await documents()
        with pytest.raises(MessageTooLongError):
            await events_of(Pieces([b"data:x\n" + event]))


async def test_blank_json_lines_do_not_keep_other_tasks_waiting() -> None:
    body = b"\n" * 2_000_000 + b"7"
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    response = httpx.Response(
        200, headers={"content-encoding": "gzip"}, stream=Pieces([gzip.compress(body)])
    )
    assert [one async for one in aiter_json_lines(response)] == [7]
    other.cancel()
    assert turns >= len(body) // 65_536 - 1


async def test_json_without_end_of_nesting_is_a_value_error() -> None:
    deep = "[" * 100_000
    with pytest.raises(ValueError, match="nested too deeply"):
        ServerSentEvent(data=deep).json()
    response = httpx.Response(200, stream=Pieces([deep.encode() + b"\n"]))
    with pytest.raises(ValueError, match="nested too deeply"):
        await anext(aiter(aiter_json_lines(response)))


async def test_a_service_streams_events_and_documents() -> None:
    mesh = FakeMesh()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers["accept"] == "text/event-stream":
            return httpx.Response(200, stream=Pieces([STREAM]))
        return httpx.Response(200, stream=Pieces([b'{"a":1}\n', b'{"a":2}']))

    await mesh.start("orders", A, answer)
    async with await client_of(mesh) as client:
        assert [event async for event in client.events("orders", "/changes")] == EVENTS
        documents = client.json_lines("orders", "/all", headers={"x-a": "1"})
        assert [one async for one in documents] == [{"a": 1}, {"a": 2}]
    assert mesh.open_bodies == 0
    assert mesh.requests[1].headers["x-a"] == "1"


async def test_an_error_page_is_no_stream_of_events() -> None:
    mesh = FakeMesh()
    await mesh.start("orders", A, lambda _: httpx.Response(404, text="no"))
    async with await client_of(mesh) as client:
        with pytest.raises(CallStatusError):
            await anext(client.events("orders", "/changes"))
    assert mesh.open_bodies == 0


async def test_a_stream_is_tried_elsewhere_only_before_its_first_byte() -> None:
    mesh = FakeMesh()
    for address in (A, B):
        await mesh.start("orders", address, lambda _: httpx.Response(200, stream=Pieces([STREAM])))
    mesh.fail(A, "refuse")
    async with await client_of(mesh) as client:
        for _ in range(3):
            assert [event async for event in client.events("orders", "/")] == EVENTS
        mesh.heal(A)
        mesh.fail(A, "break")
        mesh.fail(B, "break")
        mesh.request_counts.clear()
        with pytest.raises(ServiceCallError, match="broke off"):
            async for _ in client.events("orders", "/"):
                pass
        assert mesh.request_counts.total() == 1


async def test_leaving_a_stream_early_closes_it() -> None:
    mesh = FakeMesh()
    await mesh.start(
        "orders", A, lambda _: httpx.Response(200, stream=Pieces([b"data: 1\n\n"] * 9))
    )
    async with await client_of(mesh) as client:
        events = client.events("orders", "/")
        await anext(events)
        assert mesh.open_bodies == 1
        await events.aclose()  # type: ignore[attr-defined] # an async generator
        assert mesh.open_bodies == 0


async def test_a_long_stream_says_nothing_of_how_fast_an_instance_is() -> None:
    clock = ManualClock()
    mesh = FakeMesh()
    balancer: PeakEwma[object] = PeakEwma(clock=clock)  # type: ignore[type-var]

    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            clock.advance(3600)

    await mesh.start("orders", A, lambda _: httpx.Response(200, stream=Slow()))
    async with await client_of(
        mesh, clock=clock, make_balancer=lambda name, policy: balancer
    ) as client:
        async for _ in client.events("orders", "/"):
            assert balancer.active(A) == 1
        assert balancer.active(A) == 0
        assert balancer.latency(A) is None
        async with client.stream("GET", "orders", "/"):
            pass
        assert balancer.active(A) == 0


async def test_uploads_go_out_bit_by_bit() -> None:
    mesh = FakeMesh()
    await mesh.start("orders", A, lambda request: httpx.Response(200, content=request.content))

    async def body() -> AsyncIterator[bytes]:
        for number in range(3):
            yield str(number).encode()

    async with await client_of(mesh) as client:
        assert (await client.put("orders", "/", content=body())).text == "012"
        sent = await client.post("orders", "/", files={"f": ("a.txt", b"text")}, data={"k": "v"})
        assert b'filename="a.txt"' in sent.content


async def test_a_websocket_library_gets_an_address_whose_instance_is_busy() -> None:
    mesh = FakeMesh()
    balancer: PeakEwma[object] = PeakEwma()  # type: ignore[type-var]
    await mesh.start("orders", A, lambda _: httpx.Response(200))
    policy = ServicePolicy(breaker_failures=1)
    async with await client_of(
        mesh, default_policy=policy, make_balancer=lambda name, policy: balancer
    ) as client:
        async with client.websocket_url("orders", "/live") as url:
            assert url == "ws://10.0.0.1:80/live"
            assert balancer.active(A) == 1
        assert balancer.active(A) == 0
        with pytest.raises(OSError, match="refused"):
            async with client.websocket_url("orders", "/live"):
                raise OSError("refused")
        assert client.breaker_states("orders") == {A: "open"}
        with pytest.raises(NoInstanceCallError):
            async with client.websocket_url("orders", "/live"):
                pytest.fail("nobody is there")


async def test_a_secure_instance_has_a_secure_websocket() -> None:
    mesh = FakeMesh()
    await mesh.start("orders", "10.0.0.1:443", lambda _: httpx.Response(200), secure="true")
    async with (
        await client_of(mesh) as client,
        client.websocket_url("orders", "live") as url,
    ):
        assert url == "wss://10.0.0.1:443/live"
