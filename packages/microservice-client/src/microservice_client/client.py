"""AsyncServiceClient: httpx's methods, with a service's name for the host."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Self, Unpack

import httpx

from microservice_core import (
    ConfigCenter,
    InstanceQuery,
    InvalidValueError,
    ServiceInstance,
    Unsubscribe,
)

from .calling.engine import CallEngine
from .calling.recent_calls import CallRecord, RecentCalls
from .calling.service import staged_balancer
from .discovery.addresses import StaticAddresses
from .discovery.instance_cache import InstanceCache, InstanceSource
from .errors import ClientClosedError
from .http.connections import Connections, pool_maker
from .http.event_streams import ServerSentEvent, aiter_events, aiter_json_lines
from .http.instance_requests import websocket_url
from .http.requests import RawHeaders, RequestOptions, build_request, default_headers
from .options import ClientOptions
from .policies import Policies, follow_policies
from .policy import ServicePolicy
from .telemetry.instance_metrics import InstanceMetrics
from .telemetry.metrics import CallMetrics
from .telemetry.tracing import Tracing

__all__ = ("AsyncServiceClient", "Source")

Source = InstanceSource | AbstractAsyncContextManager[InstanceSource]


class AsyncServiceClient:
    """Calls services by name: `await client.get("orders", "/v1/orders/7")`.

    Use it as an async context manager; leaving the block closes connections and watches, not a
    registry that was handed in open.

    Args:
        source: an open registry, or a provider's context manager (`open_service_registry(...)`),
            which is then opened and closed with the client.
        options: see `ClientOptions`.

    Raises:
        MissingDependencyError: the connection layer asked for is not installed.
    """

    def __init__(self, source: Source, **options: Unpack[ClientOptions]) -> None:
        if options.get("transport") is None:
            pool_maker(options.get("connection_layer", "auto"))
        self._source = source
        self._options = options
        self._stack: AsyncExitStack | None = None
        self._engine: CallEngine | None = None
        self._headers: RawHeaders = ()

    @classmethod
    def from_addresses(
        cls, addresses: Mapping[str, Sequence[str]], **options: Unpack[ClientOptions]
    ) -> Self:
        """A client of fixed addresses: `{"orders": ["http://127.0.0.1:8001"]}`.

        Raises:
            InvalidValueError: an address is no `http(s)://host:port`.
        """
        return cls(StaticAddresses(addresses), **options)

    def open(self) -> Self:
        """Open it without a block, in the running loop, on an open registry; `aclose()` closes it.

        Raises:
            InvalidValueError: `source` is no open registry.
        """
        self._start(self._source, AsyncExitStack())
        return self

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            source = self._source
            if isinstance(source, AbstractAsyncContextManager):
                source = await stack.enter_async_context(source)
            self._start(source, stack)
        return self

    def _start(self, source: Source, stack: AsyncExitStack) -> None:
        if not isinstance(source, InstanceSource):
            rule = "an open registry; only `async with` opens a provider's context manager"
            raise InvalidValueError("source", type(source).__name__, rule)
        engine = open_engine(source, self._options)
        stack.push_async_callback(engine.aclose)
        self._headers = default_headers()
        self._engine = engine
        self._stack = stack.pop_all()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close connections and watches; closing twice is fine."""
        stack, self._stack, self._engine = self._stack, None, None
        if stack is not None:
            await stack.aclose()

    @property
    def default_headers(self) -> RawHeaders:
        """What every request carries unless it says otherwise."""
        return self._headers

    async def request(
        self, method: str, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """The response, read to its end.

        Raises:
            ServiceCallError: it came to nothing; the error says who was tried.
        """
        engine = self._engine or self._closed()
        request = build_request(method, service, path, options, self._headers)
        return await engine.send(service, request, reading=True)

    @asynccontextmanager
    async def stream(
        self, method: str, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> AsyncIterator[httpx.Response]:
        """The response with its body unread; the instance counts as busy until the block ends.

        Raises:
            ServiceCallError: it came to nothing; a body that breaks off later is one, too.
        """
        engine = self._engine or self._closed()
        request = build_request(method, service, path, options, self._headers)
        response = await engine.send(service, request)
        try:
            yield response
        finally:
            await response.aclose()

    async def events(
        self, service: str, path: str, *, method: str = "GET", **options: Unpack[RequestOptions]
    ) -> AsyncIterator[ServerSentEvent]:
        """Server-sent events, as they come, until the stream ends.

        Raises:
            ServiceCallError: it came to nothing, broke off, or was answered by an error.
        """
        accepting: RequestOptions = {
            **options,
            "headers": {"accept": "text/event-stream", **options.get("headers", {})},
        }
        async with self._messages(method, service, path, accepting) as response:
            async for event in aiter_events(response):
                yield event

    async def json_lines(
        self, service: str, path: str, *, method: str = "GET", **options: Unpack[RequestOptions]
    ) -> AsyncIterator[object]:
        """The documents of an NDJSON body, as they come.

        Raises:
            ServiceCallError: it came to nothing, broke off, or was answered by an error.
        """
        accepting: RequestOptions = {
            **options,
            "headers": {"accept": "application/x-ndjson", **options.get("headers", {})},
        }
        async with self._messages(method, service, path, accepting) as response:
            async for document in aiter_json_lines(response):
                yield document

    @asynccontextmanager
    async def websocket_url(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> AsyncIterator[str]:
        """`ws://ip:port/path` of an instance, for a WebSocket library of your choice.

        The instance counts as busy until the block ends, an exception that leaves the block as its
        failure.

        Raises:
            NoInstanceCallError: nobody can be asked.
        """
        engine = self._engine or self._closed()
        request = build_request("GET", service, path, options, self._headers)
        async with engine.reserve(service, request) as instance:
            yield websocket_url(instance, path)

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
            ServiceCallError: it came to nothing; the error says who was tried.
        """
        engine = self._engine or self._closed()
        return await engine.send(service, request)

    async def warm_up(self, services: Iterable[str]) -> None:
        """Find out the instances of these services now, so that no first call has to wait.

        Raises:
            ServiceRegistryError: the registry cannot be asked for one of them.
        """
        await (self._engine or self._closed()).discovery.warm_up(services)

    async def instances(self, service: str) -> tuple[ServiceInstance, ...]:
        """Everybody known to offer the service, before any filter; asked for when first needed.

        Raises:
            ServiceRegistryError: the registry cannot be asked, and never was.
        """
        discovery = (self._engine or self._closed()).discovery
        known = discovery.known(service)
        return known if known is not None else await discovery.load(service)

    def known_instances(self) -> dict[str, tuple[ServiceInstance, ...]]:
        """The instances of every service known now, asking nobody; for a status page."""
        return (self._engine or self._closed()).discovery.everything()

    def apply_policies(self, policies: Policies) -> None:
        """Let calls behave so from now on; those under way are not touched.

        Breakers, balancers, budgets and places in bulkheads stay where the policy does not change
        them. `policies_of(mapping)` reads them from a configuration.
        """
        (self._engine or self._closed()).apply(policies)

    def follow_policies(
        self, center: ConfigCenter, data_id: str, *, group_name: str = ""
    ) -> Unsubscribe:
        """Apply the policies of a JSON document in a configuration center, now and at each change.

        See `policies_of` for its form. A document that cannot be used is logged and changes
        nothing. The returned callable ends it.
        """
        return follow_policies(self.apply_policies, center, data_id, group_name=group_name)

    def breaker_states(self, service: str) -> dict[str, str]:
        """The state of each instance's circuit breaker, by instance id; for a status page."""
        return (self._engine or self._closed()).breaker_states(service)

    def recent_calls(self, service: str | None = None) -> Sequence[CallRecord]:
        """The last calls, newest first; for a status page."""
        return (self._engine or self._closed()).recent.latest(service)

    def discovery_age(self, service: str) -> float | None:
        """Seconds since the registry last confirmed the service's instances; None if unknown."""
        return (self._engine or self._closed()).discovery.age(service)

    @asynccontextmanager
    async def _messages(
        self, method: str, service: str, path: str, options: RequestOptions
    ) -> AsyncIterator[httpx.Response]:
        # An error page holds no messages: it is raised whatever the policy says of statuses.
        strict: RequestOptions = {"raise_on": "errors", **options}
        async with self.stream(method, service, path, **strict) as response:
            yield response

    def _closed(self) -> CallEngine:
        raise ClientClosedError


def open_engine(source: InstanceSource, options: ClientOptions) -> CallEngine:
    """The engine of a client; needs a running loop.

    Raises:
        MissingDependencyError: the connection layer asked for is not installed.
    """
    clock = options.get("clock", time.monotonic)
    connections = Connections(
        options.get("transport"), layer=options.get("connection_layer", "auto")
    )
    discovery = InstanceCache(
        source,
        options.get("query", InstanceQuery()),
        refresh_seconds=options.get("refresh_seconds", 30.0),
        forget_seconds=options.get("forget_seconds", 900.0),
        changed=lambda name, now: engine.instances_changed(name, now),  # noqa: PLW0108 - not there yet
        clock=clock,
    )
    metrics = CallMetrics(options.get("meter_provider"))
    engine = CallEngine(
        discovery,
        connections,
        policies=Policies(
            options.get("default_policy") or ServicePolicy(), dict(options.get("policies") or {})
        ),
        filters=options.get("filters", ()),
        service_filters=options.get("service_filters", {}),
        interceptors=options.get("interceptors", ()),
        service_interceptors=options.get("service_interceptors", {}),
        fallbacks=options.get("fallbacks", {}),
        make_balancer=options.get("make_balancer") or partial(staged_balancer, clock=clock),
        tracing=Tracing(options.get("tracer_provider")),
        metrics=metrics,
        recent=RecentCalls(options.get("keep_calls", 100)),
        clock=clock,
    )
    if options.get("instance_metrics"):
        metrics.instances = InstanceMetrics(
            options.get("meter_provider"), discovery.everything, engine.breaker_states
        )
    discovery.start()
    return engine
