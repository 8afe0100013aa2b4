"""AsyncServiceClient and ServiceClient: httpx's methods, with a service's name for the host."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self, TypedDict, TypeVar, Unpack

import httpx
from opentelemetry.trace import TracerProvider

from microservice_core import InstanceFilter, InstanceQuery, LoopThread

from .addresses import StaticAddresses
from .discovery import DiscoverySnapshot, InstanceSource
from .engine import CallEngine, RequestInterceptor
from .errors import ClientClosedError
from .policy import ServicePolicy

__all__ = ("AsyncServiceClient", "ClientOptions", "RequestOptions", "ServiceClient")

OpenedT = TypeVar("OpenedT")
Source = InstanceSource | AbstractAsyncContextManager[InstanceSource]

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RequestOptions(TypedDict, total=False):
    """What a request may carry, as in httpx.

    Attributes:
        timeout: seconds for the whole call with all its attempts.
    """

    params: Mapping[str, str | int | float | bool | None]
    headers: Mapping[str, str]
    json: object
    content: str | bytes
    data: Mapping[str, str]
    timeout: float


class ClientOptions(TypedDict, total=False):
    """How a client behaves.

    Attributes:
        policies: behaviour by service name; `default_policy` for all others.
        filters: narrow the instances of each call, in order.
        interceptors: see and may change each request.
        query: which instances of a service are asked for, e.g. those of a group.
        transport: what sends a request to an instance; httpx's own by default.
        tracer_provider: where OpenTelemetry spans go; the global one by default.
        clock: monotonic seconds, for balancers, breakers and durations.
    """

    policies: Mapping[str, ServicePolicy] | None
    default_policy: ServicePolicy | None
    filters: Sequence[InstanceFilter]
    interceptors: Sequence[RequestInterceptor]
    query: InstanceQuery
    transport: httpx.AsyncBaseTransport | None
    tracer_provider: TracerProvider | None
    clock: Callable[[], float]


class AsyncServiceClient:
    """Calls services by name: `await client.get("orders", "/v1/orders/7")`.

    Use it as an async context manager; leaving the block closes connections and watches, not a
    registry that was handed in open.

    Args:
        source: an open registry, or a provider's context manager (`open_service_registry(...)`),
            which is then opened and closed with the client.
        options: see `ClientOptions`.
    """

    def __init__(self, source: Source, **options: Unpack[ClientOptions]) -> None:
        self._source = source
        self._options = options
        self._stack: AsyncExitStack | None = None
        self._engine: CallEngine | None = None
        self._http: httpx.AsyncClient | None = None

    @classmethod
    def from_addresses(
        cls, addresses: Mapping[str, Sequence[str]], **options: Unpack[ClientOptions]
    ) -> Self:
        """A client of fixed addresses: `{"orders": ["http://127.0.0.1:8001"]}`.

        Raises:
            InvalidValueError: an address is no `http(s)://host:port`.
        """
        return cls(StaticAddresses(addresses), **options)

    async def __aenter__(self) -> Self:
        from .transport import AsyncServiceTransport

        async with AsyncExitStack() as stack:
            source = self._source
            if isinstance(source, AbstractAsyncContextManager):
                source = await stack.enter_async_context(source)
            self._engine = self._new_engine(source)
            stack.push_async_callback(self._engine.aclose)
            self._http = httpx.AsyncClient(transport=AsyncServiceTransport(self), timeout=5.0)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close connections and watches; closing twice is fine."""
        stack, self._stack = self._stack, None
        self._http = self._engine = None
        if stack is not None:
            await stack.aclose()

    async def request(
        self, method: str, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """The response, read to its end.

        Raises:
            ServiceCallError: no instance answered; it says who was tried.
        """
        response = await self._send(method, service, path, options)
        try:
            await response.aread()
        finally:
            await response.aclose()
        return response

    @asynccontextmanager
    async def stream(
        self, method: str, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> AsyncIterator[httpx.Response]:
        """The response with its body unread; the instance counts as busy until the block ends."""
        response = await self._send(method, service, path, options)
        try:
            yield response
        finally:
            await response.aclose()

    async def get(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """GET; see `request`."""
        return await self.request("GET", service, path, **options)

    async def head(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """HEAD; see `request`."""
        return await self.request("HEAD", service, path, **options)

    async def options(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """OPTIONS; see `request`."""
        return await self.request("OPTIONS", service, path, **options)

    async def post(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """POST; see `request`. Sent again only when it was not sent, or has an Idempotency-Key."""
        return await self.request("POST", service, path, **options)

    async def put(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """PUT; see `request`."""
        return await self.request("PUT", service, path, **options)

    async def patch(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """PATCH; see `request`. Sent again only when it was not sent, or has an Idempotency-Key."""
        return await self.request("PATCH", service, path, **options)

    async def delete(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """DELETE; see `request`."""
        return await self.request("DELETE", service, path, **options)

    async def call(self, service: str, request: httpx.Request) -> httpx.Response:
        """Send a request built elsewhere; only its host is replaced. The body is unread.

        Raises:
            ServiceCallError: no instance answered; it says who was tried.
        """
        return await self._opened(self._engine).send(service, request)

    def breaker_states(self, service: str) -> dict[str, str]:
        """The state of each instance's circuit breaker, by instance id; for a status page."""
        return self._opened(self._engine).breaker_states(service)

    def _new_engine(self, source: InstanceSource) -> CallEngine:
        options = self._options
        return CallEngine(
            DiscoverySnapshot(source, options.get("query", InstanceQuery())),
            options.get("transport") or httpx.AsyncHTTPTransport(),
            policies=options.get("policies"),
            default_policy=options.get("default_policy"),
            filters=options.get("filters", ()),
            interceptors=options.get("interceptors", ()),
            tracer_provider=options.get("tracer_provider"),
            clock=options.get("clock", time.monotonic),
        )

    async def _send(
        self, method: str, service: str, path: str, options: RequestOptions
    ) -> httpx.Response:
        http = self._opened(self._http)
        extensions: dict[str, object] = {"service_name": service}
        if "timeout" in options:
            extensions["total_timeout_seconds"] = options["timeout"]
        request = http.build_request(
            method,
            _url(service, path),
            params=options.get("params"),
            headers=options.get("headers"),
            json=options.get("json"),
            content=options.get("content"),
            data=options.get("data"),
            extensions=extensions,
        )
        return await http.send(request, stream=True)

    def _opened(self, part: OpenedT | None) -> OpenedT:
        if part is None:
            raise ClientClosedError
        return part


class ServiceClient:
    """The sync face: the same calls on a private loop in a thread of its own.

    `with ServiceClient(open_service_registry("nacos", settings)) as client: client.get(...)`. A
    registry that is already open on another loop cannot be used here; hand in its provider.
    """

    def __init__(self, source: Source, **options: Unpack[ClientOptions]) -> None:
        self._client = AsyncServiceClient(source, **options)
        self._loop = LoopThread(name="microservice-client")

    @classmethod
    def from_addresses(
        cls, addresses: Mapping[str, Sequence[str]], **options: Unpack[ClientOptions]
    ) -> Self:
        """A client of fixed addresses; see `AsyncServiceClient.from_addresses`."""
        return cls(StaticAddresses(addresses), **options)

    def __enter__(self) -> Self:
        self._loop.start()
        try:
            self._loop.run(self._client.__aenter__())
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close connections, watches and the thread; closing twice is fine."""
        if self._loop.running:
            try:
                self._loop.run(self._client.aclose())
            finally:
                self._loop.close()

    def request(
        self, method: str, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """The response, read to its end.

        Raises:
            ServiceCallError: no instance answered; it says who was tried.
            LoopThreadError: the client is not open, or was opened before a fork.
        """
        return self._loop.run(self._client.request(method, service, path, **options))

    def get(self, service: str, path: str, **options: Unpack[RequestOptions]) -> httpx.Response:
        """GET; see `request`."""
        return self.request("GET", service, path, **options)

    def head(self, service: str, path: str, **options: Unpack[RequestOptions]) -> httpx.Response:
        """HEAD; see `request`."""
        return self.request("HEAD", service, path, **options)

    def options(self, service: str, path: str, **options: Unpack[RequestOptions]) -> httpx.Response:
        """OPTIONS; see `request`."""
        return self.request("OPTIONS", service, path, **options)

    def post(self, service: str, path: str, **options: Unpack[RequestOptions]) -> httpx.Response:
        """POST; see `request`. Sent again only when it was not sent, or has an Idempotency-Key."""
        return self.request("POST", service, path, **options)

    def put(self, service: str, path: str, **options: Unpack[RequestOptions]) -> httpx.Response:
        """PUT; see `request`."""
        return self.request("PUT", service, path, **options)

    def patch(self, service: str, path: str, **options: Unpack[RequestOptions]) -> httpx.Response:
        """PATCH; see `request`. Sent again only when it was not sent, or has an Idempotency-Key."""
        return self.request("PATCH", service, path, **options)

    def delete(self, service: str, path: str, **options: Unpack[RequestOptions]) -> httpx.Response:
        """DELETE; see `request`."""
        return self.request("DELETE", service, path, **options)

    def call(self, service: str, request: httpx.Request) -> httpx.Response:
        """Send a request built elsewhere; only its host is replaced. The body is read."""
        request.read()  # a body that comes from a plain iterator cannot be sent from the loop
        return self._loop.run(self._exchange(service, request))

    def breaker_states(self, service: str) -> dict[str, str]:
        """The state of each instance's circuit breaker, by instance id; for a status page."""
        return self._client.breaker_states(service)

    async def _exchange(self, service: str, request: httpx.Request) -> httpx.Response:
        answer = await self._client.call(service, request)
        try:
            raw = b"".join([chunk async for chunk in answer.aiter_raw()])
        finally:
            await answer.aclose()
        return httpx.Response(
            answer.status_code,
            headers=answer.headers,
            stream=httpx.ByteStream(raw),
            extensions=answer.extensions,
            request=request,
        )


def _url(service: str, path: str) -> str:
    # Only what httpx shows: the service's name travels beside it, to the letter.
    host = service if _HOST.fullmatch(service) else "service"
    return f"http://{host}/{path.lstrip('/')}"
