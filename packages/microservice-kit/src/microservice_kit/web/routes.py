"""Adds `/health`, `/metrics` and `/microservice` to the routes of a running application."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from microservice_kit.asgi_types import App, Message, Receive, Send

__all__ = ("OperatorApp", "add_routes")


class OperatorApp(Protocol):
    """An ASGI application of the kit that serves a few paths, for operators."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths it serves."""

    def serves(self, path: str) -> bool:
        """Whether this path is one of its own."""

    def __call__(self, scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""


def add_routes(app: object, operator_apps: Iterable[OperatorApp]) -> bool:
    """Add their paths to an application of Starlette, FastAPI or Litestar.

    Returns:
        False when `app` is none of these; nothing was added.
    """
    add_route = _find_add_route(app)
    if add_route is None:
        return False
    for operator_app in operator_apps:
        for path in operator_app.paths:
            add_route(path, operator_app)
    return True


def _find_add_route(app: object) -> Callable[[str, OperatorApp], None] | None:
    add_route = getattr(app, "add_route", None)
    if callable(add_route):
        # As a mount, `/metrics` would be answered with a redirect to `/metrics/`.
        return lambda path, operator_app: add_route(path, operator_app, include_in_schema=False)
    # An application of Litestar has imported it; the kit does not depend on it.
    litestar = sys.modules.get("litestar")
    if litestar is not None and isinstance(app, litestar.Litestar):
        return lambda path, operator_app: app.register(
            litestar.asgi(path, copy_scope=True)(_wrap_in_function(operator_app))
        )
    return None


def _wrap_in_function(operator_app: OperatorApp) -> App:
    """Wrap it in a function: Litestar reads the signature, and takes no objects."""

    async def serve(scope: Message, receive: Receive, send: Send) -> None:
        await operator_app(scope, receive, send)

    return serve
