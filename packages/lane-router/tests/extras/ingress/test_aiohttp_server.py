"""aiohttp.web: the middleware over a real server."""

from collections.abc import AsyncIterator

import aiohttp
import anyio
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Middleware
from anyio.lowlevel import checkpoint
from multidict import CIMultiDict

from lane_router import LaneClass, LaneClasses, LaneCounts, current_lane, lane_generator
from lane_router.instrumentation.aiohttp_server import lane_middleware
from microservice_core import InvalidValueError


async def show_lane(request: web.Request) -> web.Response:
    await checkpoint()
    return web.Response(text=str(current_lane()))


async def stream_lane(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(2):
        await response.write(f"{current_lane()};".encode())
        await checkpoint()
    return response


async def generate_lane(request: web.Request) -> web.Response:
    @lane_generator
    async def parts() -> AsyncIterator[bytes]:
        yield str(current_lane()).encode()

    return web.Response(body=parts())


async def show_lane_in_websocket(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for _ in websocket:
        await websocket.send_str(str(current_lane()))
    return websocket


async def fail(request: web.Request) -> web.Response:
    raise web.HTTPConflict(text=str(current_lane()))


def make_app(middleware: Middleware) -> web.Application:
    app = web.Application(middlewares=[middleware])
    app.router.add_get("/", show_lane)
    app.router.add_get("/stream", stream_lane)
    app.router.add_get("/generated", generate_lane)
    app.router.add_get("/ws", show_lane_in_websocket)
    app.router.add_get("/fail", fail)
    return app


@pytest.mark.parametrize(
    ("headers", "lane"),
    [
        ([("X-Lane", "dev")], "dev"),
        ([("baggage", "user=7,lane=dev")], "dev"),
        ([("x-lane", "dev"), ("x-lane", "test")], "None"),
        ([("x-lane", "dev"), ("baggage", "lane=test")], "None"),
        ([("x-lane", "D E V")], "None"),
        ([("x-lane", "x" * 64)], "None"),
        ([], "None"),
    ],
)
async def test_a_request_runs_in_the_lane_its_headers_name(
    headers: list[tuple[str, str]], lane: str
) -> None:
    async with (
        TestServer(make_app(lane_middleware())) as server,
        aiohttp.ClientSession(server.make_url("/")) as session,
    ):
        fields = CIMultiDict(headers)
        for path, expected in (("/", lane), ("/stream", f"{lane};{lane};"), ("/generated", lane)):
            async with session.get(path, headers=fields) as response:
                assert await response.text() == expected
        async with session.get("/fail", headers=fields) as response:
            assert (response.status, await response.text()) == (409, lane)
        async with session.ws_connect("/ws", headers=fields) as websocket:
            await websocket.send_str("lane?")
            assert (await websocket.receive()).data == lane


async def test_requests_at_the_same_time_and_on_one_connection_keep_apart() -> None:
    seen: list[str] = []
    async with (
        TestServer(make_app(lane_middleware())) as server,
        aiohttp.ClientSession(server.make_url("/")) as session,
    ):

        async def ask(lane: str) -> None:
            for _ in range(5):
                async with session.get("/", headers={"x-lane": lane}) as response:
                    assert await response.text() == lane
                async with session.get("/") as response:
                    seen.append(await response.text())

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(ask, f"lane-{number}")
    assert set(seen) == {"None"}


async def test_a_lane_that_is_not_accepted_is_refused_in_mode_strict() -> None:
    counts = LaneCounts()
    classes = LaneClasses(LaneClass("dev"), otherwise="refuse")
    middleware = lane_middleware(mode="strict", classes=classes, observer=counts)
    async with (
        TestServer(make_app(middleware)) as server,
        aiohttp.ClientSession(server.make_url("/")) as session,
    ):
        for lane, status in (("dev", 200), ("test", 400), ("D", 400)):
            async with session.get("/", headers={"x-lane": lane}) as response:
                assert response.status == status
                assert lane not in (await response.text()).split() or status == 200
    assert counts.drops == {"refused": 1, "invalid": 1}


async def test_another_header_and_no_baggage() -> None:
    middleware = lane_middleware(header="x-colour", baggage_key=None)
    async with (
        TestServer(make_app(middleware)) as server,
        aiohttp.ClientSession(server.make_url("/")) as session,
        session.get("/", headers={"X-Colour": "dev", "baggage": "lane=test"}) as response,
    ):
        assert await response.text() == "dev"


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(InvalidValueError, match="header must be"):
        lane_middleware(header="X_Lane")
    with pytest.raises(InvalidValueError, match="mode must be"):
        lane_middleware(mode="loose")  # type: ignore[arg-type]
