"""Ingress: an ASGI application runs each request in the lane its headers name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from lane_router.context.lane_classes import ANY_LANE, LaneClasses, Mode, check_mode
from lane_router.context.lane_context import CURRENT, UNSAID
from lane_router.context.lane_name import HEADER
from lane_router.context.process_lane import process_lane
from lane_router.observer import LaneObserver
from lane_router.propagation import otel_baggage
from lane_router.propagation.carriers import BAGGAGE_KEY, NOTHING, Carriers, Preference, Reading

__all__ = ("LaneMiddleware",)

# The types of the ASGI specification, version 3: values of a scope or message can be anything.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUESTS = frozenset({"http", "websocket"})
_BAGGAGE = frozenset({b"baggage", b"Baggage", b"BAGGAGE"})

# Of what clients send, so both are bounded.
_MOST_KEPT = 1024
_LONGEST_KEPT = 512

REFUSAL = b"the lane header must hold exactly one lane name; send a valid one or none\n"


class LaneMiddleware:
    """Pure ASGI, for HTTP and WebSocket; nothing of the header is ever sent back.

    The lane is read from its header and from W3C baggage. What is garbage, there twice, of no
    class, or different in the two counts as none in mode `permissive`. In mode `strict` it is
    answered 400, a WebSocket is closed with 1008.

    Args:
        header: the lane's own header.
        baggage_key: the member of `baggage`; None = baggage is not read.
        prefer: whom to believe when the two disagree, in either mode; None = neither.
        classes: which lanes there may be.
        observer: is told what was dropped.

    Raises:
        InvalidValueError: no such header name, key, preference or mode.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        header: str = HEADER,
        mode: Mode = "permissive",
        baggage_key: str | None = BAGGAGE_KEY,
        prefer: Preference | None = None,
        classes: LaneClasses = ANY_LANE,
        observer: LaneObserver | None = None,
    ) -> None:
        self._app = app
        self._carriers = Carriers(
            header=header, baggage_key=baggage_key, prefer=prefer, classes=classes
        )
        self._strict = check_mode(mode) == "strict"
        self._observer = observer
        # Servers hand names over in lower case, as ASGI asks; one that does not is understood too.
        self._is_lane = _spellings(header)
        self._ours = self._is_lane | _BAGGAGE
        self._readings: dict[tuple[bytes | None, bytes | None], Reading] = {}
        # Servers look at this attribute to learn that it is ASGI 3, a coroutine function; calls go
        # by the class's method, which is none: a request without a lane takes no turn through it.
        self.__call__ = self._asgi  # type: ignore[method-assign]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request or connection."""
        if scope["type"] in _REQUESTS:
            found = self._read(scope)
            if found is not NOTHING or not _in_no_lane():
                return self._in_lane(found, scope, receive, send)
        return self._app(scope, receive, send)

    async def _in_lane(self, found: Reading, scope: Scope, receive: Receive, send: Send) -> None:
        lane, problem = found
        if problem is not None:
            if self._observer is not None:
                self._observer.dropped(problem)
            if self._strict:
                await _refuse(scope, send)
                return
        token = CURRENT.set(lane)
        try:
            await self._app(scope, receive, send)
        finally:
            CURRENT.reset(token)

    async def _asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        await type(self).__call__(self, scope, receive, send)

    def _read(self, scope: Scope) -> Reading:
        """What the headers say; of most requests they say nothing, which is to cost nothing."""
        headers = scope.get("headers", ())
        for name, _ in headers:
            if name in self._ours:
                return self._said(headers)
        return self._said(()) if self._is_said_around() else NOTHING

    def _is_said_around(self) -> bool:
        key = self._carriers.baggage_key
        return key is not None and otel_baggage.read(key) is not None

    def _said(self, headers: Iterable[tuple[bytes, bytes]]) -> Reading:
        """The same few answers are given again and again, so some are kept."""
        lane: bytes | None = None
        baggage: bytes | None = None
        for name, value in headers:
            if name in self._is_lane:
                lane = value if lane is None else lane + b"," + value
            elif name in _BAGGAGE:
                baggage = value if baggage is None else baggage + b"," + value
        if baggage is None and self._is_said_around():
            return self._carriers.read(*map(_texts, (lane, baggage)))
        found = self._readings.get((lane, baggage))
        if found is None:
            found = self._carriers.read(*map(_texts, (lane, baggage)))
            if len(self._readings) >= _MOST_KEPT:
                self._readings.clear()
            if len(lane or b"") + len(baggage or b"") <= _LONGEST_KEPT:
                self._readings[lane, baggage] = found
        return found


def _in_no_lane() -> bool:
    """Nobody said anything, here or for the whole process: the same as "in no lane"."""
    return CURRENT.get() == UNSAID and process_lane() is None


def _spellings(header: str) -> frozenset[bytes]:
    spelt = (header, header.title(), header.upper())
    return frozenset(name.encode("ascii") for name in spelt)


def _texts(value: bytes | None) -> list[str]:
    return [] if value is None else [value.decode("latin-1")]


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "invalid lane"})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(REFUSAL))]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSAL})
