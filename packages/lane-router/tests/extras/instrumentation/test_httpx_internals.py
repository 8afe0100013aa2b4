"""Copies of requests by private and by public names of httpx: the same result, and a way back."""

import asyncio
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol, cast

import httpx
import httpx2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lane_router import LaneRouter, LaneUnavailableError, instrument, lane_scope, uninstrument
from lane_router.instrumentation import patching
from lane_router.instrumentation.httpx_internals import (
    Fields,
    PrivateRequestParts,
    PublicRequestParts,
    request_parts,
)
from lane_router.instrumentation.httpx_transport import HttpxLibrary, RoutingTransport
from lane_router.routing.egress import make_egress

libraries = pytest.mark.parametrize("library", [httpx, httpx2])


class Mesh(Protocol):
    base: Any
    dev: Any
    foreign: Any
    foreign_url: str

    def router(self, mode: str = ...) -> LaneRouter: ...


def describe(request: Any) -> dict[str, object]:
    """All that a transport can see of a request."""
    url = request.url
    return {
        "method": request.method,
        "url": str(url),
        "parts": (url.raw_scheme, url.userinfo, url.raw_host, url.port, url.raw_path, url.fragment),
        "headers": request.headers.raw,
        "encoding": request.headers.encoding,
        "looked up": request.headers.get("x-a"),
        "stream": id(request.stream),
        "extensions": id(request.extensions),
    }


hosts = st.sampled_from(
    ["orders", "Orders.shop.svc", "127.0.0.1", "[::1]", "xn--bcher-kva.example", "bücher.example"]
)
urls = st.builds(
    "{}://{}{}{}{}{}{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["", "user@", "user:se%40cret@", "us er:p@"]),
    hosts,
    st.sampled_from(["", ":80", ":443", ":8000"]),
    st.text(alphabet="/abc.%20é ?;=", max_size=12).map(lambda path: f"/{path}"),
    st.sampled_from(["", "?", "?a=1&b=%26", "?é"]),
    st.sampled_from(["", "#", "#part"]),
)
raw_headers = st.lists(
    st.tuples(st.sampled_from([b"X-A", b"x-b", b"Host"]), st.binary(max_size=8)), max_size=4
)


@libraries
@given(url=urls, headers=raw_headers, host=hosts, port=st.sampled_from([None, 80, 8001]))
def test_the_private_way_and_the_public_way_make_the_same_copy(
    library: ModuleType, url: str, headers: list[tuple[bytes, bytes]], host: str, port: int | None
) -> None:
    try:
        request = library.Request("post", url, headers=headers, content=b"body")
    except library.InvalidURL:
        assume(False)
    private, public = PrivateRequestParts(), PublicRequestParts(library)
    assert private.read(request) == public.read(request)
    fields: Fields = [(name, name.lower(), value) for name, value in headers]
    host = httpx.URL(f"http://{host}").raw_host.decode()
    port = None if port == {"http": 80, "https": 443}[request.url.scheme] else port
    before = describe(request)
    for address in ((None, None), (host, port)):
        private_copy, public_copy = (
            private.copy(request, fields, *address),
            public.copy(request, fields, *address),
        )
        assert describe(private_copy) == describe(public_copy)
        assert private_copy.content == public_copy.content == b"body"
    assert describe(request) == before


@libraries
def test_a_body_that_was_not_read_is_not_read_by_a_copy(library: ModuleType) -> None:
    def body() -> Iterator[bytes]:
        yield b"streamed"

    for parts in (PrivateRequestParts(), PublicRequestParts(library)):
        request = library.Request("POST", "http://orders/", content=body())
        copy = parts.copy(request, [])
        with pytest.raises(library.RequestNotRead):
            _ = copy.content
        assert b"".join(copy.stream) == b"streamed"


class Public:
    """An object of httpx without its private names."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __str__(self) -> str:
        return str(self.inner)


class PublicRequest(httpx.Request):
    """A request whose URL and headers have no private names, once it is made."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.complete = True

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        hidden = name in {"url", "headers"} and "complete" in super().__getattribute__("__dict__")
        return Public(value) if hidden else value


def test_the_private_way_is_chosen_for_the_releases_it_works_with() -> None:
    assert isinstance(request_parts(httpx), PrivateRequestParts)
    assert isinstance(request_parts(httpx2), PrivateRequestParts)


def test_without_the_private_names_the_public_way_is_chosen_and_works() -> None:
    library = cast(ModuleType, SimpleNamespace(Request=PublicRequest, Headers=httpx.Headers))
    parts = request_parts(library)
    assert isinstance(parts, PublicRequestParts)
    request = PublicRequest("POST", "http://orders/path?a=1", headers={"X-A": "1"}, content=b"x")
    scheme, host, request_port, fields = parts.read(request)
    assert (scheme, host, request_port) == ("http", "orders", None)
    assert (b"X-A", b"x-a", b"1") in fields
    copy = parts.copy(request, [(b"X-B", b"x-b", b"2")], "orders-dev", 8001)
    assert (copy.method, str(copy.url)) == ("POST", "http://orders-dev:8001/path?a=1")
    assert (copy.headers.raw, copy.content) == ([(b"X-B", b"2")], b"x")


def test_a_release_that_keeps_its_parts_differently_is_noticed() -> None:
    class Rearranged(httpx.Headers):
        """Header fields without the name in lower case."""

        def __init__(self, headers: Any = None, encoding: str | None = None) -> None:
            super().__init__(headers, encoding)
            self._list = [(name, value, name) for name, _, value in self._list]

    class Request(httpx.Request):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.headers = Rearranged(self.headers)

    library = cast(ModuleType, SimpleNamespace(Request=Request, Headers=httpx.Headers))
    assert isinstance(request_parts(library), PublicRequestParts)


class NoPrivateNames(HttpxLibrary):
    """httpx as if none of its private names were there."""

    def __init__(self) -> None:
        super().__init__(
            cast(
                ModuleType,
                SimpleNamespace(
                    **{name: getattr(httpx, name) for name in httpx.__all__ if name != "main"}
                    | {"Client": object, "AsyncClient": object}
                ),
            )
        )
        self.parts = PublicRequestParts(httpx)


@pytest.fixture
def public_patches() -> Iterator[None]:
    patches = NoPrivateNames().patches()
    patches.apply()
    yield
    patches.undo()


def get(url: str, **options: Any) -> int:
    with httpx.Client(follow_redirects=True) as client:
        return client.get(url, **options).status_code


def get_async(url: str, **options: Any) -> int:
    async def call() -> int:
        async with httpx.AsyncClient(follow_redirects=True) as client:
            return (await client.get(url, **options)).status_code

    return asyncio.run(call())


@pytest.mark.usefixtures("public_patches")
@pytest.mark.parametrize("call", [get, get_async])
def test_clients_are_reached_without_the_private_names(mesh: Mesh, call: Any) -> None:
    instrument(mesh.router(), libraries=[])
    mesh.dev.redirects["/away"] = mesh.foreign_url
    with lane_scope("dev"):
        assert call("http://orders/path?a=1", headers={"baggage": "user=7"}) == 200
        assert call("http://orders/away") == 200
    with lane_scope("other"):
        assert call("http://orders/", headers={"X-Lane": "prod"}) == 200
    assert mesh.dev.requests == [
        ("/path?a=1", "dev", "user=7,lane=dev"),
        ("/away", "dev", "lane=dev"),
    ]
    assert mesh.dev.hosts == [f"127.0.0.1:{mesh.dev.port}"] * 2
    assert mesh.foreign.requests == [("/", None, None)]
    assert mesh.base.requests == [("/", "prod", None)]
    uninstrument()
    assert call(mesh.foreign_url, headers={"X-Lane": "mine"}) == 200
    assert mesh.foreign.lanes == [None, "mine"]


@pytest.mark.usefixtures("public_patches")
@pytest.mark.parametrize("call", [get, get_async])
def test_a_lane_that_refuses_falls_back_without_the_private_names(mesh: Mesh, call: Any) -> None:
    instrument(mesh.router(), libraries=[])
    mesh.dev.stop()
    with lane_scope("dev"):
        assert call("http://orders/") == 200
    assert mesh.base.requests == [("/", "dev", "lane=dev")]
    instrument(mesh.router("strict"), libraries=[])
    with lane_scope("dev"), pytest.raises(LaneUnavailableError):
        call("http://orders/")


def test_the_names_that_clients_are_patched_by_are_there() -> None:
    """If this fails, requests still carry the lane, but custom transports are not reached."""
    for library in (httpx, httpx2):
        assert hasattr(library.Client, "_transport_for_url")
        assert hasattr(library.AsyncClient, "_transport_for_url")


def test_a_routing_transport_closes_what_is_behind_it() -> None:
    closed: list[str] = []
    transport = RoutingTransport(
        make_egress(None, ()), HttpxLibrary(httpx), lambda _: None, lambda: closed.append("inner")
    )
    transport.close()
    assert closed == ["inner"]
    assert patching.active_egress is None
