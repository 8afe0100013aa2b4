"""ServiceClient: the sync face, for threads and scripts."""

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
from .client import AsyncServiceClient, Source
from .discovery.addresses import StaticAddresses
from .http.event_streams import ServerSentEvent
from .http.requests import RequestOptions, build_request
from .options import ClientOptions
from .policies import Policies

__all__ = ("ServiceClient",)

ItemT = TypeVar("ItemT")


class _End:
    """Stands for "nothing more"; None may be an item."""


_END: Final = _End()


class ServiceClient:
    """The same calls on a private loop in a thread of its own.

    `with ServiceClient(open_service_registry("nacos", settings)) as client: client.get(...)`. A
    registry that is already open on another loop cannot be used here; hand in its provider.
    """

    def __init__(self, source: Source, **options: Unpack[ClientOptions]) -> None:
        self._client = AsyncServiceClient(source, **options)
        self._loop = LoopThread(name="microservice-client")
        self._owns = True

    @classmethod
    def on(cls, client: AsyncServiceClient, loop: LoopThread) -> Self:
        """The sync face of a client that is open on that loop; closing this one closes neither."""
        face = cls.__new__(cls)
        face._client, face._loop, face._owns = client, loop, False  # noqa: SLF001 - its own
        return face

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
        if self._owns and self._loop.running:
            try:
                self._loop.run(self._client.aclose())
            finally:
                self._loop.close()

    def request(
        self, method: str, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> httpx.Response:
        """The response, read to its end.

        Raises:
            ServiceCallError: it came to nothing; the error says who was tried.
            LoopThreadError: the client is not open, or was opened before a fork.
        """
        return self._loop.run(self._client.request(method, service, path, **options))

    @contextmanager
    def stream(
        self, method: str, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> Iterator[httpx.Response]:
        """The response with its body unread; the instance counts as busy until the block ends."""
        request = build_request(method, service, path, options, self._client.default_headers)
        response = self._open_stream(service, request)
        try:
            yield response
        finally:
            response.close()

    def events(
        self, service: str, path: str, *, method: str = "GET", **options: Unpack[RequestOptions]
    ) -> Iterator[ServerSentEvent]:
        """Server-sent events; see `AsyncServiceClient.events`."""
        return self.iterate(self._client.events(service, path, method=method, **options))

    def json_lines(
        self, service: str, path: str, *, method: str = "GET", **options: Unpack[RequestOptions]
    ) -> Iterator[object]:
        """The documents of an NDJSON body; see `AsyncServiceClient.json_lines`."""
        return self.iterate(self._client.json_lines(service, path, method=method, **options))

    @contextmanager
    def websocket_url(
        self, service: str, path: str, **options: Unpack[RequestOptions]
    ) -> Iterator[str]:
        """`ws://ip:port/path` of an instance; see `AsyncServiceClient.websocket_url`."""
        reserved = self._client.websocket_url(service, path, **options)
        url = self._loop.run(reserved.__aenter__())
        try:
            yield url
        except BaseException as error:
            self._loop.run(reserved.__aexit__(type(error), error, error.__traceback__))
            raise
        self._loop.run(reserved.__aexit__(None, None, None))

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
        """Send a request built elsewhere; only its host is replaced. The body is unread.

        Raises:
            ServiceCallError: it came to nothing; the error says who was tried.
        """
        return self._open_stream(service, request)

    def warm_up(self, services: Iterable[str]) -> None:
        """Find out the instances of these services now; see `AsyncServiceClient.warm_up`."""
        self._loop.run(self._client.warm_up(services))

    def apply_policies(self, policies: Policies) -> None:
        """Let calls behave so from now on; see `AsyncServiceClient.apply_policies`."""
        self._loop.run(self._applied(policies))

    def known_instances(self) -> dict[str, tuple[ServiceInstance, ...]]:
        """The instances of every service known now, asking nobody; for a status page."""
        return self._client.known_instances()

    def breaker_states(self, service: str) -> dict[str, str]:
        """The state of each instance's circuit breaker, by instance id; for a status page."""
        return self._client.breaker_states(service)

    def recent_calls(self, service: str | None = None) -> Sequence[CallRecord]:
        """The last calls, newest first; for a status page."""
        return self._client.recent_calls(service)

    def discovery_age(self, service: str) -> float | None:
        """Seconds since the registry last confirmed the service's instances; None if unknown."""
        return self._client.discovery_age(service)

    @property
    def asynchronous(self) -> AsyncServiceClient:
        """The client that does the work; only coroutines given to `run` may use it."""
        return self._client

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._loop.running

    def run(self, coroutine: Coroutine[object, object, ItemT]) -> ItemT:
        """Run something on this client's private loop and wait for it.

        Raises:
            LoopThreadError: the client is not open.
        """
        return self._loop.run(coroutine)

    def iterate(self, items: AsyncIterator[ItemT]) -> Iterator[ItemT]:
        """What an async iterator of this client's loop brings, one by one, in this thread."""
        try:
            while not isinstance(item := self._loop.run(_next(items)), _End):
                yield item
        finally:
            if self.is_open:
                self._loop.run(_close(items))

    async def _applied(self, policies: Policies) -> None:
        self._client.apply_policies(policies)

    def _open_stream(self, service: str, request: httpx.Request) -> httpx.Response:
        sent = request
        if not isinstance(request.stream, httpx.AsyncByteStream):
            sent = httpx.Request(
                request.method,
                request.url,
                headers=request.headers,
                stream=_Uploaded(request.stream),
                extensions=request.extensions,
            )
        answer = self._loop.run(self._client.call(service, sent))
        return httpx.Response(
            answer.status_code,
            headers=answer.headers,
            stream=_Downloaded(self, answer),
            extensions=answer.extensions,
            request=request,
        )


class _Uploaded(httpx.AsyncByteStream):
    """A plain iterator's bytes, taken in a thread of their own so that the loop can go on."""

    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> None:
        assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 - a sync client's
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = iter(self._stream)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk


class _Downloaded(httpx.SyncByteStream):
    """A response's body as it comes from the private loop, still encoded."""

    def __init__(self, client: ServiceClient, answer: httpx.Response) -> None:
        self._client = client
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._client.iterate(self._answer.aiter_raw())

    def close(self) -> None:
        """Close the body; fine when the client is closed already, which closed it."""
        if self._client.is_open:
            self._client.run(self._answer.aclose())


async def _next(items: AsyncIterator[ItemT]) -> ItemT | _End:
    return await anext(items, _END)


async def _close(items: AsyncIterator[ItemT]) -> None:
    if isinstance(items, AsyncGenerator):
        await items.aclose()
