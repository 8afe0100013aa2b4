"""The two ways of `Microservice` in ASGI frameworks other than FastAPI, on a real uvicorn."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import uvicorn
from litestar import Litestar, get
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from microservice_core import InMemoryServiceRegistry
from microservice_kit import Microservice

App = Callable[..., Awaitable[None]]


def starlette(micro: Microservice, *, wrapped: bool) -> App:
    async def greet(_: Request) -> JSONResponse:
        return JSONResponse({"greeting": micro.config.get("greeting", "hello")})

    return Starlette(routes=[Route("/", greet)], lifespan=None if wrapped else micro.lifespan)


def litestar(micro: Microservice, *, wrapped: bool) -> App:
    @get("/")
    async def greet() -> dict[str, object]:
        return {"greeting": micro.config.get("greeting", "hello")}

    return Litestar([greet], lifespan=[] if wrapped else [micro.lifespan], openapi_config=None)


class QuietServer(uvicorn.Server):
    """Leaves the signals of the test's process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@contextlib.asynccontextmanager
async def served(app: App, port: int) -> AsyncIterator[httpx.AsyncClient]:
    server = QuietServer(uvicorn.Config(app, log_level="warning", port=port))
    task = asyncio.ensure_future(server.serve())
    try:
        async with (
            asyncio.timeout(20),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
        ):
            while not server.started:
                await asyncio.sleep(0.01)
            yield http
    finally:
        server.should_exit = True
        await task


@pytest.mark.parametrize("wrapped", [False, True], ids=["lifespan", "wrapped"])
@pytest.mark.parametrize("framework", [starlette, litestar])
async def test_it_is_registered_configured_and_leaves(
    framework: Callable[..., App], wrapped: bool, free_port: int
) -> None:
    registry = InMemoryServiceRegistry()
    app: App | None = None

    async def later(*given: object) -> None:
        assert app is not None
        await app(*given)

    micro = Microservice(
        app=later if wrapped else None,
        service_name="orders",
        service_registry=registry,
        host="127.0.0.1",
    )
    app = framework(micro, wrapped=wrapped)
    async with served(micro if wrapped else app, free_port) as http:
        while not (found := await registry.get_instances("orders")):
            await asyncio.sleep(0.01)
        assert [one.port for one in found] == [free_port]
        assert (await http.get("/")).json() == {"greeting": "hello"}
        assert (await http.get("/health/ready")).json() == {"status": "up"}
    assert await registry.get_instances("orders") == ()
