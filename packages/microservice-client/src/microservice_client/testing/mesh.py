"""FakeMesh: instances in this process that respond and fail as the test wants."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Literal, cast

import httpx

from microservice_core import InMemoryServiceRegistry, InvalidValueError, ServiceInstance

__all__ = ("Asgi", "FakeMesh", "Fault", "Handler")

Handler = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]
Message = MutableMapping[str, object]
Asgi = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
Fault = Literal["refuse", "reset", "hang", "garbage", "break"]


class FakeMesh(httpx.AsyncBaseTransport):
    """Instances in this process that respond and fail as the test wants; a client's transport.

    Args:
        sleep: waits for an instance's delay; pass a manual clock's `sleep` to need no real time.

    Attributes:
        registry: where the instances are registered.
        request_counts: number of requests by address.
        requests: all requests, in order.
        open_bodies: number of responses whose body is not closed.
        closed: whether the client closed its transport.
    """

    def __init__(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.registry = InMemoryServiceRegistry(ttl_seconds=1e9)
        self.request_counts: Counter[str] = Counter()
        self.requests: list[httpx.Request] = []
        self.open_bodies = 0
        self.closed = False
        self._sleep = sleep
        self._handlers: dict[str, Handler] = {}
        self._faults: dict[str, Fault] = {}
        self._delays: dict[str, float] = {}
        self._instances: dict[str, ServiceInstance] = {}

    async def start(
        self, service: str, address: str, handler: Handler | Asgi, **labels: str
    ) -> ServiceInstance:
        """Register an instance.

        Args:
            service: the service's name.
            address: anything of the form `ip:port`.
            handler: a plain or async function that returns the response to a request; or an ASGI
                application, whose response is read as a whole before it is sent.
            labels: metadata of the instance.

        Raises:
            InvalidValueError: the address is not `ip:port`.
        """
        ip, _, port = address.rpartition(":")
        if not ip or not port.isdigit():
            raise InvalidValueError("address", address, "ip:port")
        instance = ServiceInstance(service, ip.strip("[]"), int(port), metadata=labels)
        self.serve_at(address, handler)
        self._instances[address] = instance
        await self.registry.register(instance)
        return instance

    def serve_at(self, address: str, handler: Handler | Asgi) -> None:
        """Let a handler respond at an address, without registering an instance."""
        # _is_asgi tells the two kinds of callables apart, which a type checker cannot.
        self._handlers[address] = (
            _wrap_asgi(cast("Asgi", handler)) if _is_asgi(handler) else cast("Handler", handler)
        )

    async def stop(self, address: str) -> None:
        """Deregister an instance, and let its address refuse connections."""
        await self.registry.deregister(self._instances.pop(address))
        self.fail(address, "refuse")

    def fail(self, address: str, fault: Fault) -> None:
        """Let an address fail until `heal`.

        Args:
            address: of the instance.
            fault: `refuse` connections, `reset` them after the request, `hang` without a response,
                respond with `garbage`, or `break` off in the middle of the body.
        """
        self._faults[address] = fault

    def heal(self, address: str) -> None:
        """End the fault of an address."""
        self._faults.pop(address, None)

    def delay(self, address: str, seconds: float) -> None:
        """Let the responses of an address take that long."""
        self._delays[address] = seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Respond for the instance at the URL's address."""
        address = _address(request.url)
        self.request_counts[address] += 1
        self.requests.append(request)
        fault = self._faults.get(address)
        if fault is not None:
            await self._apply_fault(fault, request)
        await request.aread()
        if delay := self._delays.get(address):
            await self._sleep(delay)
        response = self._handlers[address](request)
        if inspect.isawaitable(response):
            response = await response
        if not isinstance(response.stream, httpx.AsyncByteStream):
            raise TypeError("a handler's response needs a body that can be read asynchronously")
        self.open_bodies += 1
        body = _Body(response.stream, self._count_closed_body, breaks=fault == "break")
        return httpx.Response(response.status_code, headers=response.headers, stream=body)

    async def aclose(self) -> None:
        """Record that the client closed its transport."""
        self.closed = True

    async def _apply_fault(self, fault: Fault, request: httpx.Request) -> None:
        if fault == "refuse":
            raise httpx.ConnectError("connection refused", request=request)
        await request.aread()
        if fault == "reset":
            raise httpx.ReadError("connection reset by peer", request=request)
        if fault == "garbage":
            raise httpx.RemoteProtocolError("illegal status line", request=request)
        if fault == "hang":
            await asyncio.Event().wait()

    def _count_closed_body(self) -> None:
        self.open_bodies -= 1


class _Body(httpx.AsyncByteStream):
    def __init__(
        self, stream: httpx.AsyncByteStream, on_close: Callable[[], None], *, breaks: bool
    ) -> None:
        self._stream = stream
        self._on_close: Callable[[], None] | None = on_close
        self._breaks = breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            if self._breaks:
                yield chunk[: len(chunk) // 2]
                raise httpx.ReadError("connection reset by peer")
            yield chunk

    async def aclose(self) -> None:
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            await self._stream.aclose()
            on_close()


def _is_asgi(handler: Handler | Asgi) -> bool:
    try:
        parameters = inspect.signature(handler).parameters.values()
    except ValueError:  # a builtin
        return False
    required = [item for item in parameters if item.default is inspect.Parameter.empty]
    return len([item for item in required if item.kind is not inspect.Parameter.VAR_KEYWORD]) == 3


def _wrap_asgi(app: Asgi) -> Handler:
    transport = httpx.ASGITransport(app)

    async def respond(request: httpx.Request) -> httpx.Response:
        return await transport.handle_async_request(request)

    return respond


def _address(url: httpx.URL) -> str:
    netloc = url.netloc.decode("ascii")
    if url.port is not None:
        return netloc
    return f"{netloc}:{443 if url.scheme == 'https' else 80}"
