"""Shared openings: a circuit that opens in enough processes opens in all of them, through Redis.

Each process decides by the calls it makes itself, and no call waits for Redis. Only openings are
shared: when `quorum` processes have opened a circuit within `window_seconds`, it opens once in all.
When to close, each process finds out by its own trial calls. Without Redis, each decides alone.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, cast

from microservice_core import TaskSupervisor
from microservice_governance import _steps
from microservice_governance._redis import AsyncClient, Client

from .shared_openings import Breakers, SharedOpenings

__all__ = ("AsyncRedisBreakerSharing", "RedisBreakerSharing")


class AsyncRedisBreakerSharing(SharedOpenings[AsyncClient]):
    """Shares openings from a background task: `async with AsyncRedisBreakerSharing(...):`.

    Args:
        client: of `redis.asyncio`; it stays open.
        breakers: the breakers whose openings are shared. A breaker must have the same name in all
            processes.
        group: name of the group of processes that share; part of the keys.
        quorum: number of processes that must have opened a circuit.
        window_seconds: the time within which they must have opened it.
        every_seconds: interval at which the shared state is read.

    Raises:
        InvalidValueError: a setting is out of its range.
    """

    def __init__(
        self,
        client: AsyncClient,
        breakers: Breakers,
        *,
        group: str,
        quorum: int = 2,
        window_seconds: float = 10.0,
        every_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            client,
            breakers,
            group=group,
            quorum=quorum,
            window_seconds=window_seconds,
            every_seconds=every_seconds,
            clock=clock,
        )
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self._tasks = TaskSupervisor(f"breakers of {group!r}")

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self.attach()
        self._tasks.start("share openings", self._share)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop sharing; the client stays open."""
        self.detach()
        # The client may turn a cancellation into an error of its connection, which the exchange
        # handles as one. So the task also ends by this flag.
        self._closing = True
        self._woken.set()
        await self._tasks.aclose()

    async def exchange(self) -> None:
        """Report and read once, now. A failure of Redis is logged, not raised."""
        await _steps.run_async(
            self._exchange(), lambda command: self._client.execute_command(*command)
        )

    def _wake(self) -> None:
        if self._loop is not None and self._reachable:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._woken.set)

    async def _share(self) -> None:
        while not self._closing:
            self._woken.clear()
            await self.exchange()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_seconds):
                    await self._woken.wait()


class RedisBreakerSharing(SharedOpenings[Client]):
    """As `AsyncRedisBreakerSharing`, from a background thread: `with RedisBreakerSharing(...):`.

    Give the client a `socket_timeout`; without one, closing waits until Redis responds.

    Args:
        client: of redis-py; it stays open.
    """

    def __init__(
        self,
        client: Client,
        breakers: Breakers,
        *,
        group: str,
        quorum: int = 2,
        window_seconds: float = 10.0,
        every_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            client,
            breakers,
            group=group,
            quorum=quorum,
            window_seconds=window_seconds,
            every_seconds=every_seconds,
            clock=clock,
        )
        self._woken = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.attach()
        self._thread = threading.Thread(
            target=self._share, name=f"breakers of {self._group}", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop sharing; the client stays open."""
        self.detach()
        self._closing = True
        self._woken.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def exchange(self) -> None:
        """Report and read once, now. A failure of Redis is logged, not raised."""
        send = cast("Callable[..., object]", self._client.execute_command)
        _steps.run(self._exchange(), lambda command: send(*command))

    def _wake(self) -> None:
        if self._reachable:
            self._woken.set()

    def _share(self) -> None:
        # `exchange` handles every exception, so nothing ends this thread but `close`.
        while not self._closing:
            self._woken.clear()
            self.exchange()
            self._woken.wait(self._every_seconds)
