"""The listener: accepts connections, owns them, and ends them in an orderly way."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Callable

from ._supervision import TaskSupervisor
from .http_connection import Connection, Place
from .http_reader import Limits
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
        self._reserved: dict[Connection, None] = {}
        self._count_by_client: Counter[str] = Counter()
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

    def admit(self, connection: Connection) -> Place:
        """Add the connection, to the reserved places when its client or all have too many."""
        client = _get_network(connection.client)
        is_full = len(self._connections) - len(self._reserved) >= self.limits.connections
        if not is_full and self._count_by_client[client] < self.limits.largest_share:
            self._count_by_client[client] += 1
            self._connections.add(connection)
            return Place.OPEN
        if not self.limits.reserved_connections:
            return Place.NONE
        if len(self._reserved) >= self.limits.reserved_connections:
            # The oldest was silent for longest: a probe sends its request at once, and leaves.
            oldest = next(iter(self._reserved))
            self.remove(oldest)
            oldest.abort()
        self._reserved[connection] = None
        self._connections.add(connection)
        return Place.RESERVED

    def remove(self, connection: Connection) -> None:
        """Remove a connection that was lost."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        if connection in self._reserved:
            del self._reserved[connection]
            return
        client = _get_network(connection.client)
        self._count_by_client[client] -= 1
        if not self._count_by_client[client]:
            del self._count_by_client[client]

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


def _get_network(client: str) -> str:
    """The client's address, or the /64 network of an IPv6 address: one host has that many."""
    if ":" not in client:
        return client
    address = ipaddress.IPv6Address(client)
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
