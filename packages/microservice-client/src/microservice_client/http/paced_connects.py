"""httpx's connections, not more than some opened at the same time.

A burst of calls would open hundreds at once: more than a server's backlog holds (50 to 128 by many
a default), so that the rest is accepted a second later, when the time for connecting is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import httpx

from .connection_places import ConnectionPlaces

__all__ = ("MAX_CONNECTS", "PacedConnects")

MAX_CONNECTS = 50
"""Most connections to one instance that are opened at the same time."""

Trace = Callable[[str, Mapping[str, object]], Awaitable[None]]


class PacedConnects(httpx.AsyncBaseTransport):
    """Sends with `transport`; the wait for one's turn to connect is no part of the connect time."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._turns = ConnectionPlaces(MAX_CONNECTS)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return the response, its body unread.

        Raises:
            httpx.TransportError: as from the transport.
        """
        connect = _Connect(self._turns, request.extensions.get("trace"))
        request.extensions = {**request.extensions, "trace": connect.trace}
        try:
            return await self._transport.handle_async_request(request)
        finally:
            connect.end()

    async def aclose(self) -> None:
        """Close every connection."""
        self._turns.close()
        await self._transport.aclose()


class _Connect:
    """The turn of one request, from the events that httpx reports of it."""

    __slots__ = ("_follow", "_has_turn", "_turns")

    def __init__(self, turns: ConnectionPlaces, follow: Trace | None) -> None:
        self._turns = turns
        self._has_turn = False
        self._follow = follow

    async def trace(self, event: str, details: Mapping[str, object]) -> None:
        """Wait for a turn before a connection is opened, and end it when a request is sent."""
        if event == "connection.connect_tcp.started":
            self._has_turn = self._has_turn or await self._turns.take()
        elif self._has_turn and event.endswith("send_request_headers.started"):
            self.end()
        if self._follow is not None:
            await self._follow(event, details)

    def end(self) -> None:
        """End the turn, if there was one."""
        if self._has_turn:
            self._has_turn = False
            self._turns.give_back()
