"""The listener: accepts connections, owns them, and ends them in good order."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .http import Connection, Handler, Limits
from .response import http_date

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("HttpListener",)


class HttpListener:
    """Listens on one address and owns every connection that came through it."""

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
        self._sweeper: asyncio.Task[None] | None = None
        self._dated = 0
        self._tails = (b"", b"")

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def listen(self, host: str, port: int) -> int:
        """Bind and serve; the port it got.

        Raises:
            OSError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), host, port, backlog=1024, reuse_address=True
        )
        self._sweeper = loop.create_task(self._sweep())
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self, drain_seconds: float) -> None:
        """Stop accepting, let answers under way finish for that long, then cut what is left."""
        self.closing = True
        if self._server is None:
            return
        self._server.close()
        await self._drain(drain_seconds)
        for connection in tuple(self._connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._drain(1.0)
        self._server = None

    async def _drain(self, seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while self._connections and asyncio.get_running_loop().time() < deadline:
            for connection in tuple(self._connections):
                connection.finish()
            await asyncio.sleep(0.01)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            now = self.clock()
            for connection in tuple(self._connections):
                connection.sweep(now)

    def admit(self, connection: Connection) -> bool:
        """Count the connection in; whether there is room for it."""
        if len(self._connections) >= self.limits.connections:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """The connection is gone."""
        self._connections.discard(connection)

    def keep_alive_tail(self) -> bytes:
        """The end of a head: the date, made once a second, and the blank line."""
        if int(self._wall_clock()) != self._dated:
            self._date()
        return self._tails[0]

    def close_tail(self) -> bytes:
        """The same for an answer after which the connection ends."""
        if int(self._wall_clock()) != self._dated:
            self._date()
        return self._tails[1]

    def _date(self) -> None:
        self._dated = int(self._wall_clock())
        date = b"date: " + http_date(self._dated).encode("ascii") + b"\r\n"
        self._tails = (date + b"\r\n", date + b"connection: close\r\n\r\n")
