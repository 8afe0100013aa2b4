"""The middleware of the edge: rules choose the lane of a request, its client does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lane_router.context.lane_context import reset_lane, set_lane
from lane_router.context.lane_name import HEADER, PROD
from lane_router.ingress.asgi_middleware import AsgiApp, Receive, Scope, Send
from lane_router.propagation.baggage import without_member
from lane_router.propagation.carriers import BAGGAGE_KEY, check_header

from .conditions import GatewayRequest

__all__ = ("ColouringMiddleware", "LaneChooser")


class LaneChooser(Protocol):
    """Chooses the lane of a request: `ColouringRules`, `RuleFile` and `ConfigRules` do."""

    def lane_for(self, request: GatewayRequest) -> str | None:
        """The lane the request gets; None = no lane."""
        ...


class ColouringMiddleware:
    """ASGI middleware for the gateway: replaces the lane a client sent by the one the rules choose.

    The application receives the lane in the headers, so that a proxy forwards it. What a client
    sent in the lane's header is removed, and so are fields with `_` for `-` in their name, which
    WSGI servers take for it.

    Args:
        rules: choose the lane.
        header: the lane's own header.
        baggage_key: the member of `baggage` that is removed.
        trust: whether a request may choose its own lane, e.g. one with an employee's session; such
            a request is passed on unchanged, for a `LaneMiddleware` behind to read.

    Raises:
        InvalidValueError: an invalid header name.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        rules: LaneChooser,
        header: str = HEADER,
        baggage_key: str = BAGGAGE_KEY,
        trust: Callable[[GatewayRequest], bool] = lambda _: False,
    ) -> None:
        self._app = app
        self._rules = rules
        self._header = check_header(header).encode("ascii")
        self._baggage_key = baggage_key
        self._trust = trust

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        request = GatewayRequest.from_scope(scope)
        if self._trust(request):
            await self._app(scope, receive, send)
            return
        lane = self._rules.lane_for(request)
        token = set_lane(lane)
        try:
            await self._app({**scope, "headers": self._replace_lane(scope, lane)}, receive, send)
        finally:
            reset_lane(token)

    def _replace_lane(self, scope: Scope, lane: str | None) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = []
        for name, value in scope.get("headers", ()):
            lower_name = name.lower()
            if lower_name == b"baggage":
                others = without_member(value.decode("latin-1"), self._baggage_key)
                if others:
                    headers.append((name, others.encode("latin-1")))
            # CGI and WSGI write both signs as `_`: behind this, `x_lane` would be taken for `x-lane`.
            elif lower_name.replace(b"_", b"-") != self._header:
                headers.append((name, value))
        if lane is not None and lane != PROD:
            headers.append((self._header, lane.encode("ascii")))
        return headers
