"""`https://SERVICE/` in an instrumented process: over TLS to the port for it, in its lane."""

import asyncio
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import aiohttp
import httpx
import httpx2
import pytest
import requests
import urllib3

from lane_router import (
    LaneRouter,
    LaneUnavailableError,
    instrument,
    lane_scope,
    uninstrument,
)
from lane_router.instrumentation.aiohttp_client import LaneConnector
from lane_router.instrumentation.httpx2_clients import AsyncLaneTransport as AsyncLaneTransport2
from lane_router.instrumentation.httpx2_clients import LaneTransport as LaneTransport2
from lane_router.instrumentation.httpx_clients import AsyncLaneTransport, LaneTransport
from lane_router.instrumentation.requests_client import LaneAdapter
from lane_router.instrumentation.urllib3_client import LanePoolManager


class Service(Protocol):
    port: int
    lanes: list[str | None]
    hosts: list[str | None]
    server: Any

    def stop(self) -> None: ...


class Mesh(Protocol):
    base: Service
    dev: Service
    foreign: Service


class Authority(NamedTuple):
    """A certificate that signs itself, for 127.0.0.1 alone, and its key."""

    certificate: Path
    key: Path

    @property
    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder / "certificate.pem", folder / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(authority.key), "-out", str(authority.certificate)),
            *("-subj", "/CN=orders", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return authority


def serve_tls(service: Service, authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    # Where the socket is handed out: a handshake that fails must not end the listening thread.
    accept = service.server.get_request

    def accept_tls() -> tuple[ssl.SSLSocket, object]:
        connection, address = accept()
        return context.wrap_socket(connection, server_side=True), address

    service.server.get_request = accept_tls


@pytest.fixture
def secure_mesh(mesh: Mesh, authority: Authority) -> Iterator[Mesh]:
    """The base and the lane speak TLS; the third service is the plain port that both publish."""
    for service in (mesh.base, mesh.dev):
        serve_tls(service, authority)
    yield mesh
    uninstrument()


def target(service: Service, plain: Service, **more: object) -> dict[str, object]:
    ports = {"http": plain.port, "https": service.port}
    return {"name": "127.0.0.1", "port": plain.port, "ports": ports, **more}


def router_of(mesh: Mesh, **options: Any) -> LaneRouter:
    entry = {
        "lanes": ["dev"],
        "base": target(mesh.base, mesh.foreign),
        "lane": {"dev": target(mesh.dev, mesh.foreign)},
    }
    return LaneRouter.from_document({"services": {"orders": entry}}, **options)


Call = Callable[..., int]


def with_httpx(url: str, authority: Authority, lane: Any = None) -> int:
    inner = httpx.HTTPTransport(verify=authority.trusted)
    transport = LaneTransport(lane, inner=inner) if lane else inner
    with httpx.Client(transport=transport) as client:
        return client.get(url).status_code


def with_async_httpx(url: str, authority: Authority, lane: Any = None) -> int:
    async def call() -> int:
        inner = httpx.AsyncHTTPTransport(verify=authority.trusted)
        transport = AsyncLaneTransport(lane, inner=inner) if lane else inner
        async with httpx.AsyncClient(transport=transport) as client:
            return (await client.get(url)).status_code

    return asyncio.run(call())


def with_httpx2(url: str, authority: Authority, lane: Any = None) -> int:
    inner = httpx2.HTTPTransport(verify=authority.trusted)
    transport = LaneTransport2(lane, inner=inner) if lane else inner
    with httpx2.Client(transport=transport) as client:
        return client.get(url).status_code


def with_async_httpx2(url: str, authority: Authority, lane: Any = None) -> int:
    async def call() -> int:
        inner = httpx2.AsyncHTTPTransport(verify=authority.trusted)
        transport = AsyncLaneTransport2(lane, inner=inner) if lane else inner
        async with httpx2.AsyncClient(transport=transport) as client:
            return (await client.get(url)).status_code

    return asyncio.run(call())


def with_aiohttp(url: str, authority: Authority, lane: Any = None) -> int:
    async def call() -> int:
        options: dict[str, Any] = {"ssl": authority.trusted}
        connector = LaneConnector(lane, **options) if lane else aiohttp.TCPConnector(**options)
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as found:
            return found.status

    return asyncio.run(call())


def with_requests(url: str, authority: Authority, lane: Any = None) -> int:
    with requests.Session() as session:
        if lane:
            session.mount("https://", LaneAdapter(lane, pool_maxsize=2))
        return session.get(url, verify=str(authority.certificate), timeout=10).status_code


def with_urllib3(url: str, authority: Authority, lane: Any = None) -> int:
    options: dict[str, Any] = {"ca_certs": str(authority.certificate)}
    with LanePoolManager(lane, **options) if lane else urllib3.PoolManager(**options) as manager:
        retries = urllib3.Retry(3, backoff_factor=0)
        return int(manager.request("GET", url, retries=retries).status)


CLIENTS = [
    with_httpx,
    with_async_httpx,
    with_httpx2,
    with_async_httpx2,
    with_aiohttp,
    with_requests,
    with_urllib3,
]
each_client = pytest.mark.parametrize("call", CLIENTS)


@each_client
def test_https_goes_to_the_port_that_is_published_for_it(
    secure_mesh: Mesh, authority: Authority, call: Call
) -> None:
    instrument(router_of(secure_mesh))
    for lane in ("dev", None, "other"):
        with lane_scope(lane):
            assert call("https://orders/", authority) == 200
    assert secure_mesh.dev.lanes == ["dev"]
    assert secure_mesh.dev.hosts == [f"127.0.0.1:{secure_mesh.dev.port}"]
    assert secure_mesh.base.lanes == [None, "other"]


@each_client
def test_the_explicit_wrapper_routes_https_and_takes_the_librarys_options(
    secure_mesh: Mesh, authority: Authority, call: Call
) -> None:
    with lane_scope("dev"):
        assert call("https://orders/", authority, lane=router_of(secure_mesh)) == 200
    assert secure_mesh.dev.lanes == ["dev"]


@each_client
def test_http_still_goes_to_the_plain_port(
    secure_mesh: Mesh, authority: Authority, call: Call
) -> None:
    instrument(router_of(secure_mesh))
    with lane_scope("dev"):
        assert call("http://orders/", authority) == 200
    assert secure_mesh.foreign.lanes == ["dev"]


@each_client
def test_a_port_named_in_an_https_url_is_mapped_by_its_name(
    secure_mesh: Mesh, authority: Authority, call: Call
) -> None:
    instrument(router_of(secure_mesh))
    with lane_scope("dev"):
        assert call(f"https://orders:{secure_mesh.base.port}/", authority) == 200
    assert secure_mesh.dev.lanes == ["dev"]


@each_client
def test_a_lane_that_refuses_over_tls_is_served_by_the_base_or_is_an_error_when_strict(
    secure_mesh: Mesh, authority: Authority, call: Call
) -> None:
    secure_mesh.dev.stop()
    instrument(router_of(secure_mesh))
    with lane_scope("dev"):
        assert call("https://orders/", authority) == 200
    assert secure_mesh.base.lanes == ["dev"]
    instrument(router_of(secure_mesh, mode="strict"))
    with lane_scope("dev"), pytest.raises(LaneUnavailableError):
        call("https://orders/", authority)
    assert secure_mesh.base.lanes == ["dev"]


@each_client
def test_a_certificate_that_is_not_for_the_lanes_host_is_an_error_and_the_base_is_not_called(
    secure_mesh: Mesh, authority: Authority, call: Call
) -> None:
    entry = {
        "base": target(secure_mesh.base, secure_mesh.foreign),
        "lane": {"dev": target(secure_mesh.dev, secure_mesh.foreign) | {"name": "localhost"}},
        "lanes": ["dev"],
    }
    instrument(LaneRouter.from_document({"services": {"orders": entry}}))
    with lane_scope("dev"), pytest.raises(Exception, match=r"(?i)certificate"):
        call("https://orders/", authority)
    assert (secure_mesh.dev.lanes, secure_mesh.base.lanes) == ([], [])


def test_a_websocket_over_tls_goes_to_the_port_that_is_published_for_https(
    secure_mesh: Mesh, authority: Authority
) -> None:
    instrument(router_of(secure_mesh))

    async def connect() -> None:
        connector = aiohttp.TCPConnector(ssl=authority.trusted)
        async with aiohttp.ClientSession(connector=connector) as session:
            await session.ws_connect("wss://orders/")

    # The server speaks no WebSocket: that it answered at all says that TLS was spoken.
    with lane_scope("dev"), pytest.raises(aiohttp.WSServerHandshakeError):
        asyncio.run(connect())
    assert secure_mesh.dev.lanes == ["dev"]
