"""A response's body that gives its lease back when the last byte was read, or the reader left."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from microservice_core import ServiceInstance
from microservice_lb import Lease

__all__ = ("LeasedStream",)


class LeasedStream(httpx.AsyncByteStream):
    """The instance counts as busy until the body was closed."""

    def __init__(self, stream: httpx.AsyncByteStream, lease: Lease[ServiceInstance]) -> None:
        self._stream = stream
        self._lease = lease

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except Exception as error:
            self._lease.release(error)
            raise

    async def aclose(self) -> None:
        """Close the body and give the lease back."""
        try:
            await self._stream.aclose()
        finally:
            self._lease.release()
