"""What a request passes on its way to an application's routes: its module, our paths, our errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, cast

from pydantic import BaseModel

from microservice_core import MicroserviceError
from microservice_kit.asgi_types import App, Message, Receive, Send
from microservice_kit.context.current import module_variable
from microservice_kit.open_module import OpenModule

from .error_responses import ErrorResponses
from .responses import strip_root_path

__all__ = ("OperatorApp", "RequestLayer", "find_router", "install_layer")

_MAX_MIDDLEWARE = 50


class OperatorApp(Protocol):
    """An ASGI application of the kit that serves a few paths, for operators."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths it serves."""

    def __call__(self, scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""


class Router(Protocol):
    """The router of a Starlette or FastAPI application."""

    middleware_stack: App
    routes: Iterable[object]


class OwnRoute:
    """Names the path of an operator application for those that label requests by route."""

    def __init__(self, path: str) -> None:
        self.path = path


class RequestLayer:
    """Serves each request with the module current, and `/health` and the like before any route.

    Args:
        inner: the application; None passes nothing on.
        error_responses: responds to errors of the toolkit; None lets them out.
        taken_paths: the paths that the application has routes for; it keeps them.
    """

    def __init__(
        self,
        inner: App,
        module: OpenModule[BaseModel],
        operator_apps: Iterable[OperatorApp] = (),
        *,
        error_responses: ErrorResponses | None = None,
        taken_paths: Iterable[str] = (),
    ) -> None:
        self._inner = inner
        self._module = module
        self._error_responses = error_responses
        paths_of_routes = frozenset(taken_paths)
        self._operator_apps: Mapping[str, OperatorApp] = {
            variant: app
            for app in operator_apps
            for path in app.paths
            for variant in (path, f"{path}/")
            if path not in paths_of_routes
        }

    # Not async: a request passes one coroutine of this layer, not two.
    def __call__(self, scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request or websocket; a lifespan is passed on as it is."""
        kind = scope["type"]
        if kind == "http":
            path: str = scope["path"]  # type: ignore[assignment]
            if scope.get("root_path"):
                path = strip_root_path(scope)
            operator_app = self._operator_apps.get(path)
            if operator_app is not None:
                scope["route"] = OwnRoute(path)
                return operator_app(scope, receive, send)
        elif kind != "websocket":
            return self._inner(scope, receive, send)
        return self._serve(scope, receive, send)

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        state = cast("dict[str, object]", scope.setdefault("state", {}))
        state["module"] = self._module
        started = False

        # Not async: a coroutine for each message would cost more than the rest of this.
        def send_and_note(message: Message) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)

        token = module_variable.set(self._module)
        try:
            await self._inner(scope, receive, send_and_note)
        except MicroserviceError as error:
            # A websocket has no response; one that has started cannot be replaced.
            if started or self._error_responses is None or scope["type"] != "http":
                raise
            if not await self._error_responses.respond(error, send):
                raise
        finally:
            module_variable.reset(token)


def find_router(app: object) -> Router | None:
    """Return the router of a Starlette or FastAPI application, which may be inside middleware."""
    inner = app
    for _ in range(_MAX_MIDDLEWARE):
        router = getattr(inner, "router", None)
        if callable(getattr(router, "middleware_stack", None)) and hasattr(router, "routes"):
            return cast(Router, router)
        inner = getattr(inner, "app", None)
        if inner is None:
            break
    return None


@contextmanager
def install_layer(
    router: Router | None, create_layer: Callable[[App, Iterable[str]], App]
) -> Iterator[None]:
    """Put a layer around a router's routes, inside the application's middleware, for a block.

    Args:
        router: None installs nothing.
        create_layer: receives what it is put around, and the paths that have routes.
    """
    if router is None:
        yield
        return
    inner = router.middleware_stack
    layer = create_layer(inner, tuple(_iter_paths(router.routes)))
    router.middleware_stack = layer
    try:
        yield
    finally:
        if router.middleware_stack is layer:
            router.middleware_stack = inner


def _iter_paths(routes: Iterable[object]) -> Iterator[str]:
    for route in routes:
        # Routers that FastAPI includes lazily are one route each.
        find_candidates = getattr(route, "effective_candidates", None)
        if callable(find_candidates):
            yield from _iter_paths(cast("Iterable[object]", find_candidates()))
        path = getattr(route, "path", None)
        if isinstance(path, str):
            yield path
