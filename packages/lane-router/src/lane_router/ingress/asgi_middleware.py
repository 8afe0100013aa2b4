"""Ingress: an ASGI application runs each request in the lane its headers name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from lane_router.context.lane_context import CURRENT, UNSET
from lane_router.context.process_lane import process_lane
from lane_router.propagation import otel_baggage
from lane_router.propagation.carriers import NO_LANE, Reading

from .lane_ingress import REFUSAL, LaneIngress

__all__ = ("AsgiApp", "LaneMiddleware", "Message", "Receive", "Scope", "Send")

# The types of the ASGI specification, version 3: values of a scope or message can be anything.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUESTS = frozenset({"http", "websocket"})
_BAGGAGE_NAMES = frozenset({b"baggage", b"Baggage", b"BAGGAGE"})

# The cache of readings holds what clients sent, so both its size and its keys are bounded.
_MOST_CACHED = 1024
_LONGEST_CACHED = 512


class LaneMiddleware(LaneIngress[AsgiApp]):
    """Pure ASGI middleware for HTTP and WebSocket; never sends a header's value back.

    A refused request is answered 400, a refused WebSocket is closed with 1008. The arguments are
    those of `LaneIngress`.
    """

    def _prepare(self) -> None:
        # ASGI asks servers for names in lower case; the usual other spellings are accepted as well.
        self._lane_names = _spell(self._carriers.header)
        self._carrier_names = self._lane_names | _BAGGAGE_NAMES
        self._readings: dict[tuple[bytes | None, bytes | None], Reading] = {}
        # Servers look at the attribute of the instance to see a coroutine function, which is how
        # they recognise ASGI 3. A call uses the method of the class, which is a plain function and
        # so costs a request without a lane no coroutine of its own.
        self.__call__ = self._call_asgi  # type: ignore[method-assign]  # see above

    @property
    def cached_readings(self) -> int:
        """How many pairs of header and baggage are cached, at most 1024."""
        return len(self._readings)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request or connection."""
        if scope["type"] in _REQUESTS:
            reading = self._read(scope)
            if reading is not NO_LANE or not _is_in_no_lane():
                return self._run_in_lane(reading, scope, receive, send)
        return self._app(scope, receive, send)

    async def _run_in_lane(
        self, reading: Reading, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if reading.problem is not None and self._drop_policy.refuses(reading):
            await _refuse(scope, send)
            return
        token = CURRENT.set(reading.lane)
        try:
            await self._app(scope, receive, send)
        finally:
            CURRENT.reset(token)

    async def _call_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        await type(self).__call__(self, scope, receive, send)

    def _read(self, scope: Scope) -> Reading:
        """The lane that the request names; most requests name none, which has to be fast."""
        headers = scope.get("headers", ())
        for name, _ in headers:
            if name in self._carrier_names:
                return self._read_headers(headers)
        return self._read_headers(()) if self._is_in_otel_baggage() else NO_LANE

    def _is_in_otel_baggage(self) -> bool:
        key = self._carriers.baggage_key
        return key is not None and otel_baggage.read_value(key) is not None

    def _read_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> Reading:
        lane: bytes | None = None
        baggage: bytes | None = None
        for name, value in headers:
            if name in self._lane_names:
                # Joined as a server or proxy would join them; no lane name contains a comma.
                lane = value if lane is None else lane + b"," + value
            elif name in _BAGGAGE_NAMES:
                baggage = value if baggage is None else baggage + b"," + value
        if baggage is None and self._is_in_otel_baggage():
            # Not cached: the result depends on OpenTelemetry's context as well.
            return self._carriers.read(*map(_decode, (lane, baggage)))
        reading = self._readings.get((lane, baggage))
        if reading is None:
            reading = self._carriers.read(*map(_decode, (lane, baggage)))
            if len(self._readings) >= _MOST_CACHED:
                self._readings.clear()
            if len(lane or b"") + len(baggage or b"") <= _LONGEST_CACHED:
                self._readings[lane, baggage] = reading
        return reading


def _is_in_no_lane() -> bool:
    """Whether neither a scope nor the process sets a lane, so that there is nothing to reset."""
    return CURRENT.get() == UNSET and process_lane() is None


def _spell(header: str) -> frozenset[bytes]:
    spellings = (header, header.title(), header.upper())
    return frozenset(name.encode("ascii") for name in spellings)


def _decode(value: bytes | None) -> list[str]:
    return [] if value is None else [value.decode("latin-1")]


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "invalid lane"})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(REFUSAL))]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSAL})
