"""Ingress: a WSGI application runs each request in the lane its headers name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from lane_router.context.generators import confined
from lane_router.context.lane_classes import ANY_LANE, LaneClasses, Mode, check_mode
from lane_router.context.lane_context import lane_scope
from lane_router.context.lane_name import HEADER
from lane_router.observer import LaneObserver
from lane_router.propagation.carriers import BAGGAGE_KEY, Carriers, Preference, Reading

from .asgi_middleware import REFUSAL

__all__ = ("LaneWsgiMiddleware",)

# The types of PEP 3333: values of an environment can be anything.
Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]


class LaneWsgiMiddleware:
    """`app.wsgi_app = LaneWsgiMiddleware(app.wsgi_app)`; the rules of `LaneMiddleware`.

    A body that is made while it is sent is made in the lane as well.

    Raises:
        InvalidValueError: no such header name, key, preference or mode.
    """

    def __init__(
        self,
        app: WsgiApp,
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
        self._name = "HTTP_" + header.upper().replace("-", "_")

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        lane, problem = self._read(environ)
        if problem is not None:
            if self._observer is not None:
                self._observer.dropped(problem)
            if self._strict:
                start_response(
                    "400 Bad Request",
                    [("Content-Type", "text/plain"), ("Content-Length", str(len(REFUSAL)))],
                )
                return [REFUSAL]
        with lane_scope(lane):
            body = self._app(environ, start_response)
            if isinstance(body, list | tuple) or _is_file(body, environ):
                return body
            return _Body(body)

    def _read(self, environ: Environ) -> Reading:
        # A server joins what is there twice with a comma, which no lane name has.
        lanes = [environ[self._name]] if self._name in environ else []
        baggage = [environ["HTTP_BAGGAGE"]] if "HTTP_BAGGAGE" in environ else []
        return self._carriers.read(lanes, baggage)


class _Body:
    """The body's parts, each made in the lane of the request."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body
        self._parts = confined(body)

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        """Close the application's own."""
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


def _is_file(body: Iterable[bytes], environ: Environ) -> bool:
    # A server sends such a one without Python, but only when it gets its own wrapper back.
    wrapper = cast("type | None", environ.get("wsgi.file_wrapper"))
    return isinstance(wrapper, type) and isinstance(body, wrapper)
