"""Errors of the toolkit that leave a handler, as responses."""

from typing import Any

import httpx
import pytest

from microservice_client import (
    CallFailedError,
    CallRejectedError,
    CallStatusError,
    CallTimeoutError,
    ClientClosedError,
    NoInstanceCallError,
    ResponseFormatError,
)
from microservice_core import (
    ConfigCenterUnavailableError,
    InvalidValueError,
    MicroserviceError,
    NoInstanceAvailableError,
    ProviderError,
    ServiceRegistryUnavailableError,
)
from microservice_core.testing.clock import ManualClock
from microservice_governance import (
    BulkheadFullError,
    CircuitOpenError,
    DeadlineExceededError,
    RateLimitedError,
    TimeoutExceededError,
)
from microservice_kit import MicroserviceModule
from microservice_kit.web.error_responses import ErrorResponses
from microservice_kit.web.request_layer import RequestLayer


def status_error(status: int, **headers: str) -> CallStatusError:
    request = httpx.Request("GET", "http://10.0.0.1/")
    response = httpx.Response(status, headers=headers, request=request)
    return CallStatusError("orders", response, ())


async def respond(
    error: MicroserviceError, responses: ErrorResponses | None = None
) -> httpx.Response:
    responses = responses or ErrorResponses()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not await responses.respond(error, send):
            raise error

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http:
        return await http.get("/")


def unreachable(kind: type[ProviderError]) -> MicroserviceError:
    return kind("gone", provider="nacos", operation="read", retryable=True)


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (NoInstanceCallError("orders", "none is registered"), 503, "1"),
        (NoInstanceAvailableError("orders", "none is registered"), 503, "1"),
        (CallRejectedError("orders", "bulkhead", "wait", retry_after=2.2), 503, "3"),
        (CallTimeoutError("orders", 3.0, ()), 504, None),
        (CallFailedError("orders", ()), 502, None),
        (ResponseFormatError("orders", "Order", "no name"), 502, None),
        (status_error(404), 502, None),
        (status_error(500), 502, None),
        (status_error(503, **{"retry-after": "7"}), 503, "7"),
        (status_error(429, **{"retry-after": "soon"}), 503, "1"),
        (status_error(504), 504, None),
        (ClientClosedError(), 503, "1"),
        (RateLimitedError("search", 5, 1, 0.2), 429, "1"),
        (RateLimitedError("search", 5, 1, None), 429, None),
        (RateLimitedError("search", 5, 1, -1), 429, None),
        (CircuitOpenError("payments", "open", 4.5), 503, "5"),
        (CircuitOpenError("payments", "open", 1e9), 503, "3600"),
        (BulkheadFullError("payments", 3), 503, "1"),
        (DeadlineExceededError("too late"), 504, None),
        (TimeoutExceededError("payments", 1.0), 504, None),
        (unreachable(ConfigCenterUnavailableError), 503, "1"),
        (unreachable(ServiceRegistryUnavailableError), 503, "1"),
    ],
)
async def test_an_error_has_its_status(
    error: MicroserviceError, status: int, retry_after: str | None
) -> None:
    response = await respond(error)
    problem = response.json()
    assert (response.status_code, problem["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers.get("retry-after") == retry_after
    assert problem["title"]
    assert "orders" not in response.text  # what is called, and where, is not for callers outside
    assert "10.0.0.1" not in response.text


@pytest.mark.parametrize(
    "error", [MicroserviceError("mine"), InvalidValueError("port", 0, "above 0")]
)
async def test_any_other_error_comes_out(error: MicroserviceError) -> None:
    with pytest.raises(type(error)):
        await respond(error)


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_response_that_has_started_is_left_alone(kind: str) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": f"{kind}.start"})
        raise CallFailedError("orders", ())

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async with MicroserviceModule() as module:
        layer = RequestLayer(app, module, error_responses=ErrorResponses())
        with pytest.raises(CallFailedError):
            await layer({"type": kind, "path": "/"}, receive, send)
    assert sent == [{"type": f"{kind}.start"}]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    name = "microservice_kit.web.error_responses"
    return [record.getMessage() for record in caplog.records if record.name == name]


async def test_an_outage_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    responses = ErrorResponses(clock=clock)

    def error() -> MicroserviceError:
        return NoInstanceCallError("orders", "none is registered")

    for _ in range(5):
        await respond(error(), responses)
    await respond(CallFailedError("stock", ()), responses)
    assert [line.partition(";")[0] for line in lines(caplog)] == [
        "1 requests ended with NoInstanceCallError, status 503",
        "1 requests ended with CallFailedError, status 502",
    ]
    caplog.clear()
    clock.advance(60)
    await respond(error(), responses)
    (line,) = lines(caplog)
    assert line.startswith("5 requests ended with NoInstanceCallError")
    assert "orders: no instance is available" in line
