"""Puts `/health`, `/metrics` and `/microservice` among the routes of a running application."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from .responses import Message, Receive, Send

__all__ = ("OwnApp", "add_routes")


class OwnApp(Protocol):
    """An ASGI application that answers a few paths."""

    @property
    def paths(self) -> tuple[str, ...]:
        """What it answers."""

    def __call__(self, scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""


def add_routes(app: object, own_apps: Iterable[OwnApp]) -> bool:
    """Add them to an application of Starlette, FastAPI or Litestar; whether it is one."""
    add = _adder(app)
    if add is None:
        return False
    for own in own_apps:
        for path in own.paths:
            add(path, own)
    return True


def _adder(app: object) -> Callable[[str, OwnApp], None] | None:
    add_route = getattr(app, "add_route", None)
    if callable(add_route):
        # As a mount, `/metrics` would be answered with a redirect to `/metrics/`.
        return lambda path, own: add_route(path, own, include_in_schema=False)
    litestar = sys.modules.get("litestar")
    if litestar is not None and isinstance(app, litestar.Litestar):
        return lambda path, own: app.register(litestar.asgi(path, copy_scope=True)(_function(own)))
    return None


def _function(own: OwnApp) -> Callable[[Message, Receive, Send], Awaitable[None]]:
    """Litestar reads the signature, and takes no objects."""

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        await own(scope, receive, send)

    return answer
