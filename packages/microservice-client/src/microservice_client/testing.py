"""A mesh of instances without sockets: for testing what calls services by name.

```python
mesh = FakeMesh()
await mesh.start("orders", "10.0.0.1:80", lambda request: httpx.Response(200))
async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
    await client.get("orders", "/")
```
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Literal

import httpx

from microservice_core import InMemoryServiceRegistry, ServiceInstance

__all__ = ("FakeMesh", "Handler")

Handler = Callable[[httpx.Request], httpx.Response]
Fault = Literal["refuse", "reset", "hang"]


class FakeMesh(httpx.AsyncBaseTransport):
    """Instances that answer in this process, and fail as they are told to.

    Attributes:
        registry: where they are registered.
        asked: how many requests reached each address.
        requests: all of them, in order.
        open_bodies: responses whose body was not closed yet.
    """

    def __init__(self) -> None:
        self.registry = InMemoryServiceRegistry(ttl_seconds=1e9)
        self.asked: Counter[str] = Counter()
        self.requests: list[httpx.Request] = []
        self.open_bodies = 0
        self.closed = False
        self._handlers: dict[str, Handler] = {}
        self._faults: dict[str, Fault] = {}
        self._instances: dict[str, ServiceInstance] = {}

    async def start(
        self, service: str, address: str, handler: Handler, **labels: str
    ) -> ServiceInstance:
        """Register an instance at `ip:port` that answers by `handler`; labels are its metadata."""
        ip, _, port = address.rpartition(":")
        instance = ServiceInstance(service, ip, int(port), metadata=labels)
        self._handlers[address] = handler
        self._instances[address] = instance
        await self.registry.register(instance)
        return instance

    async def stop(self, address: str) -> None:
        """Deregister the instance; from now on its address refuses connections."""
        await self.registry.deregister(self._instances.pop(address))
        self.fail(address, "refuse")

    def fail(self, address: str, fault: Fault) -> None:
        """Let it `refuse` connections, `reset` them after the request, or `hang` without answer."""
        self._faults[address] = fault

    def heal(self, address: str) -> None:
        """Let it answer again."""
        self._faults.pop(address, None)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer for the instance the URL names."""
        address = f"{request.url.host}:{request.url.port or 80}"
        self.asked[address] += 1
        self.requests.append(request)
        await asyncio.sleep(0)
        await self._suffer(self._faults.get(address), request)
        answer = self._handlers[address](request)
        self.open_bodies += 1
        raw = [chunk async for chunk in _chunks(answer)]
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=_Body(raw, self._closed_one)
        )

    async def aclose(self) -> None:
        """Note that the client closed its transport."""
        self.closed = True

    async def _suffer(self, fault: Fault | None, request: httpx.Request) -> None:
        if fault == "refuse":
            raise httpx.ConnectError("connection refused", request=request)
        if fault == "reset":
            raise httpx.ReadError("connection reset by peer", request=request)
        if fault == "hang":
            await asyncio.Event().wait()

    def _closed_one(self) -> None:
        self.open_bodies -= 1


async def _chunks(answer: httpx.Response) -> AsyncIterator[bytes | Exception]:
    if not isinstance(answer.stream, httpx.AsyncByteStream):
        raise TypeError("a handler's response needs a body that can be read asynchronously")
    try:
        async for chunk in answer.stream:
            yield chunk
    except httpx.TransportError as error:
        yield error  # told to the reader when it gets there


class _Body(httpx.AsyncByteStream):
    def __init__(self, chunks: list[bytes | Exception], closed: Callable[[], None]) -> None:
        self._chunks = chunks
        self._tell_closed: Callable[[], None] | None = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def aclose(self) -> None:
        tell, self._tell_closed = self._tell_closed, None
        if tell is not None:
            tell()
