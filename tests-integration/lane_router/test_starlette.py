"""Inside Starlette: every place where a handler's code may run sees the lane, and only its own."""

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from lane_router import LaneMiddleware, current_lane

seen: list[tuple[str, str | None]] = []


class Watching(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        seen.append(("before", current_lane()))
        response: Response = await call_next(request)
        seen.append(("after", current_lane()))
        return response


async def handler(request: Request) -> Response:
    seen.append(("handler", current_lane()))

    async def later() -> None:
        seen.append(("background", current_lane()))

    return PlainTextResponse("", background=BackgroundTask(later))


def blocking(request: Request) -> Response:
    return PlainTextResponse(str(current_lane()))


async def streaming(request: Request) -> Response:
    async def parts() -> Any:
        for _ in range(3):
            yield f"{current_lane()} ".encode()
            await asyncio.sleep(0)

    return StreamingResponse(parts())


ROUTES = [
    Route("/", handler),
    Route("/blocking", blocking),
    Route("/streaming", streaming),
]


@pytest.mark.parametrize("outermost", [True, False])
async def test_trap_2_a_base_http_middleware_on_either_side_loses_nothing(outermost: bool) -> None:
    order = [Middleware(LaneMiddleware), Middleware(Watching)]
    app = Starlette(routes=ROUTES, middleware=order if outermost else order[::-1])
    seen.clear()
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://orders") as client:
        await client.get("/", headers={"x-lane": "dev"})
        around = "dev" if outermost else None
        assert ("before", around) in seen
        assert ("after", around) in seen
        assert ("handler", "dev") in seen
        assert ("background", "dev") in seen
        for lane in ("dev", "test"):
            headers = {"x-lane": lane}
            assert (await client.get("/blocking", headers=headers)).text == lane
            assert (await client.get("/streaming", headers=headers)).text == f"{lane} " * 3
        assert (await client.get("/blocking")).text == "None"
    assert current_lane() is None
