import logging
from collections.abc import AsyncIterator, Awaitable
from urllib.parse import quote

import httpx
import pytest

from microservice_client import (
    AsyncServiceClient,
    CallLog,
    ErrorMapping,
    HeaderForwarding,
    Interceptor,
    ResendRequest,
    ResponseTransform,
    ServicePolicy,
    TraceContextForwarding,
    UserInfoForwarding,
    inbound_headers,
)
from microservice_client.testing import FakeMesh
from microservice_core.testing import ManualClock

A = "10.0.0.1:80"
ONCE = ServicePolicy(attempts=1)


class Noting(Interceptor):
    """Notes when it was passed, and in which direction."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self._name = name
        self._notes = notes

    def on_request(self, request: httpx.Request) -> None:
        self._notes.append(f"> {self._name}")

    async def on_response(self, request: httpx.Request, response: httpx.Response) -> None:
        self._notes.append(f"< {self._name}")

    async def on_error(self, request: httpx.Request, error: Exception) -> None:
        self._notes.append(f"! {self._name}")


async def mesh_of(*statuses: int) -> FakeMesh:
    mesh = FakeMesh()
    answers = iter(statuses)
    await mesh.start("orders", A, lambda _: httpx.Response(next(answers), text="body"))
    return mesh


def client_of(mesh: FakeMesh, *interceptors: object) -> AsyncServiceClient:
    return AsyncServiceClient(
        mesh.registry,
        transport=mesh,
        default_policy=ONCE,
        interceptors=interceptors,  # type: ignore[arg-type]
    )


async def test_the_first_sees_the_request_first_and_the_response_last() -> None:
    mesh, notes = await mesh_of(200), list[str]()
    async with AsyncServiceClient(
        mesh.registry,
        transport=mesh,
        interceptors=[Noting("client", notes)],
        service_interceptors={
            "orders": [Noting("service", notes)],
            "stock": [Noting("other", notes)],
        },
    ) as client:
        await client.get("orders", "/", interceptors=[Noting("call", notes)])
    assert notes == ["> client", "> service", "> call", "< call", "< service", "< client"]


async def test_an_error_comes_by_all_of_them() -> None:
    mesh, notes = await mesh_of(), list[str]()
    mesh.fail(A, "refuse")
    async with client_of(mesh, Noting("outer", notes), Noting("inner", notes)) as client:
        with pytest.raises(httpx.TransportError):
            await client.get("orders", "/")
    assert notes == ["> outer", "> inner", "! inner", "! outer"]


async def test_interceptors_stand_around_all_attempts() -> None:
    mesh, notes = await mesh_of(503, 200), list[str]()
    async with AsyncServiceClient(
        mesh.registry,
        transport=mesh,
        interceptors=[Noting("once", notes)],
        default_policy=ServicePolicy(backoff_seconds=0),
    ) as client:
        await client.get("orders", "/")
    assert notes == ["> once", "< once"]
    assert mesh.request_counts == {A: 2}


async def test_a_request_interceptor_may_be_a_coroutine_function() -> None:
    mesh = await mesh_of(200)

    async def sign(request: httpx.Request) -> None:
        request.headers["x-signed"] = "yes"

    async with client_of(mesh, sign) as client:
        await client.get("orders", "/")
    assert mesh.requests[0].headers["x-signed"] == "yes"


async def test_an_interceptor_may_answer_by_itself() -> None:
    mesh, notes = await mesh_of(), list[str]()

    def cached(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="cached")

    async with client_of(mesh, Noting("outer", notes), cached, Noting("inner", notes)) as client:
        response = await client.get("orders", "/")
    assert response.text == "cached"
    assert response.raise_for_status() is response
    assert notes == ["> outer", "< outer"]
    assert mesh.request_counts.total() == 0


async def test_an_interceptor_may_replace_the_request() -> None:
    mesh = await mesh_of(200)

    def rewritten(request: httpx.Request) -> httpx.Request:
        return httpx.Request(
            "POST", request.url.copy_with(path="/v2"), json={}, extensions=request.extensions
        )

    async with client_of(mesh, rewritten) as client:
        await client.get("orders", "/v1")
    assert (mesh.requests[0].method, mesh.requests[0].url.path) == ("POST", "/v2")


class FreshToken(Interceptor):
    """Signs each request, and gets a new token when the old one is refused."""

    def __init__(self) -> None:
        self.token = 0

    def on_request(self, request: httpx.Request) -> None:
        request.headers["authorization"] = str(self.token)

    async def on_response(
        self, request: httpx.Request, response: httpx.Response
    ) -> ResendRequest | None:
        if response.status_code != 401:
            return None
        self.token += 1
        return ResendRequest(after_seconds=0.0001)


async def test_an_interceptor_may_have_it_sent_again() -> None:
    mesh, token = await mesh_of(401, 200), FreshToken()
    async with client_of(mesh, token) as client:
        assert (await client.post("orders", "/", json={})).status_code == 200
    assert [request.headers["authorization"] for request in mesh.requests] == ["0", "1"]
    assert mesh.open_bodies == 0


async def test_the_answer_that_another_one_replaces_is_closed() -> None:
    mesh, token = await mesh_of(401, 200), FreshToken()
    async with client_of(mesh, token) as client, client.stream("GET", "orders", "/") as response:
        assert (response.status_code, mesh.open_bodies) == (200, 1)
    assert mesh.open_bodies == 0


async def test_sending_again_has_an_end() -> None:
    mesh = await mesh_of(401, 401, 401, 401)
    async with client_of(mesh, FreshToken()) as client:
        assert (await client.get("orders", "/")).status_code == 401
    assert mesh.request_counts == {A: 3}


async def test_what_cannot_be_replayed_is_not_sent_again() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"once"

    mesh = await mesh_of(401, 200)
    async with client_of(mesh, FreshToken()) as client:
        assert (await client.post("orders", "/", content=body())).status_code == 401
    assert mesh.request_counts == {A: 1}


async def test_an_interceptor_that_fails_after_the_response_leaves_none_open() -> None:
    class Broken(Interceptor):
        def on_response(self, request: httpx.Request, response: httpx.Response) -> None:
            raise ZeroDivisionError

    mesh = await mesh_of(200)
    async with client_of(mesh, Broken()) as client:
        with pytest.raises(ZeroDivisionError):
            async with client.stream("GET", "orders", "/"):
                pytest.fail("there is no response")
    assert mesh.open_bodies == 0


async def test_a_response_may_be_replaced() -> None:
    def shout(response: httpx.Response) -> httpx.Response | None:
        if response.status_code != 200:
            return None
        return httpx.Response(200, text=response.text.upper())

    mesh = await mesh_of(200, 404)
    async with client_of(mesh, ResponseTransform(shout)) as client:
        async with client.stream("GET", "orders", "/") as response:
            assert await response.aread() == b"BODY"
        assert (await client.get("orders", "/")).text == "body"
    assert mesh.open_bodies == 0


async def test_an_error_may_become_another_or_an_answer() -> None:
    class OutOfOrderError(Exception):
        pass

    def mapped(error: Exception) -> Exception | httpx.Response | None:
        return OutOfOrderError() if isinstance(error, httpx.TransportError) else None

    mesh = await mesh_of()
    mesh.fail(A, "refuse")
    async with client_of(mesh, ErrorMapping(mapped)) as client:
        with pytest.raises(OutOfOrderError) as caught:
            await client.get("orders", "/")
        assert isinstance(caught.value.__cause__, httpx.TransportError)
    async with client_of(mesh, ErrorMapping(lambda _: httpx.Response(204))) as client:
        assert (await client.get("orders", "/")).status_code == 204
    async with client_of(mesh, ErrorMapping(lambda error: error)) as client:
        with pytest.raises(httpx.TransportError):
            await client.get("orders", "/")


@pytest.mark.parametrize(
    ("interceptor", "handed_on"),
    [
        (HeaderForwarding(["X-Tenant-Id", "x-b3-*"]), {"x-tenant-id", "x-b3-traceid"}),
        (UserInfoForwarding(), {"authorization", "x-user-name", "x-tenant-id"}),
        (TraceContextForwarding(), {"traceparent", "x-b3-traceid"}),
    ],
)
async def test_headers_of_the_request_being_served_are_handed_on(
    interceptor: Interceptor, handed_on: set[str]
) -> None:
    inbound = {
        "Authorization": "Bearer 1",
        "X-User-Name": "ada",
        "X-Tenant-Id": "t1",
        "Traceparent": "00-1",
        "X-B3-TraceId": "1",
        "Cookie": "secret",
    }
    mesh = await mesh_of(200, 200, 200)
    async with client_of(mesh, interceptor) as client:
        plain = set((await client.get("orders", "/")).request.headers)
        with inbound_headers(inbound):
            got = set((await client.get("orders", "/")).request.headers)
            own = await client.get("orders", "/", headers={"x-tenant-id": "mine"})
    assert got - plain == handed_on
    assert own.request.headers["x-tenant-id"] == "mine"


async def test_a_call_is_one_line_without_credentials(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="microservice_client.calls")
    clock = ManualClock()
    mesh = FakeMesh(sleep=clock.sleep)

    def answer(_: httpx.Request) -> httpx.Response:
        clock.advance(0.25)
        return httpx.Response(200)

    await mesh.start("orders", A, answer)
    async with client_of(mesh, CallLog(headers=True, clock=clock)) as client:
        await client.get(
            "orders",
            f"/v1/{'x' * 500}",
            params={"q": "secret"},
            headers={
                "authorization": "secret",
                "x-access-token": "secret",
                "x-long": "y" * 500,
                **{f"x-{number}": "1" for number in range(99)},
            },
        )
        mesh.fail(A, "refuse")
        with pytest.raises(httpx.TransportError):
            await client.get("orders", "/v1")
        mesh.heal(A)
        await mesh.start("orders", A, lambda _: httpx.Response(500))
        await client.get("orders", "/v1")
    first, second, third = caplog.records
    assert first.getMessage().startswith("GET orders /v1/xxx")
    assert first.getMessage().endswith("-> 200 in 250.0 ms")
    assert "secret" not in caplog.text
    assert len(first.getMessage()) < 1500
    assert (second.levelname, "CallFailedError" in second.getMessage()) == ("WARNING", True)
    assert third.levelname == "WARNING"


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        ("a\nGET orders /admin -> 200", "a\\nGET orders /admin -> 200"),
        ("a\r\x1b]52;c;x\x07", "a\\r\\x1b]52;c;x\\x07"),
        ("\x85\x9b2J\u2028\u202e", "\\x85\\x9b2J\\u2028\\u202e"),
        ("müde é", "müde é"),
    ],
)
async def test_a_logged_call_is_one_line_whatever_its_path_holds(
    caplog: pytest.LogCaptureFixture, text: str, logged: str
) -> None:
    caplog.set_level(logging.INFO, logger="microservice_client.calls")
    mesh = FakeMesh()
    await mesh.start("orders", A, lambda _: httpx.Response(200))
    async with client_of(mesh, CallLog()) as client:
        await client.get("orders", f"/v1/{quote(text)}")
    (record,) = caplog.records
    assert record.getMessage().startswith(f"GET orders /v1/{logged} -> 200 in ")
    assert record.getMessage().isprintable()


async def test_the_http_transports_faces_have_interceptors_too() -> None:
    from microservice_client import AsyncServiceTransport, CallOptions

    mesh, notes = await mesh_of(200), list[str]()
    options = CallOptions(interceptors=[Noting("call", notes)])
    async with (
        client_of(mesh, Noting("client", notes)) as client,
        httpx.AsyncClient(transport=AsyncServiceTransport(client)) as http,
    ):
        await http.get("http://orders/", extensions={"call_options": options})
    assert notes == ["> client", "> call", "< call", "< client"]


def test_an_interceptor_lets_everything_pass_by_default() -> None:
    interceptor, request = Interceptor(), httpx.Request("GET", "http://orders/")
    answers: list[object | Awaitable[object]] = [
        interceptor.on_request(request),
        interceptor.on_response(request, httpx.Response(200)),
        interceptor.on_error(request, ValueError()),
    ]
    assert answers == [None, None, None]
