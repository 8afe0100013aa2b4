"""Several FastAPI applications in one process: each request has the module of its own."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, Request, WebSocket
from starlette.applications import Starlette
from starlette.routing import Mount

from microservice_client import AsyncServiceClient, NoInstanceCallError
from microservice_core import InMemoryConfigCenter, InMemoryServiceRegistry, ServiceInstance
from microservice_kit import ConfigCenterValue, Microservice, NotEnabledError, OpenModule
from microservice_kit.fastapi import (
    api_client,
    config_part,
    config_value,
    instance_of,
    open_module,
    service_client,
)
from microservice_kit.module import AnyConfig


class Names(AnyConfig):
    who: str = "?"


class Greeter:
    who = ConfigCenterValue("a.json", "who", default="?", type=str)


class Api:
    def __init__(self, client: AsyncServiceClient) -> None:
        self.client = client


def create(name: str) -> tuple[Microservice, FastAPI]:
    micro = Microservice(
        config_center=InMemoryConfigCenter({"a.json": f'{{"who": "{name}"}}'}),
        documents=["a.json"],
        service_registry=InMemoryServiceRegistry(),
    )
    app = FastAPI(lifespan=micro.lifespan)

    @app.get("/")
    async def read(
        *,
        request: Request,
        module: Annotated[OpenModule, Depends(open_module)],
        client: Annotated[AsyncServiceClient, Depends(service_client)],
        api: Annotated[Api, Depends(api_client(Api))],
        part: Annotated[Names, Depends(config_part(Names))],
        value: Annotated[str, Depends(config_value("who", "?"))],
        instance: Annotated[ServiceInstance, Depends(instance_of("stock"))],
    ) -> list[object]:
        own = micro.module
        mine = [
            module is own,
            request.state.module is own,
            client is api.client is own.service_client,
        ]
        return [*mine, part.who, value, Greeter().who, instance.ip]

    @app.websocket("/ws")
    async def talk(
        websocket: WebSocket, value: Annotated[str, Depends(config_value("who", "?"))]
    ) -> None:
        await websocket.accept()
        await websocket.send_text(value)
        await websocket.close()

    return micro, app


async def get(app: object, path: str = "/") -> httpx.Response:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type] # any ASGI application
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        return await http.get(path)


async def offer_stock(micro: Microservice, ip: str) -> None:
    await micro.module.service_registry.register(ServiceInstance("stock", ip, 80))


async def test_each_application_has_its_own_module_in_every_dependency() -> None:
    gateway, gateway_app = create("gateway")
    orders, orders_app = create("orders")
    async with gateway.lifespan(gateway_app), orders.lifespan(orders_app):
        await offer_stock(gateway, "10.0.0.1")
        await offer_stock(orders, "10.0.0.2")
        for app, name, ip in (
            (gateway_app, "gateway", "10.0.0.1"),
            (orders_app, "orders", "10.0.0.2"),
            (gateway_app, "gateway", "10.0.0.1"),
        ):
            assert (await get(app)).json() == [True, True, True, name, name, name, ip]


async def test_a_mounted_application_uses_its_own_module_when_its_lifespan_was_entered() -> None:
    inner, inner_app = create("inner")
    outer, outer_app = create("outer")
    outer_app.mount("/inner", inner_app)

    @asynccontextmanager
    async def both(app: FastAPI) -> AsyncIterator[None]:
        async with outer.lifespan(app), inner.lifespan(inner_app):
            yield

    outer_app.router.lifespan_context = both
    async with outer_app.router.lifespan_context(outer_app):
        await offer_stock(inner, "10.0.0.1")
        await offer_stock(outer, "10.0.0.2")
        assert (await get(outer_app, "/inner/")).json()[3:] == [*3 * ["inner"], "10.0.0.1"]
        assert (await get(outer_app)).json()[3:] == [*3 * ["outer"], "10.0.0.2"]


async def test_an_application_mounted_without_a_module_uses_the_outer_one() -> None:
    outer, outer_app = create("outer")
    _, other_app = create("other")
    app = FastAPI()

    @app.get("/")
    async def read(value: Annotated[str, Depends(config_value("who", "?"))]) -> str:
        return value

    outer_app.mount("/inner", app)
    async with outer.lifespan(outer_app), other_app.router.lifespan_context(other_app):
        assert (await get(outer_app, "/inner/")).json() == "outer"


async def test_applications_mounted_in_a_plain_one_run_side_by_side() -> None:
    gateway, gateway_app = create("gateway")
    orders, orders_app = create("orders")
    root = Starlette(routes=[Mount("/g", gateway_app), Mount("/o", orders_app)])
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(gateway.lifespan(gateway_app))
        await stack.enter_async_context(orders.lifespan(orders_app))
        await offer_stock(gateway, "10.0.0.1")
        await offer_stock(orders, "10.0.0.2")
        assert (await get(root, "/g/")).json()[3] == "gateway"
        assert (await get(root, "/o/")).json()[3] == "orders"
        assert (await get(root, "/g/health/ready")).json() == {"status": "up"}


async def test_a_websocket_has_the_module_of_its_application() -> None:
    gateway, gateway_app = create("gateway")
    orders, orders_app = create("orders")
    async with gateway.lifespan(gateway_app), orders.lifespan(orders_app):
        for app, name in ((gateway_app, "gateway"), (orders_app, "orders")):
            sent: list[dict[str, object]] = []

            async def receive() -> dict[str, object]:
                return {"type": "websocket.connect"}

            async def send(message: dict[str, object], into: list[object] = sent) -> None:  # type: ignore[assignment]
                into.append(message)

            scope = {
                "type": "websocket",
                "path": "/ws",
                "raw_path": b"/ws",
                "root_path": "",
                "query_string": b"",
                "headers": [],
                "scheme": "ws",
                "subprotocols": [],
            }
            await app(scope, receive, send)  # type: ignore[arg-type] # a plain dictionary
            assert [message.get("text") for message in sent if "text" in message] == [name]


async def test_a_forgotten_lifespan_is_named() -> None:
    micro, app = create("orders")
    forgotten = FastAPI()
    forgotten.router.routes.extend(app.router.routes)
    with pytest.raises(NotEnabledError, match=r"FastAPI\(lifespan=micro.lifespan\).*mounted"):
        await get(forgotten)
    with pytest.raises(NotEnabledError, match=r"FastAPI\(lifespan=micro.lifespan\).*mounted"):
        micro.client  # noqa: B018


async def test_the_paths_for_operators_come_before_a_route_for_everything() -> None:
    micro = Microservice()
    app = FastAPI(lifespan=micro.lifespan)

    @app.get("/{path:path}")
    async def proxy(path: str) -> str:
        return f"upstream: {path}"

    async with micro.lifespan(app):
        assert (await get(app, "/health/ready")).json() == {"status": "up"}
        assert (await get(app, "/health/")).json() == {"status": "up"}
        assert (await get(app, "/orders")).json() == "upstream: orders"
    assert (await get(app, "/health/ready")).json() == "upstream: health/ready"


async def test_an_application_keeps_a_path_that_it_has_a_route_for() -> None:
    micro = Microservice()
    app = FastAPI(lifespan=micro.lifespan)

    @app.get("/health")
    async def health() -> str:
        return "mine"

    async with micro.lifespan(app):
        assert (await get(app, "/health")).json() == "mine"
        assert (await get(app, "/health/live")).json() == {"status": "up"}


async def test_an_application_can_be_started_twice() -> None:
    micro = Microservice()
    app = FastAPI(lifespan=micro.lifespan)
    for _ in range(2):
        async with micro.lifespan(app):
            micro.module.health.draining = False
            assert (await get(app, "/health/ready")).json() == {"status": "up"}


@pytest.mark.parametrize("wrapped", [False, True])
async def test_an_error_of_the_toolkit_becomes_a_problem_document(wrapped: bool) -> None:
    app = FastAPI()
    micro = Microservice(app=app if wrapped else None, service_registry="memory")

    @app.get("/")
    async def call() -> None:
        await micro.client.get("orders", "/")

    async with micro.lifespan(app):
        response = await get(micro if wrapped else app)
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_application_s_own_handler_of_an_error_wins() -> None:
    micro = Microservice(service_registry="memory")
    app = FastAPI(lifespan=micro.lifespan)

    @app.exception_handler(NoInstanceCallError)
    async def mine(request: Request, error: NoInstanceCallError) -> object:
        from starlette.responses import PlainTextResponse

        return PlainTextResponse("mine", 418)

    @app.get("/")
    async def call() -> None:
        await micro.client.get("orders", "/")

    async with micro.lifespan(app):
        assert (await get(app)).status_code == 418


async def test_errors_come_out_when_asked_to() -> None:
    micro = Microservice(service_registry="memory", error_responses=False)
    app = FastAPI(lifespan=micro.lifespan)

    @app.get("/")
    async def call() -> None:
        await micro.client.get("orders", "/")

    async with micro.lifespan(app):
        with pytest.raises(NoInstanceCallError):
            await get(app)
