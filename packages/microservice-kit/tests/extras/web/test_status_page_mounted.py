"""The status page in a FastAPI application, and what it knows of lanes and dates."""

import contextlib
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import lane_router
from microservice_client import NoInstanceCallError
from microservice_core import InMemoryConfigCenter, InMemoryServiceRegistry
from microservice_core.testing.clock import settle
from microservice_kit import Microservice

BEARER = {"authorization": "Bearer key"}


def opened(**options: Any) -> tuple[Microservice, FastAPI, httpx.AsyncClient]:
    micro = Microservice(status_page=True, management_token="key", **options)
    app = FastAPI(lifespan=micro.lifespan)
    transport = httpx.ASGITransport(app)
    client = httpx.AsyncClient(
        transport=transport, base_url="http://app", headers=BEARER, follow_redirects=True
    )
    return micro, app, client


async def test_a_fastapi_application_has_the_page_beside_its_own() -> None:
    _, app, http = opened()
    async with app.router.lifespan_context(app), http:
        assert (await http.get("/microservice/")).status_code == 200
        page = await http.get("/microservice")
        assert page.history == []
        assert page.text.startswith("<!doctype html>")
        assert "content-security-policy" in page.headers
        assert (await http.get("/microservice/api/state")).json()["config"]["current"] == 1
        assert "/microservice" not in (await http.get("/openapi.json")).text
        answer = await http.post("/microservice/api/rollback", json={"version": 1})
        assert answer.json() == {"version": 2, "pinned": 1}
        del http.headers["authorization"]
        assert (await http.get("/microservice/api/state")).status_code == 401


@pytest.mark.parametrize("lane", ["dev", "prod", ""])
async def test_a_call_is_shown_with_the_lane_it_was_made_in(lane: str) -> None:
    micro, app, http = opened(service_registry=InMemoryServiceRegistry(), lanes="permissive")
    async with app.router.lifespan_context(app), http:
        scope = lane_router.lane_scope(lane) if lane else contextlib.nullcontext()
        with scope, pytest.raises(NoInstanceCallError):
            await micro.client.get("stock", "/")
        (call,) = (await http.get("/microservice/api/state")).json()["calls"]
        assert call["lane"] == lane


async def test_values_that_json_does_not_know_are_shown_as_text() -> None:
    center = InMemoryConfigCenter({"a.yaml": "x: 1"})
    _, app, http = opened(config_center=center, documents=["a.yaml"])
    async with app.router.lifespan_context(app), http:
        await center.publish_config("a.yaml", "day: 2026-01-02\nodd: [{2026-01-02: .nan}]\nn: .inf")
        await settle()
        answer = await http.get("/microservice/api/diff", params={"old": 1, "new": 2})
        values = {change["key"]: change["new"] for change in answer.json()["changes"]}
    assert values["day"] == '"2026-01-02"'
    assert "2026-01-02" in values["odd"]
    assert (values["n"], values["x"]) == ("Infinity", None)
