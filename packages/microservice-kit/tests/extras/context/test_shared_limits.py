"""Limits on the module's Redis; while that does not respond, as here, each process limits by itself."""

import sys
from typing import Annotated
from uuid import uuid4

import httpx
import pytest
from fastapi import Depends, FastAPI

from microservice_core import MissingDependencyError
from microservice_governance import LimitConfig, RateLimitedError
from microservice_kit import (
    Microservice,
    MicroserviceModule,
    NotEnabledError,
    RequestLimitedError,
    redis_rate_limited,
)
from microservice_kit.fastapi import redis_limit

NO_REDIS = "redis://127.0.0.1:9"
TWICE = LimitConfig(rate=2, per_seconds=3600)


async def test_a_request_above_the_limit_is_a_429_with_the_fields_of_the_limit() -> None:
    micro = Microservice(redis_url=NO_REDIS)
    app = FastAPI(lifespan=micro.lifespan)
    limit = redis_limit(uuid4().hex, TWICE, key=lambda request: request.headers["user"])

    @app.get("/", dependencies=[Depends(limit)])
    async def search() -> str:
        return "found"

    transport = httpx.ASGITransport(app)
    async with (
        micro.lifespan(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as http,
    ):
        responses = [await http.get("/", headers={"user": "ada"}) for _ in range(3)]
        assert [response.status_code for response in responses] == [200, 200, 429]
        assert [response.headers["ratelimit-remaining"] for response in responses] == [
            "1",
            "0",
            "0",
        ]
        refused = responses[2]
        assert refused.headers["content-type"] == "application/problem+json"
        assert 1 <= int(refused.headers["retry-after"]) <= 3600
        assert refused.headers["ratelimit-policy"] == "2;w=3600"
        assert (await http.get("/", headers={"user": "bob"})).status_code == 200


async def test_by_default_the_address_of_the_client_is_limited() -> None:
    micro = Microservice(redis_url=NO_REDIS)
    app = FastAPI(lifespan=micro.lifespan)

    @app.get("/")
    async def search(
        decision: Annotated[tuple[object, ...], Depends(redis_limit(uuid4().hex, TWICE))],
    ) -> bool:
        return bool(decision[0])

    async with micro.lifespan(app):
        statuses = []
        for client in (("10.0.0.1", 1), ("10.0.0.1", 2), ("10.0.0.1", 3), ("10.0.0.2", 1)):
            transport = httpx.ASGITransport(app, client=client)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
                statuses.append((await http.get("/")).status_code)
    assert statuses == [200, 200, 429, 200]


async def test_a_function_is_limited_by_name_and_by_key() -> None:
    name = uuid4().hex

    @redis_rate_limited(name, TWICE, key=lambda user, **_: user)
    async def search(user: str, *, word: str = "") -> str:
        return f"{user} {word}"

    @redis_rate_limited(name, TWICE)
    async def count() -> int:
        return 1

    async with MicroserviceModule(redis_url=NO_REDIS) as module:
        assert await search("ada", word="apple") == "ada apple"
        await search("ada")
        with pytest.raises(RequestLimitedError) as caught:
            await search("ada")
        assert isinstance(caught.value, RateLimitedError)
        assert caught.value.retry_after is not None
        assert caught.value.headers["RateLimit-Remaining"] == "0"
        assert await search("bob") == "bob "
        assert await count() == 1
        assert type(module.redis).__module__.startswith("redis.asyncio")


async def test_without_a_redis_the_option_is_named() -> None:
    @redis_rate_limited(uuid4().hex, TWICE)
    async def search() -> None:
        pytest.fail("it must not be called")

    async with MicroserviceModule():
        with pytest.raises(NotEnabledError, match='redis_url="redis://'):
            await search()


def test_without_fastapi_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(MissingDependencyError, match=r"microservice-kit\[fastapi\]"):
        redis_limit("search", TWICE)
