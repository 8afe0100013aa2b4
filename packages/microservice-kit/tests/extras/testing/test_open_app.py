"""A FastAPI application in a test: its services, documents and registry are those of the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

from microservice_kit import Microservice, NotEnabledError
from microservice_kit.testing import open_app


class Settings(BaseModel):
    most_pieces: int = 5


def create_orders() -> tuple[Microservice[Settings], FastAPI]:
    micro = Microservice(
        service_name="orders", config=Settings, config_center="nacos", service_registry="nacos"
    )
    app = FastAPI(lifespan=micro.lifespan)

    @app.post("/orders/{article}")
    async def order(article: str, pieces: int = 1) -> dict[str, object]:
        if pieces > micro.config.current.most_pieces:
            raise HTTPException(422, "too many")
        stock = (await micro.client.get("inventory", f"/stock/{article}")).json()
        return {"article": article, "left": stock["pieces"] - pieces}

    return micro, app


def create_inventory() -> tuple[Microservice[Any], FastAPI]:
    micro = Microservice(service_name="inventory", service_registry="nacos")
    app = FastAPI(lifespan=micro.lifespan)

    @app.get("/stock/{article}")
    async def stock(article: str) -> dict[str, object]:
        return {"article": article, "pieces": 12, "service": micro.settings.service_name}

    return micro, app


async def test_a_test_of_five_lines() -> None:
    micro, app = create_orders()
    async with open_app(micro, app) as opened:
        await opened.mesh.start(
            "inventory", "10.0.0.1:80", lambda _: httpx.Response(200, json={"pieces": 3})
        )
        response = await opened.http.post("/orders/apple", params={"pieces": 2})
        assert response.json() == {"article": "apple", "left": 1}


async def test_two_applications_call_each_other_without_a_socket() -> None:
    async with (
        open_app(*create_inventory()) as inventory,
        open_app(*create_orders(), mesh=inventory.mesh) as orders,
    ):
        await orders.mesh.start("inventory", "10.0.0.1:80", create_inventory()[1])
        response = await orders.http.post("/orders/apple", params={"pieces": 2})
        assert response.json()["left"] == 10
        assert (await inventory.http.get("/stock/pear")).json()["service"] == "inventory"


async def test_a_document_changes_while_the_test_runs() -> None:
    micro, app = create_orders()
    async with open_app(micro, app, documents={"orders.yaml": "most_pieces: 1"}) as opened:
        assert (await opened.http.post("/orders/pear?pieces=2")).status_code == 422
        await opened.publish("orders.yaml", "most_pieces: 2")
        response = await opened.http.post("/orders/pear?pieces=2")
        assert response.status_code == 503  # nobody offers inventory
        assert response.headers["content-type"] == "application/problem+json"


async def test_what_the_lifespan_yields_is_in_the_request() -> None:
    micro = Microservice()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        async with micro.lifespan(app) as state:
            yield {**state, "database": "open"}

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def read(request: Request) -> list[object]:
        return [request.state.database, request.state.module is micro.module]

    async with open_app(micro, app) as opened:
        assert (await opened.http.get("/")).json() == ["open", True]


async def test_an_application_that_forgets_the_lifespan_is_told_so() -> None:
    with pytest.raises(NotEnabledError, match=r"FastAPI\(lifespan=micro.lifespan\)"):
        async with open_app(Microservice(), FastAPI()):
            pytest.fail("it must not open")


async def test_the_overrides_end_with_the_test() -> None:
    micro, app = create_orders()
    async with open_app(micro, app):
        pass
    assert micro.container.transport() is None
    async with open_app(micro, app) as opened:
        assert (await opened.http.get("/health/ready")).status_code == 200


def test_starlette_s_own_test_client_works_as_well() -> None:
    pytest.importorskip("httpx2")  # which it needs
    from starlette.testclient import TestClient

    micro = Microservice(service_name="orders")
    with TestClient(FastAPI(lifespan=micro.lifespan)) as client:
        assert client.get("/health/ready").json() == {"status": "up"}
