"""Ingress: a WSGI application runs each request in the lane its headers name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from lane_router.context.generators import confine_lane
from lane_router.context.lane_context import lane_scope
from lane_router.propagation.carriers import Reading

from .lane_ingress import REFUSAL, LaneIngress

__all__ = ("LaneWsgiMiddleware",)

# The types of PEP 3333: values of an environment can be anything.
Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]


class LaneWsgiMiddleware(LaneIngress[WsgiApp]):
    """`app.wsgi_app = LaneWsgiMiddleware(app.wsgi_app)`; the arguments are those of `LaneIngress`.

    A body that is generated while it is sent is generated in the lane as well. A refused request is
    answered 400.
    """

    def _prepare(self) -> None:
        self._lane_variable = "HTTP_" + self._carriers.header.upper().replace("-", "_")

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        reading = self._read(environ)
        if self._drop_policy.refuses(reading):
            start_response(
                "400 Bad Request",
                [("Content-Type", "text/plain"), ("Content-Length", str(len(REFUSAL)))],
            )
            return [REFUSAL]
        with lane_scope(reading.lane):
            body = self._app(environ, start_response)
            if isinstance(body, list | tuple) or _is_server_file(body, environ):
                return body
            return _LaneBody(body)

    def _read(self, environ: Environ) -> Reading:
        # A server joins repeated headers with a comma, which no lane name contains.
        lanes = [environ[self._lane_variable]] if self._lane_variable in environ else []
        baggage = [environ["HTTP_BAGGAGE"]] if "HTTP_BAGGAGE" in environ else []
        return self._carriers.read(lanes, baggage)


class _LaneBody:
    """A streamed body whose parts are each generated in the lane of the request."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body
        self._parts = confine_lane(body)

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        """Close the application's body."""
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


def _is_server_file(body: Iterable[bytes], environ: Environ) -> bool:
    # The server sends a body of its own file wrapper by sendfile, but only if it gets exactly that
    # object back, unwrapped.
    wrapper = cast("type | None", environ.get("wsgi.file_wrapper"))
    return isinstance(wrapper, type) and isinstance(body, wrapper)
