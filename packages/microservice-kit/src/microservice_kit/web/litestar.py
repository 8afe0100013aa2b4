"""Adds `/health`, `/metrics` and `/microservice` to the routes of a running Litestar application."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from microservice_kit.asgi_types import App, Message, Receive, Send

from .request_layer import OperatorApp

__all__ = ("add_litestar_routes",)


def add_litestar_routes(app: object, operator_apps: Iterable[OperatorApp]) -> bool:
    """Add their paths to an application of Litestar; return whether it is one."""
    # An application of Litestar has imported it; the kit does not depend on it.
    litestar = sys.modules.get("litestar")
    if litestar is None or not isinstance(app, litestar.Litestar):
        return False
    for operator_app in operator_apps:
        for path in operator_app.paths:
            handler = litestar.asgi(path, copy_scope=True)(_wrap_in_function(operator_app))
            app.register(handler)
    return True


def _wrap_in_function(operator_app: OperatorApp) -> App:
    """Wrap it in a function: Litestar reads the signature, and takes no objects."""

    async def serve(scope: Message, receive: Receive, send: Send) -> None:
        await operator_app(scope, receive, send)

    return serve
