"""One server span per request, as a child of the caller's; costs next to nothing without an SDK.

Attributes follow the HTTP semantic conventions
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping

from opentelemetry import propagate, trace

__all__ = ("TracingMiddleware",)

Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class TracingMiddleware:
    """Pure ASGI: `app.add_middleware(TracingMiddleware)`, or `TracingMiddleware(app)`.

    Args:
        tracer_provider: where spans go; the global one by default.
    """

    def __init__(self, app: App, *, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._app = app
        self._tracer = trace.get_tracer("microservice_kit", tracer_provider=tracer_provider)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve the request inside a span."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = propagate.extract(_headers_of(scope))
        method = str(scope["method"])
        with self._tracer.start_as_current_span(
            method, context=caller, kind=trace.SpanKind.SERVER
        ) as span:
            span.set_attribute("http.request.method", method)
            span.set_attribute("url.path", str(scope["path"]))

            async def observed(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _answered(span, scope, int(str(message["status"])))
                await send(message)

            await self._app(scope, receive, observed)


def _headers_of(scope: Message) -> dict[str, str]:
    headers = scope["headers"]
    assert isinstance(headers, list | tuple)  # noqa: S101 - ASGI says so
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def _answered(span: trace.Span, scope: Message, status: int) -> None:
    route = getattr(scope.get("route"), "path", None)
    if route:
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(trace.StatusCode.ERROR)
