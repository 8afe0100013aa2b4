import base64
from collections.abc import AsyncIterator, Generator
from typing import Any

import httpx
import pytest

from microservice_client import (
    AsyncServiceClient,
    ServiceClient,
    ServicePolicy,
    StaticAddresses,
)
from microservice_core import InvalidValueError

VERBS = ("get", "head", "options", "post", "put", "patch", "delete", "events", "json_lines")


class Echo(httpx.AsyncBaseTransport):
    """Returns the headers of each request; 401 until there is an `authorization`."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.strict and "authorization" not in request.headers:
            challenge = {"www-authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
            return httpx.Response(401, headers=challenge, stream=httpx.ByteStream(b"who?"))
        return httpx.Response(200, stream=httpx.ByteStream(b"ok"))


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def client(echo: Echo) -> AsyncIterator[AsyncServiceClient]:
    addresses = {"orders": ["http://10.0.0.1"]}
    async with AsyncServiceClient.from_addresses(addresses, transport=echo) as client:
        yield client


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("time_out", "has no argument 'time_out'; did you mean 'timeout'"),
        ("idempotant", "did you mean 'idempotent'"),
        ("param", "did you mean 'params'"),
        ("header", "did you mean 'headers'"),
        ("zzz", "it has auth, content, cookies,"),
        ("follow_redirects", "AsyncServiceTransport"),
        ("extensions", "AsyncServiceTransport"),
    ],
)
async def test_an_unknown_argument_is_refused_with_what_was_meant(
    client: AsyncServiceClient, echo: Echo, wrong: str, message: str
) -> None:
    with pytest.raises(TypeError, match=f"GET of orders has no argument {wrong!r}") as caught:
        await client.get("orders", "/", **{wrong: True})  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert echo.requests == []


WRONG: dict[str, Any] = {"time_out": 1}


async def run(client: AsyncServiceClient, method: str) -> None:
    result = getattr(client, method)("orders", "/", **WRONG)
    if isinstance(result, AsyncIterator):
        await anext(result)
    else:
        await result


def run_sync(client: ServiceClient, method: str) -> None:
    next(getattr(client, method)("orders", "/", **WRONG))


@pytest.mark.parametrize("verb", VERBS)
async def test_every_method_refuses_unknown_arguments(
    client: AsyncServiceClient, verb: str
) -> None:
    with pytest.raises(TypeError, match="time_out"):
        await run(client, verb)


async def test_every_block_refuses_unknown_arguments(client: AsyncServiceClient) -> None:
    for block in (
        client.stream("GET", "orders", "/", **WRONG),
        client.websocket_url("orders", "/", **WRONG),
    ):
        with pytest.raises(TypeError, match="time_out"):
            await block.__aenter__()


def test_every_sync_method_refuses_unknown_arguments(echo: Echo) -> None:
    addresses = StaticAddresses({"orders": ["http://10.0.0.1"]})
    with ServiceClient(addresses, transport=echo) as client:
        for verb in VERBS:
            with pytest.raises(TypeError, match="time_out"):
                run_sync(client, verb)
        for block in (
            client.stream("GET", "orders", "/", **WRONG),
            client.websocket_url("orders", "/", **WRONG),
        ):
            with pytest.raises(TypeError, match="time_out"):
                block.__enter__()


@pytest.mark.parametrize("kind", [AsyncServiceClient, ServiceClient])
def test_a_client_refuses_unknown_options(kind: type[AsyncServiceClient]) -> None:
    with pytest.raises(
        TypeError, match=f"^{kind.__name__} has no argument 'polices'; did you mean"
    ):
        kind.from_addresses({}, polices={"orders": ServicePolicy()})  # type: ignore[call-arg]


@pytest.mark.parametrize("timeout", [httpx.Timeout(1.0), "1"])
async def test_a_timeout_is_a_number(client: AsyncServiceClient, timeout: object) -> None:
    with pytest.raises(TypeError, match="timeout must be the seconds of the whole call"):
        await client.get("orders", "/", timeout=timeout)  # type: ignore[arg-type]


@pytest.mark.parametrize("fallback", [[], 7])
async def test_a_fallback_is_a_response_or_a_function(
    client: AsyncServiceClient, fallback: object
) -> None:
    with pytest.raises(InvalidValueError, match=r"fallback must be an httpx\.Response, or a func"):
        await client.get("orders", "/", fallback=fallback)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match=r"result of the fallback must be an httpx\.Resp"):
        await client.get("stock", "/", fallback=lambda _: fallback)  # type: ignore[arg-type,return-value]


async def test_what_a_websocket_would_not_send_is_refused(client: AsyncServiceClient) -> None:
    with pytest.raises(TypeError, match="no use for 'auth'; pass it to your WebSocket library"):
        await client.websocket_url("orders", "/", auth=("me", "pw")).__aenter__()


async def test_cookies_are_sent_as_httpx_sends_them(client: AsyncServiceClient, echo: Echo) -> None:
    await client.get("orders", "/", cookies={"a": "b", "c": "d"})
    assert echo.requests[0].headers["cookie"] == "a=b; c=d"


class Token(httpx.Auth):
    """Sends a token of its own."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["authorization"] = "Bearer t"
        yield request


async def test_credentials_are_sent_as_httpx_sends_them(
    client: AsyncServiceClient, echo: Echo
) -> None:
    await client.get("orders", "/", auth=("me", "pw"))
    async with client.stream("GET", "orders", "/", auth=Token()) as response:
        assert await response.aread() == b"ok"
    basic = base64.b64encode(b"me:pw").decode()
    assert [request.headers["authorization"] for request in echo.requests] == [
        f"Basic {basic}",
        "Bearer t",
    ]
    with pytest.raises(TypeError, match=r"auth must be \(user, password\) or an httpx\.Auth"):
        await client.get("orders", "/", auth="token")  # type: ignore[arg-type]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_challenge_is_answered(
    client: AsyncServiceClient, echo: Echo, streamed: bool
) -> None:
    echo.strict = True
    auth = httpx.DigestAuth("me", "pw")
    if streamed:
        async with client.stream("GET", "orders", "/", auth=auth) as response:
            assert await response.aread() == b"ok"
    else:
        assert (await client.get("orders", "/", auth=auth)).text == "ok"
    assert echo.requests[1].headers["authorization"].startswith("Digest ")
    stats = client.stats("orders")
    assert stats is not None
    assert stats.active_calls == {"10.0.0.1:80": 0}


async def test_an_authentication_that_fails_leaves_nothing_behind(
    client: AsyncServiceClient, echo: Echo
) -> None:
    class Broken(httpx.Auth):
        def auth_flow(
            self, request: httpx.Request
        ) -> Generator[httpx.Request, httpx.Response, None]:
            yield request
            raise PermissionError("no token")

    with pytest.raises(PermissionError):
        async with client.stream("GET", "orders", "/", auth=Broken()):
            pass
    stats = client.stats("orders")
    assert stats is not None
    assert stats.active_calls == {"10.0.0.1:80": 0}


def test_the_sync_client_sends_credentials(echo: Echo) -> None:
    addresses = StaticAddresses({"orders": ["http://10.0.0.1"]})
    with ServiceClient(addresses, transport=echo) as client:
        client.get("orders", "/", auth=("me", "pw"))
        with client.stream("GET", "orders", "/", auth=("me", "pw")) as response:
            assert response.read() == b"ok"
    assert all("authorization" in request.headers for request in echo.requests)
