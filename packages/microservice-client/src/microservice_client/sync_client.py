"""ServiceClient: the sync client, for threads and scripts."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self, TypeVar, Unpack

import httpx

from microservice_core import LoopThread, ServiceInstance

from .calling.recent_calls import CallRecord
from .calling.stats import ServiceStats
from .client import AsyncServiceClient, Source
from .discovery.addresses import StaticAddresses
from .http.event_streams import ServerSentEvent
from .http.requests import RequestOptions, build_request
from .options import ClientOptions, require_known_options
from .policies import Policies

__all__ = ("ServiceClient",)

ItemT = TypeVar("ItemT")


class _End:
    """Marks the end of an iteration, as None may be an item."""


_END: Final = _End()


class ServiceClient:
    """The sync client; it runs an `AsyncServiceClient` on a private loop in a thread.

    `with ServiceClient(open_service_registry("nacos", settings)) as client: client.get(...)`. A
    registry that is already open on another loop cannot be used here; pass its provider.

    Args:
        source: a provider's context manager (`open_service_registry(...)`), or a source without
            connections such as `StaticAddresses`.
        options: see `ClientOptions`.
    """

    def __init__(self, source: Source, **options: Unpack[ClientOptions]) -> None:
        require_known_options(type(self).__name__, options)
        self._client = AsyncServiceClient(source, **options)
        self._loop = LoopThread(name="microservice-client")
        self._owns_client = True

    @classmethod
    def from_async(cls, client: AsyncServiceClient, loop: LoopThread) -> Self:
        """Make the sync client of an async client that is open on a loop; it closes neither."""
        sync_client = cls.__new__(cls)
        sync_client._client, sync_client._loop = client, loop  # noqa: SLF001 - of this class
        sync_client._owns_client = False  # noqa: SLF001 - of this class
        return sync_client

    @classmethod
    def from_addresses(
        cls, addresses: Mapping[str, Sequence[str]], **options: Unpack[ClientOptions]
    ) -> Self:
        """Make a client of fixed addresses; see `AsyncServiceClient.from_addresses`."""
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
        """Close the connections, the watches and the thread; closing twice is fine."""
        if self._owns_client and self._loop.running:
            try:
                self._loop.run(self._client.aclose())
            finally:
                self._loop.close()

    def request(
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
            LoopThreadError: the client is not open, or was opened before a fork.
        """
        return self._loop.run(self._client.request(method, service, path, **options))

    @contextmanager
    def stream(
        self, method: str, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> Iterator[httpx.Response]:
        """Call a service and yield the response, its body unread; see `AsyncServiceClient.stream`."""
        request = build_request(method, service, path, options, self._client.default_headers)
        response = self._open_stream(service, request)
        try:
            yield response
        finally:
            response.close()

    def events(
        self, service: str, path: str, *, method: str = "GET", **options: Unpack[RequestOptions]
    ) -> Iterator[ServerSentEvent]:
        """Iterate over server-sent events; see `AsyncServiceClient.events`."""
        return self.iterate(self._client.events(service, path, method=method, **options))

    def json_lines(
        self, service: str, path: str, *, method: str = "GET", **options: Unpack[RequestOptions]
    ) -> Iterator[object]:
        """Iterate over the documents of an NDJSON body; see `AsyncServiceClient.json_lines`."""
        return self.iterate(self._client.json_lines(service, path, method=method, **options))

    @contextmanager
    def websocket_url(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> Iterator[str]:
        """Yield `ws://ip:port/path` of an instance; see `AsyncServiceClient.websocket_url`."""
        reservation = self._client.websocket_url(service, path, **options)
        url = self._loop.run(reservation.__aenter__())
        try:
            yield url
        except BaseException as error:
            self._loop.run(reservation.__aexit__(type(error), error, error.__traceback__))
            raise
        self._loop.run(reservation.__aexit__(None, None, None))

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
        """POST; see `request`. Retried only if it was never sent, or has an `Idempotency-Key`."""
        return self.request("POST", service, path, **options)

    def put(self, service: str, path: str, **options: Unpack[RequestOptions]) -> httpx.Response:
        """PUT; see `request`."""
        return self.request("PUT", service, path, **options)

    def patch(self, service: str, path: str, **options: Unpack[RequestOptions]) -> httpx.Response:
        """PATCH; see `request`. Retried only if it was never sent, or has an `Idempotency-Key`."""
        return self.request("PATCH", service, path, **options)

    def delete(self, service: str, path: str, **options: Unpack[RequestOptions]) -> httpx.Response:
        """DELETE; see `request`."""
        return self.request("DELETE", service, path, **options)

    def call(self, service: str, request: httpx.Request) -> httpx.Response:
        """Send a request that the caller built; see `AsyncServiceClient.call`.

        Raises:
            ServiceCallError: the call failed; the error lists the attempts.
        """
        return self._open_stream(service, request)

    def warm_up(self, services: Iterable[str]) -> None:
        """Look up the instances of these services now; see `AsyncServiceClient.warm_up`."""
        self._loop.run(self._client.warm_up(services))

    def apply_policies(self, policies: Policies) -> None:
        """Use these policies from now on; see `AsyncServiceClient.apply_policies`."""
        self._loop.run(self._apply_policies(policies))

    def known_instances(self) -> dict[str, tuple[ServiceInstance, ...]]:
        """Return the instances of every service in the cache, without a query; for a status page."""
        return self._client.known_instances()

    def breaker_states(self, service: str) -> dict[str, str]:
        """Return the state of each instance's circuit breaker, by instance id; for a status page."""
        return self._client.breaker_states(service)

    def recent_calls(self, service: str | None = None) -> Sequence[CallRecord]:
        """Return the last calls, newest first, also of one service only; for a status page."""
        return self._client.recent_calls(service)

    def stats(self, service: str) -> ServiceStats | None:
        """Return what the client holds for a service at this moment; None if it was not called."""
        return self._client.stats(service)

    def discovery_age(self, service: str) -> float | None:
        """Seconds since the registry last confirmed the service's instances; None if not loaded."""
        return self._client.discovery_age(service)

    @property
    def asynchronous(self) -> AsyncServiceClient:
        """The async client behind this one; use it only in coroutines passed to `run`."""
        return self._client

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._loop.running

    def run(self, coroutine: Coroutine[object, object, ItemT]) -> ItemT:
        """Run a coroutine on this client's private loop and return its result.

        Raises:
            LoopThreadError: the client is not open.
        """
        return self._loop.run(coroutine)

    def iterate(self, items: AsyncIterator[ItemT]) -> Iterator[ItemT]:
        """Iterate in this thread over an async iterator of this client's private loop."""
        try:
            while not isinstance(item := self._loop.run(_take_item(items)), _End):
                yield item
        finally:
            if self.is_open:
                self._loop.run(_close_iterator(items))

    async def _apply_policies(self, policies: Policies) -> None:
        self._client.apply_policies(policies)

    def _open_stream(self, service: str, request: httpx.Request) -> httpx.Response:
        async_request, body = request, request.stream
        if not isinstance(body, httpx.AsyncByteStream):
            async_request = httpx.Request(
                request.method,
                request.url,
                headers=request.headers,
                stream=_UploadedBody(body),
                extensions=request.extensions,
            )
        response = self._loop.run(self._client.call(service, async_request))
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_DownloadedBody(self, response),
            extensions=response.extensions,
            request=request,
        )


class _UploadedBody(httpx.AsyncByteStream):
    """A sync request body, read in another thread so that it does not block the loop."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = iter(self._stream)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk


class _DownloadedBody(httpx.SyncByteStream):
    """A response's body as it arrives on the private loop, not decoded."""

    def __init__(self, client: ServiceClient, response: httpx.Response) -> None:
        self._client = client
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._client.iterate(self._response.aiter_raw())

    def close(self) -> None:
        """Close the body, unless the client is closed: that has closed the body."""
        if self._client.is_open:
            self._client.run(self._response.aclose())


async def _take_item(items: AsyncIterator[ItemT]) -> ItemT | _End:
    return await anext(items, _END)


async def _close_iterator(items: AsyncIterator[ItemT]) -> None:
    if isinstance(items, AsyncGenerator):
        await items.aclose()
