"""A request that HTTP cannot carry is refused before an instance is chosen."""

import re
from typing import Any

import h11
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from microservice_client import (
    AsyncServiceClient,
    HeaderForwarding,
    ServiceClient,
    inbound_headers,
)
from microservice_client.http.request_rules import require_sendable
from microservice_client.testing import FakeMesh
from microservice_core import InvalidValueError

A = "10.0.0.1:80"
REFUSED = ["Bob ", " Bob", "\tBob", "Bob\t", "a\nb", "a\r\nX-Evil: 1", "a\rb", "a\0b", "a\x1bb"]


@pytest.fixture
async def mesh() -> FakeMesh:
    mesh = FakeMesh()
    await mesh.start("orders", A, lambda _: httpx.Response(200))
    return mesh


@pytest.mark.parametrize("value", [*REFUSED, "müde", "\u2028"])
async def test_a_header_that_cannot_be_sent_is_refused_without_an_instance(
    mesh: FakeMesh, value: str
) -> None:
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        with pytest.raises(InvalidValueError, match="header 'x-user'"):
            await client.get("orders", "/", headers={"x-user": value})
        assert client.breaker_states("orders") == {}
    assert mesh.request_counts.total() == 0


@pytest.mark.parametrize("value", REFUSED)
def test_the_sync_client_refuses_it_as_well(value: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with (
        ServiceClient.from_addresses({"orders": [f"http://{A}"]}, transport=transport) as client,
        pytest.raises(InvalidValueError, match="header 'x-user'"),
    ):
        client.get("orders", "/", headers={"x-user": value})


@pytest.mark.parametrize("name", ["", "x user", "x\nuser", "x:user", "x-ü", "x\0"])
async def test_a_name_that_is_no_name_is_refused(mesh: FakeMesh, name: str) -> None:
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        with pytest.raises(InvalidValueError, match="name of a header"):
            await client.get("orders", "/", headers={name: "x"})
    assert mesh.request_counts.total() == 0


@pytest.mark.parametrize("name", ["authorization", "cookie", "x-api-key", "x-user"])
async def test_the_message_has_no_value(mesh: FakeMesh, name: str) -> None:
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        for value in ("s3cret\n", "s3cret\0", "s3cret ", "s3cretü"):
            with pytest.raises(InvalidValueError, match=name) as caught:
                await client.get("orders", "/", headers={name: value})
            assert "s3cret" not in f"{caught.value} {caught.value.value} {caught.value.__cause__}"


async def test_what_an_interceptor_adds_is_looked_at(mesh: FakeMesh) -> None:
    forwarding = HeaderForwarding(["x-user"])
    async with AsyncServiceClient(
        mesh.registry, transport=mesh, interceptors=[forwarding]
    ) as client:
        with (
            inbound_headers({"x-user": "Bob\r\nx-admin: 1"}),
            pytest.raises(InvalidValueError, match="a value with a line end"),
        ):
            await client.get("orders", "/")
    assert mesh.request_counts.total() == 0


@pytest.mark.parametrize("method", ["", "GE T", "GET\n", "GÉT"])
async def test_a_method_that_is_none_is_refused(mesh: FakeMesh, method: str) -> None:
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        with pytest.raises(InvalidValueError, match="method"):
            await client.request(method, "orders", "/")
        assert (await client.request("PURGE", "orders", "/")).status_code == 200


@pytest.mark.parametrize(
    ("declared", "problem"), [("7", "number of bytes"), ("-1", "no number"), ("x", "no number")]
)
async def test_a_wrong_length_of_bytes_is_refused(
    mesh: FakeMesh, declared: str, problem: str
) -> None:
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        with pytest.raises(InvalidValueError, match=problem):
            await client.post("orders", "/", content=b"abc", headers={"content-length": declared})
        headers = {"content-length": "3", "x-content-length": "much"}
        response = await client.post("orders", "/", content=b"abc", headers=headers)
        assert response.status_code == 200
        await client.get("orders", "/", headers={"x-content-length": "much"})
    assert mesh.request_counts.total() == 2


NAME_CHARACTERS = st.sampled_from(b"!#$%&'*+.^_`|~09AZaz-")
NAMES = st.lists(NAME_CHARACTERS, max_size=12).map(bytes)
ANY_BYTES = st.binary(max_size=12)
MOSTLY_TEXT = st.lists(
    st.sampled_from([b"a", b"Z", b" ", b"\t", b"\n", b"\r", b"\0", b"\x7f", b"\xff", b":", b"\x0b"])
).map(b"".join)


@given(st.lists(st.tuples(NAMES | ANY_BYTES, MOSTLY_TEXT | ANY_BYTES), max_size=4))
@example([(b"a", b"x\ny\nz")])
@example([(b"a", b"x\nb"), (b"", b"")])
def test_what_is_let_through_is_what_h11_sends(pairs: list[tuple[bytes, bytes]]) -> None:
    named = [(name, value) for name, value in pairs if name.lower() not in _SPECIAL]
    request = httpx.Request("GET", "http://orders/")
    request.headers = httpx.Headers(named)
    try:
        require_sendable(request)
    except InvalidValueError:
        accepted = False
    else:
        accepted = True
    assert accepted == _is_sent_by_h11(named)


_SPECIAL = {b"content-length", b"transfer-encoding", b"host", b"connection", b"expect"}


def _is_sent_by_h11(pairs: list[tuple[bytes, bytes]]) -> bool:
    if any(re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value) for _, value in pairs):
        return False  # RFC 9110 forbids more control characters than h11 does
    connection: Any = h11.Connection(h11.CLIENT)
    try:
        connection.send(h11.Request(method="GET", target="/", headers=[(b"Host", b"x"), *pairs]))
    except h11.LocalProtocolError:
        return False
    return True
