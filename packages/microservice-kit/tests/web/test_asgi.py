import asyncio
from typing import Any, Self

import httpx
import pytest
from pydantic import BaseModel

from microservice_core import InMemoryServiceRegistry
from microservice_kit import Microservice, NotEnabledError


class AppConfig(BaseModel):
    greeting: str = "hello"


async def test_the_lifespan_registers_on_start_and_deregisters_on_stop() -> None:
    registry = InMemoryServiceRegistry()
    micro = Microservice(
        service_name="orders", host="10.0.0.7", port=8000, service_registry=registry
    )
    async with micro.lifespan(None) as state:
        assert state == {"module": micro.module}
        assert len(await registry.get_instances("orders")) == 1
    assert await registry.get_instances("orders") == ()


async def test_the_open_parts_are_at_hand_while_the_application_runs() -> None:
    micro = Microservice(service_registry="memory", config=AppConfig)
    async with micro.lifespan(None):
        assert micro.config.current.greeting == "hello"
        assert micro.client is micro.module.service_client
    with pytest.raises(NotEnabledError, match="use it while the application runs"):
        micro.module  # noqa: B018


async def test_a_broken_setting_is_told_when_the_application_is_built() -> None:
    with pytest.raises(ValueError, match="port must be valid"):
        Microservice(port=0)


async def test_httpx_errors_of_the_client_are_errors_of_the_toolkit() -> None:
    micro = Microservice(service_registry="memory")
    async with micro.lifespan(None):
        with pytest.raises(httpx.TransportError, match="no instances registered"):
            await micro.client.get("orders", "/")


class Inner:
    """An ASGI application that notes its own lifespan and says which service it is."""

    def __init__(self, *, lifespan: bool = True, fails: bool = False) -> None:
        self.events: list[str] = []
        self._lifespan = lifespan
        self._fails = fails

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert self._lifespan, "it knows no lifespan"
            await receive()
            self.events.append(f"up with {scope['state']['module'].instance.service_name}")
            if self._fails:
                await send({"type": "lifespan.startup.failed", "message": "no disk"})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.events.append("down")
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inner"})


class Server:
    """Drives an application's lifespan as a server does."""

    def __init__(self, app: Microservice) -> None:
        self._app = app
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(
            self._app({"type": "lifespan"}, self._inbox.get, self.sent.put)
        )
        await self._inbox.put({"type": "lifespan.startup"})
        self.started = await self.sent.get()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._inbox.put({"type": "lifespan.shutdown"})
        await asyncio.gather(self._task, return_exceptions=True)

    async def get(self, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            return await client.get(path)


def wrapped(inner: Inner, registry: InMemoryServiceRegistry, **options: Any) -> Microservice:
    return Microservice(
        app=inner,
        service_name="orders",
        host="10.0.0.7",
        port=8000,
        service_registry=registry,
        **options,
    )


async def test_any_application_is_wrapped_with_its_own_lifespan_inside() -> None:
    inner, registry = Inner(), InMemoryServiceRegistry()
    async with Server(wrapped(inner, registry)) as server:
        assert server.started["type"] == "lifespan.startup.complete"
        assert len(await registry.get_instances("orders")) == 1
        assert (await server.get("/anything")).text == "inner"
        assert (await server.get("/health/ready")).json() == {"status": "up"}
    assert (await server.sent.get())["type"] == "lifespan.shutdown.complete"
    assert inner.events == ["up with orders", "down"]
    assert await registry.get_instances("orders") == ()


async def test_an_application_without_a_lifespan_is_fine() -> None:
    inner, registry = Inner(lifespan=False), InMemoryServiceRegistry()
    async with Server(wrapped(inner, registry, management=False)) as server:
        assert server.started["type"] == "lifespan.startup.complete"
        assert (await server.get("/health/ready")).text == "inner"
    assert (await server.sent.get())["type"] == "lifespan.shutdown.complete"


async def test_an_application_that_fails_to_start_leaves_nothing_registered() -> None:
    inner, registry = Inner(fails=True), InMemoryServiceRegistry()
    async with Server(wrapped(inner, registry)) as server:
        assert server.started == {"type": "lifespan.startup.failed", "message": "no disk"}
        assert await registry.get_instances("orders") == ()


async def test_a_module_that_cannot_open_tells_the_server_why() -> None:
    app = Microservice(app=Inner(), service_registry="nobody")
    async with Server(app) as server:
        assert server.started["type"] == "lifespan.startup.failed"
        assert "nobody" in server.started["message"]


async def test_without_an_application_there_is_nothing_to_call() -> None:
    with pytest.raises(NotEnabledError, match="app="):
        await Microservice()({"type": "http"}, None, None)  # type: ignore[arg-type]
