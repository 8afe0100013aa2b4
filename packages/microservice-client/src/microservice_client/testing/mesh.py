"""FakeMesh: instances that answer in this process, and fail as they are told to."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Literal

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
    """Instances that answer in this process, and fail as they are told to.

    Args:
        sleep: how an instance's delay passes; hand in a manual clock's to need no time.

    Attributes:
        registry: where they are registered.
        asked: how many requests reached each address.
        requests: all of them, in order.
        open_bodies: responses whose body was not closed yet.
        closed: whether the client closed its transport.
    """

    def __init__(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.registry = InMemoryServiceRegistry(ttl_seconds=1e9)
        self.asked: Counter[str] = Counter()
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
        """Register an instance at `ip:port`; labels are its metadata.

        Args:
            service: the service's name.
            address: anything of the form `ip:port`.
            handler: answers a request, plainly or asynchronously; or an ASGI application, whose
                response is then read as a whole before it goes out.
            labels: its metadata.

        Raises:
            InvalidValueError: an address without a port.
        """
        ip, _, port = address.rpartition(":")
        if not ip or not port.isdigit():
            raise InvalidValueError("address", address, "ip:port")
        instance = ServiceInstance(service, ip.strip("[]"), int(port), metadata=labels)
        self.answer_at(address, handler)
        self._instances[address] = instance
        await self.registry.register(instance)
        return instance

    def answer_at(self, address: str, handler: Handler | Asgi) -> None:
        """Let somebody answer at an address, without registering it."""
        self._handlers[address] = _of_asgi(handler) if _is_asgi(handler) else handler  # type: ignore[assignment]

    async def stop(self, address: str) -> None:
        """Deregister the instance; from now on its address refuses connections."""
        await self.registry.deregister(self._instances.pop(address))
        self.fail(address, "refuse")

    def fail(self, address: str, fault: Fault) -> None:
        """Let it fail from now on.

        Args:
            address: whose.
            fault: `refuse` connections, `reset` them after the request, `hang` without answer,
                answer `garbage`, or `break` off in the middle of the body.
        """
        self._faults[address] = fault

    def heal(self, address: str) -> None:
        """Let it answer again."""
        self._faults.pop(address, None)

    def delay(self, address: str, seconds: float) -> None:
        """Let its answers take that long."""
        self._delays[address] = seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer for the instance the URL names."""
        address = _address(request.url)
        self.asked[address] += 1
        self.requests.append(request)
        fault = self._faults.get(address)
        if fault is not None:
            await self._suffer(fault, request)
        await request.aread()
        if delay := self._delays.get(address):
            await self._sleep(delay)
        answer = self._handlers[address](request)
        if inspect.isawaitable(answer):
            answer = await answer
        if not isinstance(answer.stream, httpx.AsyncByteStream):
            raise TypeError("a handler's response needs a body that can be read asynchronously")
        self.open_bodies += 1
        body = _Body(answer.stream, self._closed_one, breaks=fault == "break")
        return httpx.Response(answer.status_code, headers=answer.headers, stream=body)

    async def aclose(self) -> None:
        """Note that the client closed its transport."""
        self.closed = True

    async def _suffer(self, fault: Fault, request: httpx.Request) -> None:
        if fault == "refuse":
            raise httpx.ConnectError("connection refused", request=request)
        await request.aread()
        if fault == "reset":
            raise httpx.ReadError("connection reset by peer", request=request)
        if fault == "garbage":
            raise httpx.RemoteProtocolError("illegal status line", request=request)
        if fault == "hang":
            await asyncio.Event().wait()

    def _closed_one(self) -> None:
        self.open_bodies -= 1


class _Body(httpx.AsyncByteStream):
    def __init__(
        self, stream: httpx.AsyncByteStream, closed: Callable[[], None], *, breaks: bool
    ) -> None:
        self._stream = stream
        self._tell_closed: Callable[[], None] | None = closed
        self._breaks = breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            if self._breaks:
                yield chunk[: len(chunk) // 2]
                raise httpx.ReadError("connection reset by peer")
            yield chunk

    async def aclose(self) -> None:
        tell, self._tell_closed = self._tell_closed, None
        if tell is not None:
            await self._stream.aclose()
            tell()


def _is_asgi(handler: Handler | Asgi) -> bool:
    try:
        parameters = inspect.signature(handler).parameters.values()
    except ValueError:  # a builtin
        return False
    needed = [one for one in parameters if one.default is inspect.Parameter.empty]
    return len([one for one in needed if one.kind is not inspect.Parameter.VAR_KEYWORD]) == 3


def _of_asgi(app: Asgi | Handler) -> Handler:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type] # `_is_asgi` looked

    async def answer(request: httpx.Request) -> httpx.Response:
        return await transport.handle_async_request(request)

    return answer


def _address(url: httpx.URL) -> str:
    netloc = url.netloc.decode("ascii")
    if url.port is not None:
        return netloc
    return f"{netloc}:{443 if url.scheme == 'https' else 80}"
