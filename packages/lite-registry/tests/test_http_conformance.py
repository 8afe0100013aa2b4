"""RFC 9110 and 9112 as a table: what is accepted, what is refused, and that nothing is smuggled.

Each case is what a client sends on one connection, and the statuses that come back. `FOLLOWED` is a
second request on the same connection: where the framing of the first is in doubt, nothing behind it
may be taken for a request.
"""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from lite_registry.http_listener import HttpListener
from lite_registry.http_reader import Limits
from lite_registry.request import Outcome, Request
from lite_registry.response import Response

STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
LIMITS = Limits(request_seconds=0.3, idle_seconds=0.3)
FOLLOWED = b"GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Wire:
    """A listener that records the requests it was handed."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes, bytes]] = []
        self.listener = HttpListener(self.handle, limits=LIMITS)
        self.port = 0

    def handle(self, request: Request) -> Outcome:
        self.seen.append((request.method, request.target, request.body))
        return Response(200, b"ok")

    async def send(self, data: bytes) -> list[int]:
        """The statuses of the responses until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        async with asyncio.timeout(10):
            received = await reader.read()
        writer.close()
        return [int(status) for status in STATUS.findall(received)]


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    wire.port = await wire.listener.listen("127.0.0.1", 0)
    yield wire
    await wire.listener.aclose(0.1)


def head(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a") -> bytes:
    return (
        b"\r\n".join([line, host, *fields, b"", b""])
        if host
        else b"\r\n".join([line, *fields, b"", b""])
    )


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return head(*fields, line=b"POST /first HTTP/1.1") + body


LENGTH, CHUNKED = b"Content-Length: 3", b"Transfer-Encoding: chunked"
CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"

ACCEPTED = {
    "a plain request": (head(), b"/", b""),
    "a request in absolute form": (head(line=b"GET http://a/x HTTP/1.1"), b"http://a/x", b""),
    "a host with a port": (head(host=b"Host: a:8080"), b"/", b""),
    "an empty host": (head(host=b"Host:"), b"/", b""),
    "an address of IPv6 as host": (head(host=b"Host: [::1]:80"), b"/", b""),
    "a field name in any case": (head(host=b"hOsT: a"), b"/", b""),
    "space around a value": (head(host=b"Host: \t a \t"), b"/", b""),
    "an empty value": (head(b"X:"), b"/", b""),
    "a repeated field": (head(b"X: 1", b"X: 2"), b"/", b""),
    "bytes above ASCII in a value": (head(b"X: \xe4\xff"), b"/", b""),
    "every character of a field name": (head(b"!#$%&'*+-.^_`|~9z: 1"), b"/", b""),
    "an empty line before the request": (b"\r\n" + head(), b"/", b""),
    "a body with a length": (post(LENGTH, body=b"abc"), b"/first", b"abc"),
    "a length with zeros in front": (post(b"Content-Length: 0003", body=b"abc"), b"/first", b"abc"),
    "an empty body": (post(b"Content-Length: 0"), b"/first", b""),
    "a body in chunks": (post(CHUNKED, body=CHUNKS), b"/first", b"abc"),
    "chunk sizes in either case": (
        post(CHUNKED, body=b"A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n"),
        b"/first",
        b"01234567890123456789a",
    ),
    "a chunk size with zeros in front": (
        post(CHUNKED, body=b"003\r\nabc\r\n000\r\n\r\n"),
        b"/first",
        b"abc",
    ),
    "a chunk extension": (post(CHUNKED, body=b"3;n=v\r\nabc\r\n0\r\n\r\n"), b"/first", b"abc"),
    "a trailer field": (post(CHUNKED, body=b"3\r\nabc\r\n0\r\nX: 1\r\n\r\n"), b"/first", b"abc"),
    "chunked in any case": (post(b"Transfer-Encoding: CHUNKED", body=CHUNKS), b"/first", b"abc"),
    "an upgrade that is not taken up": (
        post(b"Connection: upgrade", b"Upgrade: websocket", LENGTH, body=b"abc"),
        b"/first",
        b"abc",
    ),
    # RFC 9112, section 3, allows to split the request line at any whitespace; llhttp does.
    "two spaces in the request line": (head(line=b"GET  / HTTP/1.1"), b"/", b""),
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_it_is_accepted_and_the_connection_goes_on(wire: Wire, name: str) -> None:
    sent, target, body = ACCEPTED[name]
    assert await wire.send(sent + FOLLOWED) == [200, 200]
    assert [request[1:] for request in wire.seen] == [(target, body), (b"/second", b"")]


REFUSED = {
    # the request line
    "no version": (b"GET /\r\n\r\n", 505),
    "an unknown version": (head(line=b"GET / HTTP/9.9"), 400),
    "HTTP/2 without its preface": (head(line=b"GET / HTTP/2.0"), 505),
    "a version in small letters": (head(line=b"GET / http/1.1"), 400),
    "an unknown method": (head(line=b"FROB / HTTP/1.1"), 400),
    "a method in small letters": (head(line=b"get / HTTP/1.1"), 400),
    "a space in the target": (head(line=b"GET /a b HTTP/1.1"), 400),
    "a NUL in the target": (head(line=b"GET /\x00 HTTP/1.1"), 400),
    "a line of the shell": (b"ls -l\n", 400),
    "a hello of TLS": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 400),
    # the header
    "no host": (head(host=b""), 400),
    "two hosts": (head(b"Host: b"), 400),
    "the same host twice": (head(b"Host: a"), 400),
    "a host with a space": (head(host=b"Host: a b"), 400),
    "a host with a path": (head(host=b"Host: a/b"), 400),
    "a list of hosts": (head(host=b"Host: a, b"), 400),
    "a host with a user": (head(host=b"Host: u@a"), 400),
    "a host with a port of letters": (head(host=b"Host: a:b"), 400),
    "a space before the colon": (head(b"X : 1"), 400),
    "a field without a colon": (head(b"X"), 400),
    "a field without a name": (head(b": 1"), 400),
    "a folded value": (head(b"X: 1", b" 2"), 400),
    "a fold before the first field": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "a NUL in a value": (head(b"X: a\x00b"), 400),
    "a bare CR in a value": (head(b"X: a\rb"), 400),
    "a control character in a name": (head(b"X\x01: 1"), 400),
    "lines that end with LF only": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    # the length
    "two lengths": (post(LENGTH, b"Content-Length: 4", body=b"abc"), 400),
    "the same length twice": (post(LENGTH, LENGTH, body=b"abc"), 400),
    "a list of lengths": (post(b"Content-Length: 3, 3", body=b"abc"), 400),
    "a length with a plus": (post(b"Content-Length: +3", body=b"abc"), 400),
    "a negative length": (post(b"Content-Length: -3", body=b"abc"), 400),
    "a length in hexadecimal": (post(b"Content-Length: 0x3", body=b"abc"), 400),
    "a length with an underscore": (post(b"Content-Length: 3_0", body=b"abc"), 400),
    "a length with a space within": (post(b"Content-Length: 3 0", body=b"abc"), 400),
    "an empty length": (post(b"Content-Length:", body=b"abc"), 400),
    "a length beyond 64 bits": (post(b"Content-Length: 18446744073709551619", body=b"abc"), 400),
    "a length above the limit": (post(b"Content-Length: 99999999", body=b"abc"), 413),
    # length and coding together
    "a length, then chunked": (post(LENGTH, CHUNKED, body=CHUNKS), 400),
    "chunked, then a length": (post(CHUNKED, LENGTH, body=CHUNKS), 400),
    # the transfer coding
    "an unknown coding": (post(b"Transfer-Encoding: xchunked", body=CHUNKS), 501),
    "gzip, then chunked": (post(b"Transfer-Encoding: gzip, chunked", body=CHUNKS), 501),
    "chunked twice": (post(CHUNKED, CHUNKED, body=CHUNKS), 400),
    "chunked, then gzip": (post(b"Transfer-Encoding: chunked, gzip", body=CHUNKS), 400),
    "chunked as a quoted text": (post(b'Transfer-Encoding: "chunked"', body=CHUNKS), 501),
    "a vertical tab before chunked": (post(b"Transfer-Encoding: \x0bchunked", body=CHUNKS), 400),
    "an empty coding": (post(b"Transfer-Encoding:", body=CHUNKS), 400),
    "chunked in HTTP/1.0": (
        head(CHUNKED, line=b"POST /first HTTP/1.0") + CHUNKS,
        400,
    ),
    # chunks
    "a chunk size with 0x": (post(CHUNKED, body=b"0x3\r\nabc\r\n0\r\n\r\n"), 400),
    "a chunk size with a plus": (post(CHUNKED, body=b"+3\r\nabc\r\n0\r\n\r\n"), 400),
    "a negative chunk size": (post(CHUNKED, body=b"-3\r\nabc\r\n0\r\n\r\n"), 400),
    "a chunk size beyond 64 bits": (post(CHUNKED, body=b"10000000000000003\r\nabc\r\n"), 400),
    "a chunk size with a space before": (post(CHUNKED, body=b" 3\r\nabc\r\n0\r\n\r\n"), 400),
    "no chunk size": (post(CHUNKED, body=b"\r\nabc\r\n0\r\n\r\n"), 400),
    "chunks that end with LF only": (post(CHUNKED, body=b"3\nabc\n0\n\n"), 400),
    "more data than its chunk": (post(CHUNKED, body=b"3\r\nabcd\r\n0\r\n\r\n"), 400),
    "a bare CR in a chunk extension": (post(CHUNKED, body=b"3;a\rb\r\nabc\r\n0\r\n\r\n"), 400),
    "a broken trailer": (post(CHUNKED, body=b"0\r\nX : 1\r\n\r\n"), 400),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_it_is_refused_and_nothing_behind_it_is_read(wire: Wire, name: str) -> None:
    sent, status = REFUSED[name]
    assert await wire.send(sent + FOLLOWED) == [status]
    assert wire.seen == []


ENDS = {
    "a client that closes": head(b"Connection: close"),
    "a client that closes, in a list": head(b"Connection: x, close"),
    "a client of HTTP/1.0": head(line=b"GET / HTTP/1.0"),
    "a client of HTTP/1.0 that would stay": head(b"Connection: keep-alive", line=b"GET / HTTP/1.0"),
    "a tunnel": head(line=b"CONNECT a:443 HTTP/1.1"),
}


@pytest.mark.parametrize("name", ENDS)
async def test_it_is_the_last_request_of_its_connection(wire: Wire, name: str) -> None:
    assert await wire.send(ENDS[name] + FOLLOWED) == [200]
    assert len(wire.seen) == 1


INCOMPLETE = {
    "half a head": b"GET / HTTP/1.1\r\nHost: a\r\n",
    "half a body": post(LENGTH, body=b"ab"),
    "half a chunk": post(CHUNKED, body=b"3\r\nab"),
    "chunks without an end": post(CHUNKED, body=b"3\r\nabc\r\n"),
}


@pytest.mark.parametrize("name", INCOMPLETE)
async def test_what_is_incomplete_is_never_handled(wire: Wire, name: str) -> None:
    assert await wire.send(INCOMPLETE[name]) == [408]
    assert wire.seen == []


EXPECTED = {name: (case[0], [200, 200]) for name, case in ACCEPTED.items()}
EXPECTED |= {name: (sent, [status]) for name, (sent, status) in REFUSED.items()}


@pytest.mark.parametrize("name", EXPECTED)
async def test_the_same_comes_out_byte_by_byte(wire: Wire, name: str) -> None:
    sent, expected = EXPECTED[name]
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    for byte in sent + FOLLOWED:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        received = await reader.read()
    writer.close()
    assert [int(status) for status in STATUS.findall(received)] == expected
