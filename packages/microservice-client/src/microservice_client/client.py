"""AsyncServiceClient: the methods of httpx, with a service's name in place of a host."""

from __future__ import annotations

import asyncio
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
from .calling.service import make_balancer
from .calling.stats import ServiceStats
from .discovery.addresses import StaticAddresses
from .discovery.instance_cache import InstanceCache
from .discovery.instance_source import InstanceSource
from .errors import ClientClosedError
from .http.auth import send_with_auth
from .http.connections import Connections, choose_pool_factory
from .http.event_streams import ServerSentEvent, aiter_events, aiter_json_lines
from .http.requests import (
    RawHeaders,
    RequestOptions,
    build_request,
    default_headers,
    websocket_url,
)
from .options import ClientOptions, require_known_options
from .policies import Policies, watch_policies
from .policy import ServicePolicy
from .telemetry.instance_metrics import InstanceMetrics
from .telemetry.metrics import CallMetrics
from .telemetry.sdk_check import SdkCheck
from .telemetry.tracing import Tracing

__all__ = ("AsyncServiceClient", "Source")

_SENT_OPTIONS = frozenset({"auth", "cookies", "json", "content", "data", "files"})
Source = InstanceSource | AbstractAsyncContextManager[InstanceSource]


class AsyncServiceClient:
    """Calls services by name: `await client.get("orders", "/v1/orders/7")`.

    Use it as an async context manager; leaving the block closes its connections and watches, but
    not a registry that was open before.

    Args:
        source: an open registry, or a provider's context manager (`open_service_registry(...)`),
            which is then opened and closed with the client.
        options: see `ClientOptions`.

    Raises:
        MissingDependencyError: the requested connection layer is not installed.
        TypeError: an option is unknown.
    """

    def __init__(self, source: Source, **options: Unpack[ClientOptions]) -> None:
        require_known_options(type(self).__name__, options)
        if options.get("transport") is None:
            choose_pool_factory(options.get("connection_layer", "auto"))  # or it raises
        self._source = source
        self._options = options
        self._stack: AsyncExitStack | None = None
        self._engine: CallEngine | None = None
        self._headers: RawHeaders = ()
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_addresses(
        cls, addresses: Mapping[str, Sequence[str]], **options: Unpack[ClientOptions]
    ) -> Self:
        """Make a client of fixed addresses: `{"orders": ["http://127.0.0.1:8001"]}`.

        Raises:
            InvalidValueError: an address is no `http(s)://host:port`.
        """
        return cls(StaticAddresses(addresses), **options)

    def open(self) -> Self:
        """Open the client without a block, in the running loop; close it with `aclose()`.

        Raises:
            InvalidValueError: `source` is not an open registry.
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
        self._loop = asyncio.get_running_loop()
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
        """Close the connections and watches; closing twice is fine."""
        stack, self._stack, self._engine = self._stack, None, None
        # With its loop, all that the client had open has ended.
        if stack is not None and not self._has_lost_its_loop():
            await stack.aclose()

    @property
    def default_headers(self) -> RawHeaders:
        """The headers of every request that does not set them itself."""
        return self._headers

    async def request(
        self, method: str, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """Call a service and return the response, its body read.

        Args:
            method: of HTTP.
            service: the service's name.
            path: of the URL; the query goes into `params`.
            options: see `RequestOptions`.

        Raises:
            ServiceCallError: the call failed; the error lists the attempts.
            TypeError: an option is unknown, or not of its type.
            InvalidValueError: HTTP cannot carry the request, e.g. a header's value with a line end.
        """
        request = build_request(method, service, path, options, self._headers)
        return await self._send(service, request, reading=True)

    @asynccontextmanager
    async def stream(
        self, method: str, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> AsyncIterator[httpx.Response]:
        """Call a service and yield the response, its body unread.

        The instance counts as busy until the block ends.

        Raises:
            ServiceCallError: the call failed; also raised inside the block, when the body breaks
                off.
        """
        request = build_request(method, service, path, options, self._headers)
        response = await self._send(service, request)
        try:
            yield response
        finally:
            await response.aclose()

    async def events(
        self, service: str, path: str, *, method: str = "GET", **options: Unpack[RequestOptions]
    ) -> AsyncIterator[ServerSentEvent]:
        """Iterate over server-sent events as they arrive, until the stream ends.

        Raises:
            ServiceCallError: the call failed, the response is an error, or the body breaks off.
            MessageTooLongError: an event is longer than 1 MiB.
        """
        request_options: RequestOptions = {
            **options,
            "headers": {"accept": "text/event-stream", **options.get("headers", {})},
        }
        async with self._stream_messages(method, service, path, request_options) as response:
            async for event in aiter_events(response):
                yield event

    async def json_lines(
        self, service: str, path: str, *, method: str = "GET", **options: Unpack[RequestOptions]
    ) -> AsyncIterator[object]:
        """Iterate over the documents of an NDJSON body as they arrive.

        Raises:
            ServiceCallError: the call failed, the response is an error, or the body breaks off.
            MessageTooLongError: a line is longer than 1 MiB.
            ValueError: a line is not valid JSON.
        """
        request_options: RequestOptions = {
            **options,
            "headers": {"accept": "application/x-ndjson", **options.get("headers", {})},
        }
        async with self._stream_messages(method, service, path, request_options) as response:
            async for document in aiter_json_lines(response):
                yield document

    @asynccontextmanager
    async def websocket_url(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> AsyncIterator[str]:
        """Yield `ws://ip:port/path` of an instance, for a WebSocket library of your choice.

        The instance counts as busy until the block ends; a connection error (an `OSError`, which a
        time-out is as well) that leaves the block counts as its failure.

        Raises:
            NoInstanceCallError: no instance can be called.
            TypeError: an option is unknown, or would be sent: your WebSocket library sends all.
        """
        if sent := _SENT_OPTIONS & options.keys():
            problem = f"websocket_url sends nothing, so it has no use for {min(sent)!r}"
            raise TypeError(f"{problem}; pass it to your WebSocket library")
        engine = self._engine or self._raise_closed()
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
        """POST; see `request`. Retried only if it was never sent, or has an `Idempotency-Key`."""
        return await self.request("POST", service, path, **options)

    async def put(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """PUT; see `request`."""
        return await self.request("PUT", service, path, **options)

    async def patch(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """PATCH; see `request`. Retried only if it was never sent, or has an `Idempotency-Key`."""
        return await self.request("PATCH", service, path, **options)

    async def delete(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """DELETE; see `request`."""
        return await self.request("DELETE", service, path, **options)

    async def call(self, service: str, request: httpx.Request) -> httpx.Response:
        """Send a request that the caller built; the response's body is unread.

        Args:
            service: the service's name.
            request: the request; only the address in its URL is replaced.

        Raises:
            ServiceCallError: the call failed; the error lists the attempts.
        """
        return await self._send(service, request)

    async def warm_up(self, services: Iterable[str]) -> None:
        """Look up the instances of these services now, so that their first calls need not wait.

        Raises:
            ServiceRegistryError: the registry cannot be queried for one of them.
        """
        await (self._engine or self._raise_closed()).cache.warm_up(services)

    async def instances(self, service: str) -> tuple[ServiceInstance, ...]:
        """Return all instances of the service, before any filter; queried at the first use.

        Raises:
            ServiceRegistryError: the service was not looked up before, and the registry cannot be
                queried.
        """
        return await (self._engine or self._raise_closed()).cache.load(service)

    def known_instances(self) -> dict[str, tuple[ServiceInstance, ...]]:
        """Return the instances of every service in the cache, without a query; for a status page."""
        return (self._engine or self._raise_closed()).cache.snapshot()

    def apply_policies(self, policies: Policies) -> None:
        """Use these policies for calls that start from now on; calls in flight keep theirs.

        Breakers, balancers, budgets and bulkheads keep their state where the policy does not change
        them. `parse_policies(mapping)` makes `Policies` from a configuration.
        """
        (self._engine or self._raise_closed()).apply_policies(policies)

    def watch_policies(
        self, center: ConfigCenter, data_id: str, *, group_name: str = ""
    ) -> Unsubscribe:
        """Apply the policies of a JSON document in a configuration center, now and at each change.

        See `parse_policies` for its form. A document that is not valid is logged and changes
        nothing.

        Returns:
            A callable that ends the watch.
        """
        return watch_policies(self.apply_policies, center, data_id, group_name=group_name)

    def breaker_states(self, service: str) -> dict[str, str]:
        """Return the state of each instance's circuit breaker, by instance id; for a status page."""
        return (self._engine or self._raise_closed()).breaker_states(service)

    def recent_calls(self, service: str | None = None) -> Sequence[CallRecord]:
        """Return the last calls, newest first, also of one service only; for a status page."""
        return (self._engine or self._raise_closed()).recent.list_latest(service)

    def stats(self, service: str) -> ServiceStats | None:
        """Return what the client holds for a service at this moment; None if it was not called."""
        return (self._engine or self._raise_closed()).stats(service)

    def discovery_age(self, service: str) -> float | None:
        """Seconds since the registry last confirmed the service's instances; None if not loaded."""
        return (self._engine or self._raise_closed()).cache.age(service)

    @asynccontextmanager
    async def _stream_messages(
        self, method: str, service: str, path: str, options: RequestOptions
    ) -> AsyncIterator[httpx.Response]:
        # The body of an error response holds no messages, so it is raised under every policy.
        strict: RequestOptions = {"raise_on": "errors", **options}
        async with self.stream(method, service, path, **strict) as response:
            yield response

    async def _send(
        self, service: str, request: httpx.Request, *, reading: bool = False
    ) -> httpx.Response:
        engine = self._engine or self._raise_closed()
        if self._has_lost_its_loop():
            raise ClientClosedError(
                "the event loop in which this client was opened has ended; open the client in the "
                "loop that uses it, or use ServiceClient"
            )
        auth: httpx.Auth | None = request.extensions.get("auth")
        if auth is None:
            return await engine.send(service, request, reading=reading)
        return await send_with_auth(auth, request, partial(engine.send, service, reading=reading))

    def _has_lost_its_loop(self) -> bool:
        return self._loop is not None and self._loop.is_closed()

    def _raise_closed(self) -> CallEngine:
        raise ClientClosedError


def open_engine(source: InstanceSource, options: ClientOptions) -> CallEngine:
    """Build the engine of a client and start its discovery; needs a running loop.

    Raises:
        MissingDependencyError: the requested connection layer is not installed.
    """
    clock = options.get("clock", time.monotonic)
    connections = Connections(
        options.get("transport"), layer=options.get("connection_layer", "auto")
    )
    cache = InstanceCache(
        source,
        options.get("query", InstanceQuery()),
        refresh_seconds=options.get("refresh_seconds", 30.0),
        forget_seconds=options.get("forget_seconds", 900.0),
        hold_empty_seconds=options.get("hold_empty_seconds", 15.0),
        changed=lambda name, instances: engine.apply_instances(name, instances),  # noqa: PLW0108
        clock=clock,
    )
    metrics = CallMetrics(options.get("meter_provider"))
    engine = CallEngine(
        cache,
        connections,
        policies=Policies(
            options.get("default_policy") or ServicePolicy(), dict(options.get("policies") or {})
        ),
        filters=options.get("filters", ()),
        service_filters=options.get("service_filters", {}),
        interceptors=options.get("interceptors", ()),
        service_interceptors=options.get("service_interceptors", {}),
        fallbacks=options.get("fallbacks", {}),
        make_balancer=options.get("make_balancer") or partial(make_balancer, clock=clock),
        tracing=Tracing(options.get("tracer_provider")),
        metrics=metrics,
        sdk=SdkCheck(options.get("tracer_provider"), options.get("meter_provider")),
        recent=RecentCalls(options.get("keep_calls", 100)),
        clock=clock,
    )
    if options.get("instance_metrics"):
        metrics.instances = InstanceMetrics(
            options.get("meter_provider"), cache.snapshot, engine.breaker_states
        )
    cache.start()
    return engine
