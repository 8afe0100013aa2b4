"""One suite for every HTTP client: each routes to the lane, and passes it on in the mesh only."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import httpx
import httpx2
import pytest
import requests
import urllib3

from lane_router import (
    LaneMiddleware,
    LaneRouter,
    LaneUnavailableError,
    MeshHosts,
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
from lane_router.routing.egress import Egress
from microservice_core import InvalidValueError


class Mesh(Protocol):
    base: Any
    dev: Any
    foreign: Any
    foreign_url: str

    def router(self, mode: str = ...) -> LaneRouter: ...


@dataclass
class Response:
    status: int
    url: str


Call = Callable[..., Response]
Headers = Mapping[str, str]


def with_httpx(
    url: str, headers: Headers | None = None, body: bytes = b"", lane: Any = None
) -> Response:
    transport = LaneTransport(lane) if lane else None
    with httpx.Client(transport=transport, follow_redirects=True) as client:
        response = client.post(url, headers=headers, content=body)
        return Response(response.status_code, str(response.url))


def with_async_httpx(
    url: str, headers: Headers | None = None, body: bytes = b"", lane: Any = None
) -> Response:
    async def call() -> Response:
        transport = AsyncLaneTransport(lane) if lane else None
        async with httpx.AsyncClient(transport=transport, follow_redirects=True) as client:
            response = await client.post(url, headers=headers, content=body)
            return Response(response.status_code, str(response.url))

    return asyncio.run(call())


def with_httpx2(
    url: str, headers: Headers | None = None, body: bytes = b"", lane: Any = None
) -> Response:
    transport = LaneTransport2(lane) if lane else None
    with httpx2.Client(transport=transport, follow_redirects=True) as client:
        response = client.post(url, headers=headers, content=body)
        return Response(response.status_code, str(response.url))


def with_async_httpx2(
    url: str, headers: Headers | None = None, body: bytes = b"", lane: Any = None
) -> Response:
    async def call() -> Response:
        transport = AsyncLaneTransport2(lane) if lane else None
        async with httpx2.AsyncClient(transport=transport, follow_redirects=True) as client:
            response = await client.post(url, headers=headers, content=body)
            return Response(response.status_code, str(response.url))

    return asyncio.run(call())


def with_aiohttp(
    url: str, headers: Headers | None = None, body: bytes = b"", lane: Any = None
) -> Response:
    async def call() -> Response:
        connector = LaneConnector(lane) if lane else None
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(url, headers=headers, data=body) as response,
        ):
            await response.read()
            return Response(response.status, str(response.url))

    return asyncio.run(call())


def with_requests(
    url: str, headers: Headers | None = None, body: bytes = b"", lane: Any = None
) -> Response:
    with requests.Session() as session:
        if lane:
            session.mount("http://", LaneAdapter(lane))
        response = session.post(url, headers=headers, data=body, timeout=10)
        return Response(response.status_code, str(response.url))


def with_urllib3(
    url: str, headers: Headers | None = None, body: bytes = b"", lane: Any = None
) -> Response:
    with LanePoolManager(lane) if lane else urllib3.PoolManager() as manager:
        response = manager.request(
            "POST", url, headers=headers, body=body, retries=urllib3.Retry(3, backoff_factor=0)
        )
        return Response(response.status, str(response.geturl()))


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
def test_each_request_goes_to_its_lane_and_carries_it(mesh: Mesh, call: Call) -> None:
    instrument(mesh.router())
    for lane in ("dev", None, "other", "prod"):
        with lane_scope(lane):
            assert call("http://orders/path?a=1").status == 200
    assert mesh.dev.requests == [("/path?a=1", "dev", "lane=dev")]
    assert mesh.base.requests == [
        ("/path?a=1", None, None),
        ("/path?a=1", "other", "lane=other"),
        ("/path?a=1", None, None),
    ]
    assert mesh.dev.hosts == [f"127.0.0.1:{mesh.dev.port}"]


@each_client
def test_the_response_shows_the_address_of_the_request(mesh: Mesh, call: Call) -> None:
    instrument(mesh.router())
    with lane_scope("dev"):
        assert call("http://orders/path").url.endswith("/path")
        if call is not with_urllib3:  # geturl() shows where the connection went
            assert call("http://orders/path").url == "http://orders/path"


@each_client
def test_a_foreign_host_receives_no_lane_even_when_the_caller_sets_one(
    mesh: Mesh, call: Call
) -> None:
    instrument(mesh.router())
    with lane_scope("dev"):
        call(mesh.foreign_url, headers={"X-Lane": "dev", "baggage": "user=7,lane=dev"})
    assert mesh.foreign.requests == [("/", None, "user=7")]


@each_client
def test_trap_3_a_redirect_out_of_the_mesh_takes_neither_carrier_along(
    mesh: Mesh, call: Call
) -> None:
    instrument(mesh.router())
    mesh.dev.redirects["/first"] = "/second"
    mesh.dev.redirects["/second"] = mesh.foreign_url
    with lane_scope("dev"):
        assert call("http://orders/first", headers={"baggage": "user=7"}).status == 200
    assert mesh.dev.requests == [
        ("/first", "dev", "user=7,lane=dev"),
        ("/second", "dev", "user=7,lane=dev"),
    ]
    assert mesh.foreign.requests == [("/", None, "user=7")]


@each_client
def test_trap_7_a_lane_that_refuses_before_a_byte_was_sent_is_served_by_the_base(
    mesh: Mesh, call: Call
) -> None:
    router = mesh.router()
    instrument(router)
    mesh.dev.stop()
    with lane_scope("dev"):
        assert call("http://orders/", body=b"once").status == 200
        assert router.resolve("orders").outcome == "base_fallback"
        assert call("http://orders/", body=b"twice").status == 200
    assert mesh.base.requests == [("/", "dev", "lane=dev")] * 2
    assert mesh.base.bodies == [b"once", b"twice"]


@each_client
def test_trap_7_a_strict_lane_that_refuses_is_an_error_and_the_base_is_not_called(
    mesh: Mesh, call: Call
) -> None:
    instrument(mesh.router("strict"))
    mesh.dev.stop()
    with lane_scope("dev"), pytest.raises(LaneUnavailableError):
        call("http://orders/")
    with lane_scope("absent"), pytest.raises(LaneUnavailableError):
        call("http://orders/")
    assert mesh.base.requests == []


@each_client
def test_a_base_that_refuses_is_the_callers_business(mesh: Mesh, call: Call) -> None:
    instrument(mesh.router())
    mesh.base.stop()
    with lane_scope("other"), pytest.raises(Exception, match=r"(?i)refused|connect"):
        call("http://orders/")


@each_client
def test_trap_14_a_lane_header_of_the_caller_routes_and_is_there_once(
    mesh: Mesh, call: Call
) -> None:
    instrument(mesh.router())
    with lane_scope("other"):
        call("http://orders/", headers={"X-Lane": "dev"})
    assert mesh.dev.requests == [("/", "dev", "lane=dev")]


@each_client
def test_a_lane_header_that_is_none_gives_way_to_the_lane_of_the_context(
    mesh: Mesh, call: Call
) -> None:
    instrument(mesh.router())
    with lane_scope("dev"):
        call("http://orders/", headers={"X-Lane": "D E V"})
    call("http://orders/", headers={"X-Lane": "D E V"})
    assert mesh.dev.requests == [("/", "dev", "lane=dev")]
    assert mesh.base.requests == [("/", None, None)]


@each_client
def test_no_lane_is_no_lane_whatever_a_propagator_put_into_the_baggage(
    mesh: Mesh, call: Call
) -> None:
    instrument(mesh.router())
    with lane_scope(None):
        call("http://orders/", headers={"baggage": "user=7,lane=dev"})
    with lane_scope("other"):
        call("http://orders/", headers={"baggage": "user=7,lane=dev"})
    with lane_scope("dev"):
        call("http://orders/", headers={"X-Lane": "prod"})
    assert mesh.base.requests == [
        ("/", None, "user=7"),
        ("/", "other", "user=7,lane=other"),
        ("/", "prod", None),
    ]


@each_client
def test_without_a_router_the_allowed_hosts_receive_the_lane_and_nothing_is_routed(
    mesh: Mesh, call: Call
) -> None:
    instrument(mesh_hosts=["127.0.0.1"])
    with lane_scope("dev"):
        call(f"http://127.0.0.1:{mesh.base.port}/")
        call(mesh.foreign_url)
    assert (mesh.base.lanes, mesh.foreign.lanes) == (["dev"], [None])


@each_client
def test_the_explicit_wrapper_does_the_same_alone(mesh: Mesh, call: Call) -> None:
    router = mesh.router()
    with lane_scope("dev"):
        call("http://orders/", lane=router)
        call(mesh.foreign_url, headers={"x-lane": "dev"}, lane=router)
        instrument(router)
        call("http://orders/", lane=router)
    assert (mesh.dev.lanes, mesh.foreign.lanes) == (["dev", "dev"], [None])


@each_client
def test_instrumenting_again_replaces_and_undoing_is_complete(mesh: Mesh, call: Call) -> None:
    instrument(mesh_hosts=["localhost"])
    instrument(mesh.router())
    with lane_scope("dev"):
        call(mesh.foreign_url)
        uninstrument()
        uninstrument()
        call(f"http://127.0.0.1:{mesh.base.port}/")
    assert (mesh.foreign.lanes, mesh.base.lanes) == ([None], [None])


def test_only_the_libraries_named_are_reached(mesh: Mesh) -> None:
    assert instrument(mesh.router(), libraries=["httpx"]) == ("httpx",)
    with lane_scope("dev"):
        with_httpx("http://orders/")
        with_requests(f"http://127.0.0.1:{mesh.base.port}/")
    assert (mesh.dev.lanes, mesh.base.lanes) == (["dev"], [None])
    with pytest.raises(InvalidValueError, match="libraries must be one of httpx"):
        instrument(libraries=["curl"])


def test_a_patch_put_on_top_of_ours_survives_the_undoing() -> None:
    libraries = instrument(mesh_hosts=["orders"])
    assert "httpx" in libraries
    below = httpx.Client._transport_for_url
    hosts: list[str] = []

    def replacement(client: httpx.Client, url: httpx.URL) -> httpx.BaseTransport:
        hosts.append(url.host)
        return below(client, url)

    httpx.Client._transport_for_url = replacement  # type: ignore[assignment,method-assign]
    try:
        uninstrument()
        with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(204))) as client:
            client.get("http://orders/", headers={"x-lane": "dev"})
        assert hosts == ["orders"]
    finally:
        httpx.Client._transport_for_url = below  # type: ignore[method-assign]
        uninstrument()


def test_a_request_built_once_and_sent_in_two_lanes_carries_each_its_own(mesh: Mesh) -> None:
    instrument(mesh.router())
    with httpx.Client() as client:
        request = client.build_request("GET", "http://orders/")
        for lane in ("dev", "other", None):
            with lane_scope(lane):
                client.send(request)
    assert (mesh.dev.lanes, mesh.base.lanes) == (["dev"], ["other", None])
    assert "x-lane" not in request.headers


def test_the_router_fetches_by_itself(mesh: Mesh) -> None:
    router = mesh.router()
    with lane_scope("dev"):
        assert router.fetch("orders", "/a", method="POST", body=b"x").status == 200
    assert router.fetch("orders", lane="dev", headers={"Accept": "x"}).body == b""
    mesh.dev.stop()
    assert router.fetch("orders", lane="dev").headers["content-length"] == "0"
    assert (mesh.dev.lanes, mesh.base.lanes) == (["dev", "dev"], ["dev"])
    mesh.base.stop()
    with pytest.raises(ConnectionRefusedError):
        router.fetch("orders")


@pytest.mark.parametrize(
    "call", [with_httpx, with_async_httpx, with_aiohttp, with_requests, with_urllib3]
)
def test_a_failed_handshake_is_no_absent_lane(mesh: Mesh, call: Call) -> None:
    router = mesh.router()
    instrument(router)
    with lane_scope("dev"), pytest.raises(Exception, match=r"(?i)ssl"):
        call(f"https://orders:{mesh.base.port}/")  # the plain port, by its number
    assert router.resolve("orders", "dev").outcome == "lane"
    assert mesh.base.requests == []


def test_a_plan_without_a_lane_does_not_fall_back(mesh: Mesh) -> None:
    egress = Egress(None, MeshHosts(["orders"]))
    plan = egress.choose("orders", 0, "dev")
    assert egress.fall_back(plan) is plan


def test_a_transport_closes_what_is_behind_it(mesh: Mesh) -> None:
    closed: list[str] = []

    class Inner(httpx.BaseTransport):
        def close(self) -> None:
            closed.append("inner")

    LaneTransport(inner=Inner()).close()
    assert closed == ["inner"]


def test_a_host_header_of_the_caller_stays(mesh: Mesh) -> None:
    instrument(mesh.router())
    with lane_scope("dev"):
        with_httpx("http://orders/", headers={"Host": "shop.example.com"})
    assert mesh.dev.hosts == ["shop.example.com"]


def test_a_wrapper_can_use_another_header(mesh: Mesh) -> None:
    transport = LaneTransport(mesh.router(), header="x-colour")
    with httpx.Client(transport=transport) as client, lane_scope("dev"):
        client.get("http://orders/")
    assert mesh.dev.requests == [("/", None, "lane=dev")]
    with pytest.raises(InvalidValueError, match="header must be"):
        LaneAdapter(header="X_Colour")


@each_client
@pytest.mark.parametrize("garbage", [b"d\xe9v", b"d\xc3\xa9v", b"a, b", b"x" * 9000, b"a\r\nb: c"])
def test_trap_4_what_came_in_as_garbage_raises_inside_nobodys_call(
    mesh: Mesh, call: Call, garbage: bytes
) -> None:
    instrument(mesh.router())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await asyncio.to_thread(call, "http://orders/")).status == 200

    async def nothing(*_: Any) -> Any:
        return {}

    scope = {"type": "http", "headers": [(b"x-lane", garbage), (b"baggage", b"lane=" + garbage)]}

    async def serve() -> None:
        await LaneMiddleware(app)(scope, nothing, nothing)

    asyncio.run(serve())
    assert mesh.base.requests == [("/", None, None)]
