"""What counts against an instance: only what came from it, and for all who record the same."""

import asyncio
import errno
import inspect
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_client import (
    AsyncServiceClient,
    CallFailedError,
    CallRejectedError,
    CallTimeoutError,
    ClientClosedError,
    NoFreeConnectionError,
    NoInstanceCallError,
    ResponseFormatError,
    ServiceCallError,
    ServiceClient,
    ServicePolicy,
)
from microservice_client.testing import FakeMesh
from microservice_core import InvalidValueError, ServiceInstance
from microservice_governance import BulkheadFullError, DeadlineExceededError, deadline
from microservice_lb import OutlierConfig, OutlierEjection, RoundRobin

Place = Literal["request", "body"]
A, B = "10.0.0.1:80", "10.0.0.2:80"
ADDRESSES = {"orders": [f"http://{A}", f"http://{B}"]}


def errors_of(module: object, base: type[BaseException]) -> list[type[BaseException]]:
    found = [kind for _, kind in inspect.getmembers(module, inspect.isclass)]
    return [kind for kind in found if issubclass(kind, base)]


def caused_by(number: int) -> Exception:
    error = httpx.ConnectError("no connection")
    error.__cause__ = OSError(number, "short of something")
    return error


# From the instance: connections that fail or break, responses that are no HTTP, and time limits.
COUNTED: list[BaseException] = [
    httpx.ConnectError("x"),
    httpx.ConnectTimeout("x"),
    httpx.ReadError("x"),
    httpx.ReadTimeout("x"),
    httpx.WriteError("x"),
    httpx.WriteTimeout("x"),
    httpx.CloseError("x"),
    httpx.RemoteProtocolError("x"),
    httpx.ProxyError("x"),
    TimeoutError(),
    ConnectionResetError("x"),
    ConnectionRefusedError("x"),
    BrokenPipeError("x"),
    ssl.SSLError("x"),
    ssl.SSLEOFError("x"),
    ssl.SSLCertVerificationError("x"),
    EOFError("x"),
    asyncio.IncompleteReadError(b"", 1),
    caused_by(errno.ECONNREFUSED),
]

# From the caller, from this process, or of unknown origin.
NOT_COUNTED: list[BaseException] = [
    httpx.LocalProtocolError("x"),
    httpx.UnsupportedProtocol("x"),
    httpx.PoolTimeout("x"),
    httpx.TooManyRedirects("x"),
    httpx.DecodingError("x"),
    httpx.InvalidURL("x"),
    httpx.CookieConflict("x"),
    httpx.StreamConsumed(),
    httpx.StreamClosed(),
    httpx.RequestNotRead(),
    asyncio.CancelledError(),
    asyncio.InvalidStateError("x"),
    asyncio.LimitOverrunError("x", 0),
    asyncio.QueueFull(),
    ValueError("x"),
    UnicodeEncodeError("ascii", "ü", 0, 1, "x"),
    TypeError("x"),
    LookupError("x"),
    RuntimeError("x"),
    RecursionError("x"),
    MemoryError("x"),
    AssertionError("x"),
    InvalidValueError("field", "value", "rule"),
    ClientClosedError(),
    CallRejectedError("other", "bulkhead", "full"),
    NoInstanceCallError("other", "none"),
    CallTimeoutError("other", 1.0, ()),
    CallFailedError("other", ()),
    ResponseFormatError("other", "text", "x"),
    NoFreeConnectionError("other", A, limit=1, waited_seconds=1.0),
    BulkheadFullError("other", 1, 1),
    DeadlineExceededError(1.0),
    OSError(errno.EMFILE, "too many open files"),
    caused_by(errno.EMFILE),
    caused_by(errno.EADDRNOTAVAIL),
]


class Body(httpx.AsyncByteStream):
    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"first"
        raise self._error


class Raising(httpx.AsyncBaseTransport):
    """Every request fails, before its response or in its body."""

    def __init__(self, error: BaseException, place: Place) -> None:
        self._error = error
        self._place = place
        self.requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self._place == "request":
            raise self._error
        return httpx.Response(200, stream=Body(self._error))


class Recorders:
    """A client's options with everything that records outcomes, and what it has recorded."""

    def __init__(self, meters: Any, transport: httpx.AsyncBaseTransport) -> None:
        self.meters = meters
        self.outliers: OutlierEjection[ServiceInstance] = OutlierEjection(
            RoundRobin(), config=OutlierConfig(consecutive_errors=1, max_ejection_percent=100)
        )
        self.options: dict[str, Any] = {
            "transport": transport,
            "default_policy": ServicePolicy(breaker_failures=1, attempts=1),
            "make_balancer": lambda name, policy: self.outliers,
            "meter_provider": meters,
            "instance_metrics": True,
        }

    def verdicts(self, breaker_states: dict[str, str]) -> tuple[bool, bool, bool]:
        """Whether breaker, balancer and metrics by instance have counted a failure."""
        measured = self.meters.meter.of("microservice.client.instance.duration")
        return (
            "open" in breaker_states.values(),
            bool(self.outliers.ejected_ids),
            any("error.type" in attributes for attributes in measured),
        )


def call_async(error: BaseException, place: Place, meters: Any) -> tuple[bool, bool, bool]:
    recorders = Recorders(meters, Raising(error, place))

    async def run() -> dict[str, str]:
        async with AsyncServiceClient.from_addresses(ADDRESSES, **recorders.options) as client:
            task = asyncio.create_task(client.get("orders", "/"))
            with pytest.raises(BaseException):  # noqa: B017 - whichever it is
                await task
            return client.breaker_states("orders")

    return recorders.verdicts(asyncio.run(run()))


def call_sync(error: BaseException, place: Place, meters: Any) -> tuple[bool, bool, bool]:
    recorders = Recorders(meters, Raising(error, place))
    with ServiceClient.from_addresses(ADDRESSES, **recorders.options) as client:
        with pytest.raises(BaseException):  # noqa: B017 - whichever it is
            client.get("orders", "/")
        return recorders.verdicts(client.breaker_states("orders"))


@pytest.fixture
def new_meters(meters: object) -> type:
    """The kind of provider that the fixture `meters` is."""
    return type(meters)


@pytest.mark.parametrize("place", ["request", "body"])
@pytest.mark.parametrize("call", [call_async, call_sync])
def test_what_came_from_the_instance_counts_for_all(
    call: Any, place: Place, new_meters: type
) -> None:
    in_metrics = place == "request"  # an attempt is measured up to its response's headers
    verdicts = [(repr(error), call(error, place, new_meters())) for error in COUNTED]
    assert verdicts == [(repr(error), (True, True, in_metrics)) for error in COUNTED]


@pytest.mark.parametrize("place", ["request", "body"])
@pytest.mark.parametrize("call", [call_async, call_sync])
def test_what_did_not_come_from_the_instance_counts_for_none(
    call: Any, place: Place, new_meters: type
) -> None:
    verdicts = [(repr(error), call(error, place, new_meters())) for error in NOT_COUNTED]
    assert verdicts == [(repr(error), (False, False, False)) for error in NOT_COUNTED]


def test_every_error_of_a_connection_is_on_one_of_the_lists() -> None:
    listed = {type(error) for error in COUNTED + NOT_COUNTED}
    bases = {
        httpx.HTTPError, httpx.RequestError, httpx.TransportError, httpx.TimeoutException,
        httpx.NetworkError, httpx.ProtocolError, httpx.StreamError, httpx.HTTPStatusError,
        httpx.ResponseNotRead,
    }  # fmt: skip
    assert set(errors_of(httpx, Exception)) - bases <= listed


@given(st.lists(st.sampled_from(COUNTED + NOT_COUNTED), min_size=1, max_size=6))
def test_a_chain_of_calls_opens_the_circuit_at_the_first_that_counts(
    errors: list[BaseException],
) -> None:
    counted = [id(error) in {id(one) for one in COUNTED} for error in errors]
    expected = counted.index(True) + 1 if any(counted) else len(errors)

    class InTurn(httpx.AsyncBaseTransport):
        sent = 0

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            self.sent += 1
            raise errors[self.sent - 1]

    transport = InTurn()

    async def run() -> None:
        policy = ServicePolicy(breaker_failures=1, attempts=1)
        async with AsyncServiceClient.from_addresses(
            {"orders": [f"http://{A}"]}, transport=transport, default_policy=policy
        ) as client:
            for _ in errors:
                task = asyncio.create_task(client.get("orders", "/"))
                with pytest.raises(BaseException):  # noqa: B017 - whichever it is
                    await task

    asyncio.run(run())
    assert transport.sent == expected


@pytest.fixture
async def mesh() -> FakeMesh:
    mesh = FakeMesh()
    for address in (A, B):
        await mesh.start("orders", address, lambda _: httpx.Response(200))
    return mesh


def client_of(mesh: FakeMesh, **fields: object) -> AsyncServiceClient:
    policy = ServicePolicy.model_validate({"breaker_failures": 1, "backoff_seconds": 0, **fields})
    return AsyncServiceClient(mesh.registry, transport=mesh, default_policy=policy)


async def test_an_inherited_deadline_counts_against_no_instance(mesh: FakeMesh) -> None:
    for address in (A, B):
        mesh.fail(address, "hang")
    async with client_of(mesh) as client:
        for _ in range(4):
            with deadline(0.01), pytest.raises(CallTimeoutError) as caught:
                await client.get("orders", "/")
            assert [one.outcome for one in caught.value.attempts] == ["TimeoutError"]
        assert set(client.breaker_states("orders").values()) == {"closed"}
        with deadline(60), pytest.raises(CallTimeoutError):  # the client's own limit ends it
            await client.get("orders", "/", timeout=0.01)
        assert "open" in client.breaker_states("orders").values()


async def test_a_body_cut_off_by_an_inherited_deadline_counts_against_no_instance() -> None:
    class Stalled(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"half"
            await asyncio.Event().wait()

    mesh = FakeMesh()
    await mesh.start("orders", A, lambda _: httpx.Response(200, stream=Stalled()))
    async with client_of(mesh) as client:
        with deadline(0.05), pytest.raises(CallTimeoutError):
            await client.get("orders", "/")
        assert client.breaker_states("orders") == {A: "closed"}


async def failing_body() -> AsyncIterator[bytes]:
    yield b"first"
    raise httpx.ReadError("another client's connection broke")


async def short_body() -> AsyncIterator[bytes]:
    yield b"first"


def failing_blocks() -> Iterator[bytes]:
    yield b"first"
    raise LookupError("the caller's own mistake")


async def test_an_error_of_the_callers_body_reaches_the_caller_and_is_not_repeated(
    mesh: FakeMesh,
) -> None:
    async with client_of(mesh) as client:
        with pytest.raises(httpx.ReadError, match="another client's") as caught:
            await client.put("orders", "/", content=failing_body())
        assert not isinstance(caught.value, ServiceCallError)
        assert set(client.breaker_states("orders").values()) == {"closed"}
    assert mesh.request_counts.total() == 1


def test_the_sync_client_is_no_different(new_meters: type) -> None:
    class Reading(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await request.aread()
            raise AssertionError

    recorders = Recorders(new_meters(), Reading())
    with ServiceClient.from_addresses(ADDRESSES, **recorders.options) as client:
        request = httpx.Request("PUT", "http://orders/", content=failing_blocks())
        with pytest.raises(LookupError, match="own mistake"):
            client.call("orders", request)
        assert recorders.verdicts(client.breaker_states("orders")) == (False, False, False)


@pytest.mark.parametrize("declared", ["4", "6"])
async def test_a_body_of_another_length_than_declared_is_the_callers_mistake(
    mesh: FakeMesh, declared: str
) -> None:
    async with client_of(mesh) as client:
        with pytest.raises(InvalidValueError, match=rf"body must be {declared} bytes long"):
            await client.put(
                "orders", "/", content=short_body(), headers={"content-length": declared}
            )
        response = await client.put(
            "orders", "/", content=short_body(), headers={"content-length": "5"}
        )
        assert response.status_code == 200
        assert set(client.breaker_states("orders").values()) == {"closed"}
    assert mesh.requests[-1].content == b"first"


async def test_a_request_that_no_connection_can_send_is_refused_once(mesh: FakeMesh) -> None:
    transport = Raising(httpx.LocalProtocolError("Illegal header value b'secret'"), "request")
    async with AsyncServiceClient(mesh.registry, transport=transport) as client:
        with pytest.raises(InvalidValueError, match="request must be one that HTTP can carry") as e:
            await client.get("orders", "/")
    assert "secret" not in str(e.value)
    assert transport.requests == 1


async def test_a_mistake_in_a_websocket_block_is_the_callers(mesh: FakeMesh) -> None:
    async with client_of(mesh) as client:
        for _ in range(3):
            with pytest.raises(KeyError):
                async with client.websocket_url("orders", "/live"):
                    raise KeyError("message")
        assert set(client.breaker_states("orders").values()) == {"closed"}


async def test_an_error_of_an_interceptor_counts_against_no_instance(mesh: FakeMesh) -> None:
    def refuse(_: httpx.Request) -> None:
        raise ConnectionError("of the interceptor's own database")

    async with client_of(mesh) as client:
        with pytest.raises(ConnectionError):
            await client.get("orders", "/", interceptors=[refuse])
        assert client.breaker_states("orders") == {}
