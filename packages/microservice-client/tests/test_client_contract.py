# mypy: disable-error-code="empty-body"
"""The same scenarios through every face: one engine, so one behaviour."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import httpx
import pytest

from microservice_client import (
    AsyncServiceClient,
    AsyncServiceTransport,
    BodyBrokenError,
    CallFailedError,
    CallTimeoutError,
    ClientOptions,
    NoInstanceCallError,
    ServiceCallError,
    ServiceClient,
    ServicePolicy,
    ServiceTransport,
    service_call,
    service_client,
)
from microservice_client.testing import FakeMesh

A, B = "10.0.0.1:80", "10.0.0.2:80"
ADDRESSES = {"orders": [f"http://{A}", f"http://{B}"], "nobody": []}
QUICK = ServicePolicy(backoff_seconds=0, balancer="round_robin")


class Face(Protocol):
    def __call__(
        self,
        options: ClientOptions,
        method: str,
        service: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 10.0,
    ) -> httpx.Response: ...


@service_client("orders")
class Declared:
    client: AsyncServiceClient

    @service_call("GET", "/path")
    async def get(self) -> httpx.Response: ...


@service_client("orders")
class DeclaredPlainly:
    client: ServiceClient

    @service_call("GET", "/path")
    def get(self) -> httpx.Response: ...


def by_async_client(options, method, service, *, content=None, headers=None, seconds=10.0):  # type: ignore[no-untyped-def]
    async def run() -> httpx.Response:
        async with AsyncServiceClient.from_addresses(ADDRESSES, **options) as client:
            return await client.request(
                method, service, "/path", content=content, headers=headers, timeout=seconds
            )

    return asyncio.run(run())


def by_async_stream(options, method, service, *, content=None, headers=None, seconds=10.0):  # type: ignore[no-untyped-def]
    async def run() -> httpx.Response:
        async with (
            AsyncServiceClient.from_addresses(ADDRESSES, **options) as client,
            client.stream(
                method, service, "/path", content=content, headers=headers, timeout=seconds
            ) as response,
        ):
            await response.aread()
            return response

    return asyncio.run(run())


def by_async_transport(options, method, service, *, content=None, headers=None, seconds=10.0):  # type: ignore[no-untyped-def]
    async def run() -> httpx.Response:
        options["default_policy"] = _within(options, seconds)
        async with (
            AsyncServiceClient.from_addresses(ADDRESSES, **options) as client,
            httpx.AsyncClient(
                transport=AsyncServiceTransport(client), base_url=f"http://{service}"
            ) as http,
        ):
            return await http.request(method, "/path", content=content, headers=headers)

    return asyncio.run(run())


def by_sync_client(options, method, service, *, content=None, headers=None, seconds=10.0):  # type: ignore[no-untyped-def]
    with ServiceClient.from_addresses(ADDRESSES, **options) as client:
        return client.request(
            method, service, "/path", content=content, headers=headers, timeout=seconds
        )


def by_sync_stream(options, method, service, *, content=None, headers=None, seconds=10.0):  # type: ignore[no-untyped-def]
    with (
        ServiceClient.from_addresses(ADDRESSES, **options) as client,
        client.stream(
            method, service, "/path", content=content, headers=headers, timeout=seconds
        ) as response,
    ):
        response.read()
        return response


def by_sync_transport(options, method, service, *, content=None, headers=None, seconds=10.0):  # type: ignore[no-untyped-def]
    options["default_policy"] = _within(options, seconds)
    with (
        ServiceClient.from_addresses(ADDRESSES, **options) as client,
        httpx.Client(transport=ServiceTransport(client), base_url=f"http://{service}") as http,
    ):
        return http.request(method, "/path", content=content, headers=headers)


def _within(options: ClientOptions, seconds: float) -> ServicePolicy:
    return QUICK.model_copy(
        update={"total_timeout_seconds": seconds, "attempt_timeout_seconds": seconds}
    )


FACES = [
    by_async_client,
    by_async_stream,
    by_async_transport,
    by_sync_client,
    by_sync_stream,
    by_sync_transport,
]


@pytest.fixture(params=FACES, ids=lambda face: face.__name__)
def face(request: pytest.FixtureRequest) -> Face:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def mesh() -> Iterator[FakeMesh]:
    mesh = FakeMesh()
    for address in (A, B):
        mesh.serve_at(address, lambda request: httpx.Response(200, content=request.content or b"-"))
    yield mesh
    assert mesh.open_bodies == 0
    assert mesh.closed


def options(mesh: FakeMesh) -> ClientOptions:
    return {"transport": mesh, "default_policy": QUICK}


def test_request_and_response_pass_unchanged(face: Face, mesh: FakeMesh) -> None:
    response = face(options(mesh), "PUT", "orders", content=b"sent", headers={"x-a": "1"})
    (request,) = mesh.requests
    assert (response.status_code, response.content) == (200, b"sent")
    assert (request.method, request.url.path, request.headers["x-a"]) == ("PUT", "/path", "1")
    assert response.request.url.host == "orders"
    assert response.raise_for_status() is response


@pytest.mark.parametrize("fault", ["refuse", "reset", "garbage"])
def test_an_idempotent_call_goes_elsewhere(face: Face, mesh: FakeMesh, fault: str) -> None:
    mesh.fail(A, fault)  # type: ignore[arg-type]
    for _ in range(2):
        assert face(options(mesh), "GET", "orders").status_code == 200


def test_a_call_that_is_not_idempotent_does_not(face: Face, mesh: FakeMesh) -> None:
    for address in (A, B):
        mesh.fail(address, "reset")
    with pytest.raises(CallFailedError) as caught:
        face(options(mesh), "POST", "orders", content=b"x")
    assert mesh.request_counts.total() == 1
    assert [one.outcome for one in caught.value.attempts] == ["ReadError"]
    assert caught.value.request.url.host == "orders"


def test_everyone_who_was_tried_is_named(face: Face, mesh: FakeMesh) -> None:
    for address in (A, B):
        mesh.fail(address, "refuse")
    with pytest.raises(CallFailedError) as caught:
        face(options(mesh), "GET", "orders")
    assert {one.instance_id for one in caught.value.attempts} == {A, B}


def test_error_statuses_are_answers(face: Face, mesh: FakeMesh) -> None:
    for address in (A, B):
        mesh.serve_at(address, lambda _: httpx.Response(404, text="no"))
    response = face(options(mesh), "GET", "orders")
    assert (response.status_code, response.text) == (404, "no")
    assert mesh.request_counts.total() == 1


def test_the_last_answer_comes_out_when_all_say_try_elsewhere(face: Face, mesh: FakeMesh) -> None:
    for address in (A, B):
        mesh.serve_at(address, lambda _: httpx.Response(503, text="busy"))
    response = face(options(mesh), "GET", "orders")
    assert (response.status_code, response.text, mesh.request_counts.total()) == (503, "busy", 3)


def test_nobody_there_is_an_error_that_says_so(face: Face, mesh: FakeMesh) -> None:
    with pytest.raises(NoInstanceCallError, match="no instances registered"):
        face(options(mesh), "GET", "nobody")


def test_the_time_of_the_call_is_kept(face: Face, mesh: FakeMesh) -> None:
    for address in (A, B):
        mesh.fail(address, "hang")
    with pytest.raises((CallTimeoutError, CallFailedError)) as caught:
        face(options(mesh), "GET", "orders", seconds=0.05)
    assert caught.value.service == "orders"


def test_a_body_that_breaks_off_is_an_error(face: Face, mesh: FakeMesh) -> None:
    for address in (A, B):
        mesh.fail(address, "break")
    with pytest.raises(BodyBrokenError) as caught:
        face(options(mesh), "GET", "orders")
    assert isinstance(caught.value, ServiceCallError)


@pytest.mark.parametrize("plainly", [True, False])
def test_declared_calls_come_by_the_same_way(mesh: FakeMesh, plainly: bool) -> None:
    mesh.fail(A, "refuse")

    async def declared() -> httpx.Response:
        async with AsyncServiceClient.from_addresses(ADDRESSES, **options(mesh)) as client:
            return await Declared(client).get()

    def declared_plainly() -> httpx.Response:
        with ServiceClient.from_addresses(ADDRESSES, **options(mesh)) as client:
            return DeclaredPlainly(client).get()

    run: Callable[[], httpx.Response] = (
        declared_plainly if plainly else lambda: asyncio.run(declared())
    )
    assert {run().content for _ in range(2)} == {b"-"}
