"""Bodies are bounded where they are read and decoded."""

import contextlib
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_client import (
    AsyncServiceClient,
    BodyTooLargeError,
    ResponseFormatError,
    ServiceClient,
    ServicePolicy,
)
from microservice_client.http.bodies import decode_body
from microservice_client.testing import FakeMesh

A = "10.0.0.1:80"
MIB = 1_048_576
LIMIT = 4 * MIB


def make_bomb(mebibytes: int) -> bytes:
    """A gzip body of zeros, about a kilobyte for each of these many mebibytes."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(MIB)
    block = compressor.compress(zeros) + compressor.flush(zlib.Z_FULL_FLUSH)
    # Further blocks of the same content, as nothing before a full flush is referred to.
    block = compressor.compress(zeros) + compressor.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * mebibytes + b"\x03\0"


class Pieces(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), 65_536):
            yield self._body[start : start + 65_536]


def encoded(body: bytes, coding: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(200, headers={"content-encoding": coding}, stream=Pieces(body))


async def client_of(
    handler: Callable[[httpx.Request], httpx.Response], **fields: object
) -> tuple[AsyncServiceClient, FakeMesh]:
    mesh = FakeMesh()
    await mesh.start("orders", A, handler)
    policy = ServicePolicy.model_validate({"breaker_failures": 1, **fields})
    return AsyncServiceClient(mesh.registry, transport=mesh, default_policy=policy), mesh


@pytest.fixture
def allocated() -> Iterator[Callable[[], int]]:
    """A function that returns the peak of what was allocated since the start, in bytes."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


async def test_a_bomb_costs_little_more_than_the_limit(allocated: Callable[[], int]) -> None:
    bomb = make_bomb(700)
    assert len(bomb) < 800_000
    client, mesh = await client_of(encoded(bomb, "gzip"), max_body_bytes=LIMIT)
    async with client:
        with pytest.raises(BodyTooLargeError, match=rf"orders: .* {LIMIT} bytes") as caught:
            await client.get("orders", "/")
        assert (caught.value.limit, caught.value.service) == (LIMIT, "orders")
        assert client.breaker_states("orders") == {A: "closed"}
    assert mesh.open_bodies == 0
    assert allocated() < 40 * MIB


async def test_a_streamed_bomb_is_flat(allocated: Callable[[], int]) -> None:
    client, mesh = await client_of(encoded(make_bomb(150), "gzip"), max_body_bytes=LIMIT)
    size = 0
    async with client, client.stream("GET", "orders", "/") as response:
        async for piece in response.aiter_bytes():
            size += len(piece)
    assert size == 150 * MIB
    assert mesh.open_bodies == 0
    assert allocated() < 70 * MIB


def test_the_sync_client_is_bounded_as_well(allocated: Callable[[], int]) -> None:
    with ServiceClient.from_addresses(
        {"orders": [f"http://{A}"]},
        transport=httpx.MockTransport(encoded(make_bomb(150), "gzip")),
        default_policy=ServicePolicy(max_body_bytes=LIMIT),
    ) as client:
        with pytest.raises(BodyTooLargeError):
            client.get("orders", "/")
        with client.stream("GET", "orders", "/") as response:
            assert sum(map(len, response.iter_bytes())) == 150 * MIB
    assert allocated() < 70 * MIB


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1])
@pytest.mark.parametrize("coding", ["", "gzip", "deflate"])
async def test_the_limit_counts_decoded_bytes(size: int, coding: str) -> None:
    body = bytes(size)
    sent = {"": body, "gzip": gzip.compress(body), "deflate": zlib.compress(body)}[coding]
    client, mesh = await client_of(encoded(sent, coding), max_body_bytes=LIMIT)
    async with client:
        if size <= LIMIT:
            assert (await client.get("orders", "/")).content == body
        else:
            with pytest.raises(BodyTooLargeError):
                await client.get("orders", "/")
    assert mesh.open_bodies == 0


@pytest.mark.parametrize("coding", ["gzip, gzip", "GZIP,deflate", "br", "zstd", "gzip, br"])
async def test_several_codings_and_those_that_were_not_asked_for_are_refused(coding: str) -> None:
    client, mesh = await client_of(encoded(gzip.compress(gzip.compress(b"text")), coding))
    async with client:
        with pytest.raises(ResponseFormatError, match="no body of content-encoding"):
            await client.get("orders", "/")
        with pytest.raises(ResponseFormatError, match="no body of content-encoding"):
            async with client.stream("GET", "orders", "/") as response:
                await response.aread()
        assert client.breaker_states("orders") == {A: "closed"}
    assert mesh.open_bodies == 0


async def test_a_coding_that_the_caller_asks_for_can_be_streamed_only() -> None:
    client, _ = await client_of(encoded(b"as it came", "br"))
    headers = {"accept-encoding": "br"}
    async with client:
        async with client.stream("GET", "orders", "/", headers=headers) as response:
            assert [piece async for piece in response.aiter_raw()] == [b"as it came"]
        with pytest.raises(ResponseFormatError, match="can only be streamed"):
            await client.get("orders", "/", headers=headers)


@pytest.mark.parametrize("coding", ["identity", "utf-8", "identity, utf-8"])
async def test_what_is_no_coding_is_ignored(coding: str) -> None:
    client, _ = await client_of(encoded(b"plain", coding))
    async with client:
        response = await client.get("orders", "/")
    assert (response.text, response.headers["content-encoding"]) == ("plain", coding)


async def test_only_what_can_be_bounded_is_asked_for() -> None:
    client, mesh = await client_of(encoded(gzip.compress(b"text"), "gzip"))
    async with client:
        response = await client.get("orders", "/")
    assert mesh.requests[0].headers["accept-encoding"] == "gzip, deflate"
    assert (response.text, response.headers["content-encoding"]) == ("text", "gzip")


async def test_an_error_status_that_is_raised_is_bounded_too() -> None:
    client, _ = await client_of(
        lambda _: httpx.Response(500, stream=Pieces(bytes(100))),
        max_body_bytes=99,
        raise_on="errors",
    )
    async with client:
        with pytest.raises(BodyTooLargeError):
            async with client.stream("GET", "orders", "/"):
                pytest.fail("the status is raised first")


def compress_raw(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


@given(
    st.one_of(st.binary(max_size=200), st.builds(bytes, st.integers(0, 3 * MIB))),
    st.sampled_from(
        [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", compress_raw)]
    ),
)
def test_what_was_encoded_is_decoded(
    body: bytes, codec: tuple[str, Callable[[bytes], bytes]]
) -> None:
    coding, encode = codec
    assert decode_body(coding, encode(body), len(body)) == body
    if body:
        assert decode_body(coding, encode(body), len(body) - 1) is None


@given(st.binary(max_size=100), st.sampled_from(["gzip", "deflate"]))
def test_whatever_is_sent_is_decoded_or_refused_as_one_error(body: bytes, coding: str) -> None:
    with contextlib.suppress(zlib.error):
        decode_body(coding, body, 1000)
