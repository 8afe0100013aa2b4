"""Whatever a server or proxy sends in place of the routes, the client of the registry stands it."""

import contextlib
import gzip
import itertools
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Self
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lane_router import LaneRouter, LaneUnavailableError, RouteTableError
from lane_router.route_table.registry_client import (
    LARGEST_BODY,
    RegistryClient,
    RegistryUnreachableError,
    RoutesResponse,
)
from lane_router.route_table.table import RouteTable, read_table

ROUTES = b'{"services": {"orders": {"lanes": ["dev"], "port": 8000}}, "version": "v1"}'


def response_with(body: bytes, *fields: bytes) -> bytes:
    head = [b"HTTP/1.1 200 OK", *fields, b"content-length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


GOOD = response_with(ROUTES, b'etag: W/"v1"')


class RawServer:
    """Sends each client the next response, the last one for ever, and closes the connection."""

    def __init__(self, *responses: Iterable[bytes]) -> None:
        self.responses = list(responses)
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    self.requests.append(connection.recv(262144))
                    parts = self.responses[0]
                    if len(self.responses) > 1:
                        del self.responses[0]
                    for part in parts:
                        connection.sendall(part)

    def close(self) -> None:
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def until(condition: Callable[[], bool], within_seconds: float = 20.0) -> None:
    deadline = time.monotonic() + within_seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.01)


def open_router(url: str) -> LaneRouter:
    return LaneRouter(
        url, share=False, poll_seconds=0.05, timeout_seconds=2.0, confirm_seconds=0.05,
        rng=random.Random(1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    with RawServer([GOOD]) as server:
        yield server


def read_routes(response: bytes, server: RawServer) -> RoutesResponse | None:
    """What the client makes of the response; None = it named it unusable."""
    server.responses = [[response]]
    client = RegistryClient(server.url, timeout_seconds=5.0)
    try:
        return client.get_routes(etag='W/"v0"', watch="v0", watch_seconds=1.0)
    except RegistryUnreachableError as error:
        problem = str(error)
    assert problem.isprintable()  # it goes into a log line and onto a terminal
    return None


def use_table(table: RouteTable, document: object) -> None:
    """What a call does with it: none of it may raise in the caller's code."""
    router = LaneRouter.from_document(document)  # type: ignore[arg-type]
    for service, route in table.services.items():
        for lane in (None, *route.lanes):
            for scheme in ("http", "https"):
                try:
                    found = router.resolve(service, lane, scheme=scheme)
                except LaneUnavailableError:  # no base, and the lane is not ready
                    continue
                found.host.encode("idna")
                parts = urlsplit(found.url)
                assert (parts.hostname, parts.port) == (found.host.lower(), found.port)


garbage_line = st.binary(max_size=60)
status_lines = st.one_of(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 100 Continue",
            b"HTTP/1.0 200", b"HTTP/2 200", b"HTTP/1.1 999 \xff", b"HTTP/1.1 -20 no",
            b"HTTP/1.1 \xb2\xb0\xb0 OK", b"HTTP/1.1 503 No", b"", b"ICY 200 OK",
        ]
    ),
    garbage_line,
)  # fmt: skip
field_names = st.sampled_from(
    [
        b"content-length", b"transfer-encoding", b"content-encoding", b"etag", b"age",
        b"retry-after", b"date", b"connection", b"content-type", b"x y", b"", b"\xff",
    ]
)  # fmt: skip
field_values = st.one_of(
    st.sampled_from(
        [
            b"0", b"5", b"-1", b"99999999999999999999", b"1_0", b"\xb2", b"chunked", b"gzip",
            b"gzip, gzip", b"deflate", b"identity", b'W/"\xe9"', b'"' + b"a" * 9000 + b'"', b"close",
            b"keep-alive", b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT", b"9" * 5000,
            b"1 Jan 0 00:00:00 +999999999999999999999", b"multipart/mixed; boundary=x",
            b"a\r\n folded",
        ]
    ),
    garbage_line,
)  # fmt: skip
fields = st.lists(st.tuples(field_names, field_values), max_size=6)
bodies = st.one_of(
    st.just(ROUTES),
    st.just(gzip.compress(ROUTES)),
    st.just(gzip.compress(ROUTES)[:-9]),
    st.just(b"4\r\n{}  \r\n0\r\n\r\n"),
    st.just(b"-5\r\n{}\r\n"),
    st.just(b"\xb2\r\n"),
    st.binary(max_size=80),
)


@settings(max_examples=300)
@given(status_lines, fields, bodies, st.sampled_from([b"\r\n", b"\n", b"\r"]))
def test_a_garbage_response_is_a_table_or_is_named_unusable_and_nothing_else(
    server: RawServer, status: bytes, fields: list[tuple[bytes, bytes]], body: bytes, end: bytes
) -> None:
    head = end.join([status, *(name + b": " + value for name, value in fields)])
    response = read_routes(head + end + end + body, server)
    if response is None:
        return
    assert response.age_seconds is None or 0 <= response.age_seconds <= 2**31
    assert len(response.etag) <= 300
    if response.body is not None:
        with contextlib.suppress(RouteTableError):
            read_table(response.body)


names = st.one_of(
    st.sampled_from(
        ["orders", "a..b", "\u017fervice", "\u212aey", "x" * 64, "a.", "a-.b", "x\n", ""]
    ),
    st.text(max_size=12),
)
ports = st.one_of(st.sampled_from([8000, 0, -1, True, 65536, 1.5, "80", None]), st.integers())
protocols = st.one_of(st.sampled_from(["https", "HTTP", "", 7, None, "kubernetes.io/wss"]), names)
targets = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "port": ports,
        "ports": st.one_of(st.dictionaries(names, ports, max_size=3), st.just([443])),
        "app_protocols": st.one_of(st.dictionaries(names, protocols, max_size=3), st.just("https")),
        "ready": st.sampled_from([None, 0, 1, -1, "1", []]),
        "later": st.just({"version": [1]}),
    },
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "base": st.one_of(targets, st.none(), st.just("orders")),
        "lanes": st.one_of(st.lists(st.one_of(names, st.just("dev"), st.none())), st.just("dev")),
        "port": ports,
        "lane": st.one_of(st.dictionaries(st.one_of(names, st.just("dev")), targets), st.just(5)),
        "later": st.just([None]),
    },
)
documents = st.fixed_dictionaries(
    {"services": st.dictionaries(st.one_of(names, st.just("orders")), entries, max_size=4)},
    optional={
        "version": st.one_of(st.text(), st.integers(), st.none(), st.lists(st.integers())),
        "delta": st.just({"since": "v0"}),
    },
)


@settings(max_examples=200)
@given(documents)
def test_a_garbage_table_raises_inside_nobodys_call(document: dict[str, object]) -> None:
    body = json.dumps(document).encode()
    try:
        table = read_table(body)
    except RouteTableError:
        return
    assert table.version.isprintable()
    assert len(table.version) <= 256
    use_table(table, json.loads(body))


def test_a_head_without_end_is_cut_off() -> None:
    for line in (
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"x" * 60_000,
        b"HTTP/1.1 102 Processing\r\n\r\n",
    ):
        with RawServer(itertools.repeat(line * 100)) as server:
            client = RegistryClient(server.url, timeout_seconds=30.0)
            with pytest.raises(RegistryUnreachableError):
                client.get_routes()


def test_a_head_that_arrives_byte_by_byte_is_cut_off_at_its_deadline() -> None:
    hold = threading.Event()

    def drip() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nx: "
        hold.wait(20)

    times = iter([0.0, 0.0])
    with RawServer(drip()) as server:
        client = RegistryClient(server.url, timeout_seconds=5.0, clock=lambda: next(times, 100.0))
        with pytest.raises(RegistryUnreachableError, match="did not end in time"):
            client.get_routes()
        hold.set()


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 503 No\r\nretry-after: \xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 \x1b[31m\r\n\r\n",
        response_with(ROUTES, b"content-encoding: br"),
        response_with(b"no gzip", b"content-encoding: gzip"),
        response_with(b'{"services": 7}'),
    ],
)
def test_the_poller_outlives_garbage_and_says_what_it_was(garbage: bytes) -> None:
    with RawServer([garbage]) as server, open_router(server.url) as router:
        until(lambda: router.problem not in {"", "not polled yet"})
        problem = router.problem
        assert problem.isprintable()
        assert router.stats().problem
        assert router.polling
        server.responses = [[GOOD]]
        until(lambda: router.problem == "")
        assert router.resolve("orders", "dev").outcome == "lane"


def test_it_asks_for_gzip_and_reads_it() -> None:
    body = response_with(gzip.compress(ROUTES), b"content-encoding: GZIP", b'etag: W/"v1"')
    with RawServer([body]) as server:
        response = RegistryClient(server.url).get_routes()
        assert response == RoutesResponse(ROUTES, 'W/"v1"', None)
        assert b"accept-encoding: gzip\r\n" in server.requests[0].lower()


def test_gzip_in_several_members_is_one_body() -> None:
    body = gzip.compress(ROUTES[:20]) + gzip.compress(ROUTES[20:])
    with RawServer([response_with(body, b"content-encoding: gzip")]) as server:
        assert RegistryClient(server.url).get_routes().body == ROUTES


@pytest.mark.parametrize(
    ("body", "coding", "problem"),
    [
        (gzip.compress(b" " * (LARGEST_BODY + 1)), b"gzip", "larger than"),
        (gzip.compress(ROUTES)[:-9], b"gzip", "cut off"),
        (gzip.compress(ROUTES) + b"more", b"gzip", "not gzip"),
        (ROUTES, b"gzip", "not gzip"),
        (ROUTES, b"gzip, gzip", "encoded as 'gzip, gzip'"),
        (ROUTES, b"br", "encoded as 'br'"),
    ],
)
def test_gzip_is_read_within_bounds(body: bytes, coding: bytes, problem: str) -> None:
    with (
        RawServer([response_with(body, b"content-encoding: " + coding)]) as server,
        pytest.raises(RegistryUnreachableError, match=problem),
    ):
        RegistryClient(server.url, timeout_seconds=30.0).get_routes()


@pytest.mark.parametrize("etag", [b'"' + b"a" * 5000 + b'"', b"no-quotes", b'"\xe9"', b'"a\r\n b"'])
def test_an_etag_that_is_none_is_not_sent_back(etag: bytes) -> None:
    with RawServer([response_with(ROUTES, b"etag: " + etag)]) as server:
        assert RegistryClient(server.url).get_routes().etag == ""


@pytest.mark.parametrize(
    ("version", "sent"),
    [
        ("a b&timeout=1#", b"version=a%20b%26timeout%3D1%23&"),
        ("v\u00e9", None),
        ("v" * 5000, None),
        ("a\r\nx-lane: dev", None),
        (["v"], None),
        (7, b"version=7&"),
    ],
)
def test_a_strange_version_is_sent_back_quoted_or_not_at_all(
    version: object, sent: bytes | None
) -> None:
    routes = json.dumps({**json.loads(ROUTES), "version": version}).encode()
    with RawServer([response_with(routes)]) as server, open_router(server.url) as router:
        until(lambda: len(server.requests) > 1)
        assert router.problem == ""
    if sent is None:
        assert b"watch" not in server.requests[1]
    else:
        assert sent in server.requests[1]


def test_an_age_beyond_all_measure_is_bounded() -> None:
    with RawServer([response_with(ROUTES, b"age: " + b"9" * 400)]) as server:
        assert RegistryClient(server.url).get_routes().age_seconds == 2**31


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 \xb2\xb0\xb0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"",
    ],
)
def test_a_garbage_response_to_fetch_is_an_error_of_the_network(garbage: bytes) -> None:
    with RawServer([garbage]) as server:
        base = {"name": "127.0.0.1", "port": int(server.url.rpartition(":")[2])}
        router = LaneRouter.from_document({"services": {"orders": {"base": base}}})
        with pytest.raises(OSError, match=r"."):
            router.fetch("orders", timeout_seconds=5.0)
