"""Ingress: an ASGI application runs each request in the lane its header names."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Literal, cast

from microservice_core import InvalidValueError

from .context import HEADER, is_lane, lane_scope

__all__ = ("LaneMiddleware", "Mode", "check_header", "check_mode")

Mode = Literal["permissive", "strict"]

# The types of the ASGI specification, version 3: values of a scope or message can be anything.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^`|~-]+")
_REFUSAL = b"the lane header must hold exactly one lane name; send a valid one or none\n"


class LaneMiddleware:
    """Pure ASGI, for HTTP and WebSocket; nothing of the header is ever sent back.

    A header that is garbage or there twice counts as none in mode `permissive`. In mode `strict`
    it is answered 400, a WebSocket is closed with 1008.

    Raises:
        InvalidValueError: no such header name or mode.
    """

    def __init__(self, app: AsgiApp, *, header: str = HEADER, mode: Mode = "permissive") -> None:
        self._app = app
        self._header = check_header(header).encode("ascii")
        self._strict = check_mode(mode) == "strict"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        values = [value for name, value in _headers(scope) if name.lower() == self._header]
        lane = _lane(values)
        if values and lane is None and self._strict:
            await _refuse(scope, send)
            return
        with lane_scope(lane):
            await self._app(scope, receive, send)


def check_header(header: str) -> str:
    """A header name in lower case, or an error that names it."""
    if not _TOKEN.fullmatch(header):
        raise InvalidValueError("header", header, "a header name in lower case, without _")
    return header


def check_mode(mode: str) -> Mode:
    """A mode, or an error that names it."""
    if mode not in {"permissive", "strict"}:
        raise InvalidValueError("mode", mode, "'permissive' or 'strict'")
    return cast(Mode, mode)


def _headers(scope: Scope) -> Iterable[tuple[bytes, bytes]]:
    return cast("Iterable[tuple[bytes, bytes]]", scope.get("headers", ()))


def _lane(values: list[bytes]) -> str | None:
    if len(values) != 1:
        return None
    lane = values[0].decode("latin-1")
    return lane if is_lane(lane) else None


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "invalid lane"})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(_REFUSAL))]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL})
