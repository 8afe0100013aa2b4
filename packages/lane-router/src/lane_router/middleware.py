"""Ingress: an ASGI application runs each request in the lane its headers name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, cast

from .carriers import BAGGAGE_KEY, Carriers, Preference, Reading
from .context import enter, give_back
from .lane_classes import ANY_LANE, LaneClasses, Mode, check_mode
from .lane_name import HEADER
from .observer import LaneObserver

__all__ = ("LaneMiddleware",)

# The types of the ASGI specification, version 3: values of a scope or message can be anything.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

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
        self._name = header.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        lane, problem = self._read(scope)
        if problem is not None:
            if self._observer is not None:
                self._observer.dropped(problem)
            if self._strict:
                await _refuse(scope, send)
                return
        token = enter(lane)
        try:
            await self._app(scope, receive, send)
        finally:
            give_back(token)

    def _read(self, scope: Scope) -> Reading:
        lanes: list[str] = []
        baggage: list[str] = []
        for name, value in cast("Iterable[tuple[bytes, bytes]]", scope.get("headers", ())):
            lowered = name.lower()
            if lowered == self._name:
                lanes.append(value.decode("latin-1"))
            elif lowered == b"baggage":
                baggage.append(value.decode("latin-1"))
        return self._carriers.read(lanes, baggage)


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "invalid lane"})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(REFUSAL))]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSAL})
