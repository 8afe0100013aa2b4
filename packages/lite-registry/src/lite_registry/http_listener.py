"""The listener: accepts connections, owns them, and ends them in an orderly way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ._supervision import TaskSupervisor
from .http_connection import Connection, Limits
from .request import Handler
from .response import format_http_date

__all__ = ("HttpListener",)

_TIME_LIMIT_INTERVAL_SECONDS = 0.5
_DRAIN_POLL_SECONDS = 0.01
_ABORT_SECONDS = 1.0


class HttpListener:
    """Listens on one address and owns every connection accepted there."""

    def __init__(
        self,
        handler: Handler,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.handler = handler
        self.limits = limits or Limits()
        self.clock = clock
        self.closing = False
        self._wall_clock = wall_clock
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._tasks = TaskSupervisor("HTTP listener", clock=clock)
        self._date_second = 0
        self._tails = (b"", b"")

    @property
    def connections(self) -> int:
        """The number of connected clients."""
        return len(self._connections)

    async def listen(self, host: str, port: int) -> int:
        """Bind and serve; returns the port, which the system chooses for 0.

        Raises:
            OSError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), host, port, backlog=1024, reuse_address=True
        )
        self._tasks.start("time limits", self._enforce_time_limits)
        return int(self._server.sockets[0].getsockname()[1])

    async def aclose(self, drain_seconds: float) -> None:
        """Stop accepting, let responses finish for that many seconds, then abort the others."""
        self.closing = True
        if self._server is None:
            return
        self._server.close()
        await self._drain(drain_seconds)
        for connection in tuple(self._connections):
            connection.abort()
        await self._tasks.aclose()
        await self._drain(_ABORT_SECONDS)
        self._server = None

    async def _drain(self, seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while self._connections and asyncio.get_running_loop().time() < deadline:
            for connection in tuple(self._connections):
                connection.close_when_idle()
            await asyncio.sleep(_DRAIN_POLL_SECONDS)

    async def _enforce_time_limits(self) -> None:
        while True:
            await asyncio.sleep(_TIME_LIMIT_INTERVAL_SECONDS)
            now = self.clock()
            for connection in tuple(self._connections):
                connection.enforce_time_limit(now)

    # what connections call

    def admit(self, connection: Connection) -> bool:
        """Add the connection; returns False when there are too many."""
        if len(self._connections) >= self.limits.connections:
            return False
        self._connections.add(connection)
        return True

    def remove(self, connection: Connection) -> None:
        """Remove a connection that was lost."""
        self._connections.discard(connection)

    def get_keep_alive_tail(self) -> bytes:
        """The end of a response's head: the date, formatted once a second, and the blank line."""
        if int(self._wall_clock()) != self._date_second:
            self._format_tails()
        return self._tails[0]

    def get_close_tail(self) -> bytes:
        """The end of the head of a connection's last response."""
        if int(self._wall_clock()) != self._date_second:
            self._format_tails()
        return self._tails[1]

    def _format_tails(self) -> None:
        self._date_second = int(self._wall_clock())
        date = b"date: " + format_http_date(self._date_second).encode("ascii") + b"\r\n"
        self._tails = (date + b"\r\n", date + b"connection: close\r\n\r\n")
