"""LaneRouter and AsyncLaneRouter: services by name and lane, from a table that is kept current."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from .base_router import BaseRouter

if TYPE_CHECKING:
    from types import TracebackType

    from .fetch import FetchResponse

__all__ = ("AsyncLaneRouter", "LaneRouter")

# asyncio and http.client (for `fetch`) are imported where they are used: a program with a sync
# router and an HTTP client of its own needs neither, and both are slow to import.


class LaneRouter(BaseRouter):
    """Where is `orders` for this lane? Answers from memory, in microseconds or less.

        with LaneRouter("http://lite-registry:8080", services={"orders": 8000}) as router:
            router.resolve("orders").url

    One for the whole process. It survives a fork and the restart of an event loop, and is safe to
    use from any thread. The arguments are those of `BaseRouter`.
    """

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop polling, unless others share the poller; the last table stays. Twice is fine."""
        self._close()

    def wait_ready(self, within_seconds: float = 10.0) -> bool:
        """Wait for the first table, from the registry or the snapshot.

        Returns:
            False if there is none after `within_seconds`.
        """
        return self._wait_for_table(within_seconds)

    def fetch(
        self,
        service: str,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        lane: str | None = None,
        timeout_seconds: float = 10.0,
    ) -> FetchResponse:
        """Send one request to the service, in the lane; for scripts without an HTTP client.

        By plain HTTP, to the main port of the service or lane.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict.
            OSError: no connection, a time-out, or a response that is not HTTP.
        """
        from .fetch import fetch

        return fetch(
            self,
            service,
            path,
            method=method,
            headers=headers,
            body=body,
            lane=lane,
            timeout_seconds=timeout_seconds,
        )


class AsyncLaneRouter(BaseRouter):
    """`LaneRouter` for asyncio; the poller has its own thread, so `resolve` is not awaited.

    The arguments are those of `BaseRouter`.
    """

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop polling, unless others share the poller; the last table stays. Twice is fine."""
        import asyncio

        # In a thread: closing joins the poller's thread, which may take a moment.
        await asyncio.to_thread(self._close)

    async def wait_ready(self, within_seconds: float = 10.0) -> bool:
        """Wait for the first table, from the registry or the snapshot.

        Returns:
            False if there is none after `within_seconds`.
        """
        import asyncio

        return await asyncio.to_thread(self._wait_for_table, within_seconds)

    async def fetch(
        self,
        service: str,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        lane: str | None = None,
        timeout_seconds: float = 10.0,
    ) -> FetchResponse:
        """Send one request to the service, in the lane; for scripts without an HTTP client.

        By plain HTTP, to the main port of the service or lane.

        Raises:
            LaneUnavailableError: the lane has no ready instance, and its mode is strict.
            OSError: no connection, a time-out, or a response that is not HTTP.
        """
        import asyncio

        from .fetch import fetch

        return await asyncio.to_thread(
            fetch,
            self,
            service,
            path,
            method=method,
            headers=headers,
            body=body,
            lane=lane,
            timeout_seconds=timeout_seconds,
        )
