"""The edge: clients do not choose their lane, the rules do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lane_router.context.lane_context import enter, give_back
from lane_router.context.lane_name import HEADER, PROD
from lane_router.ingress.asgi_middleware import AsgiApp, Receive, Scope, Send
from lane_router.propagation.baggage import without_member
from lane_router.propagation.carriers import BAGGAGE_KEY, check_header

from .conditions import GatewayRequest

__all__ = ("ColouringMiddleware", "LaneChooser")


class LaneChooser(Protocol):
    """`ColouringRules`, `RuleFile` and `ConfigRules` are such."""

    def lane_for(self, request: GatewayRequest) -> str | None:
        """The request's lane; None = none."""
        ...


class ColouringMiddleware:
    """ASGI, for the gateway: takes off what the client said about lanes, and puts on the rules' lane.

    The application behind sees the header, so that a proxy hands it on as it is.

    Args:
        trust: whether a request may choose its own lane, e.g. one with an employee's session; such
            a request passes as it came, and `LaneMiddleware` behind reads it.
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
        token = enter(lane)
        try:
            await self._app({**scope, "headers": self._headers(scope, lane)}, receive, send)
        finally:
            give_back(token)

    def _headers(self, scope: Scope, lane: str | None) -> list[tuple[bytes, bytes]]:
        kept: list[tuple[bytes, bytes]] = []
        for name, value in scope.get("headers", ()):
            lowered = name.lower()
            if lowered == b"baggage":
                left = without_member(value.decode("latin-1"), self._baggage_key)
                if left:
                    kept.append((name, left.encode("latin-1")))
            elif lowered != self._header:
                kept.append((name, value))
        if lane is not None and lane != PROD:
            kept.append((self._header, lane.encode("ascii")))
        return kept
