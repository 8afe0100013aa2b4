"""The testing aid itself: a mesh with ASGI applications, delays and faults, and its fixtures."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping

import httpx
import pytest

from microservice_client import AsyncServiceClient, ServicePolicy
from microservice_client.testing import FakeMesh
from microservice_core import InvalidValueError
from microservice_core.testing import ManualClock

A = "10.0.0.1:80"
Message = MutableMapping[str, object]


async def application(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    request = await receive()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"1")]})
    await send({"type": "http.response.body", "body": request["body"], "more_body": True})
    await send({"type": "http.response.body", "body": str(scope["path"]).encode()})


async def test_an_asgi_application_is_an_instance(
    fake_mesh: FakeMesh,
    service_client: AsyncServiceClient,
) -> None:
    await fake_mesh.start("orders", A, application)
    response = await service_client.post("orders", "/v1", content=b"sent to ")
    assert (response.status_code, response.text) == (201, "sent to /v1")
    assert response.headers["x-a"] == "1"


async def test_an_instance_may_take_its_time() -> None:
    clock = ManualClock()
    mesh = FakeMesh(sleep=clock.sleep)
    await mesh.start("orders", A, lambda _: httpx.Response(200))
    mesh.delay(A, 3.0)
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        call = asyncio.create_task(client.get("orders", "/"))
        for _ in range(20):
            await asyncio.sleep(0)
        clock.advance(2.9)
        await asyncio.sleep(0)
        assert not call.done()
        clock.advance(0.2)
        assert (await call).status_code == 200


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("refuse", "ConnectError"),
        ("reset", "ReadError"),
        ("garbage", "RemoteProtocolError"),
    ],
)
async def test_faults_are_told_as_httpx_tells_them(fault: str, kind: str) -> None:
    mesh = FakeMesh()
    await mesh.start("orders", A, lambda _: httpx.Response(200))
    mesh.fail(A, fault)  # type: ignore[arg-type]
    policy = ServicePolicy(attempts=1)
    async with AsyncServiceClient(mesh.registry, transport=mesh, default_policy=policy) as client:
        with pytest.raises(httpx.TransportError, match=kind):
            await client.get("orders", "/")


async def test_an_ipv6_address_may_be_an_instance() -> None:
    mesh = FakeMesh()
    await mesh.start("orders", "[::1]:80", lambda _: httpx.Response(200))
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        assert (await client.get("orders", "/")).status_code == 200


@pytest.mark.parametrize("address", ["10.0.0.1", ":80", "10.0.0.1:http"])
async def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(InvalidValueError, match="address must be ip:port"):
        await FakeMesh().start("orders", address, lambda _: httpx.Response(200))


async def test_a_body_that_cannot_be_read_asynchronously_is_a_mistake_of_the_test() -> None:
    mesh = FakeMesh()
    await mesh.start("orders", A, lambda _: httpx.Response(200, content=iter([b"a"])))
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        with pytest.raises(TypeError, match="read asynchronously"):
            await client.get("orders", "/")


async def test_a_builtin_may_answer() -> None:
    mesh = FakeMesh()
    answers = iter([httpx.Response(204)])
    await mesh.start("orders", A, lambda _: next(answers))
    mesh.serve_at("10.0.0.2:80", dict)  # type: ignore[arg-type] # has no signature
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        assert (await client.get("orders", "/")).status_code == 204
