"""One server span and one duration per request, as the HTTP semantic conventions name them.

Spans: https://opentelemetry.io/docs/specs/semconv/http/http-spans/, metrics:
https://opentelemetry.io/docs/specs/semconv/http/http-metrics/. A request costs next to nothing
while no SDK is there; a caller's trace context is handed on all the same.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import cast

from opentelemetry import metrics, propagate, trace

__all__ = ("TracingMiddleware",)

Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Attributes = dict[str, str | int]

METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)
LOOK_SECONDS = 1.0
# The boundaries that the conventions advise, in seconds.
BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class TracingMiddleware:
    """Pure ASGI: `app.add_middleware(TracingMiddleware)`, or `TracingMiddleware(app)`.

    Args:
        tracer_provider: where spans go; the global one by default.
        meter_provider: where `http.server.request.duration` and `http.server.active_requests` go;
            the global one by default.
    """

    def __init__(
        self,
        app: App,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        # Servers look at this attribute to learn that it is ASGI 3, a coroutine function; calls go
        # by the class's method, which is none: what nobody listens to takes no turn through it.
        self.__call__ = self._asgi  # type: ignore[method-assign]
        self._clock = clock
        self._look_at = float("-inf")
        self._listened = False
        self._given = tracer_provider is not None or meter_provider is not None
        self._tracer = trace.get_tracer("microservice_kit", tracer_provider=tracer_provider)
        meter = metrics.get_meter("microservice_kit", meter_provider=meter_provider)
        self._duration = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=BOUNDARIES,
        )
        self._active = meter.create_up_down_counter(
            "http.server.active_requests", description="Number of active HTTP server requests."
        )

    def __call__(self, scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve the request inside a span."""
        if scope["type"] != "http" or self._nobody_listens(scope) or self._is_measured(scope):
            return self._app(scope, receive, send)
        return self._observed(_Request(scope, self._clock()), receive, send)

    async def _asgi(self, scope: Message, receive: Receive, send: Send) -> None:
        await type(self).__call__(self, scope, receive, send)

    async def _observed(self, request: _Request, receive: Receive, send: Send) -> None:
        self._active.add(1, request.known)
        try:
            await self._in_span(request, receive, send)
        finally:
            self._active.add(-1, request.known)
            self._duration.record(self._clock() - request.began, request.measured)

    async def _in_span(self, request: _Request, receive: Receive, send: Send) -> None:
        caller = propagate.extract(_headers_of(request.scope))
        with self._tracer.start_as_current_span(
            request.method, context=caller, kind=trace.SpanKind.SERVER
        ) as span:
            span.set_attribute("http.request.method", request.method)
            span.set_attribute("url.scheme", request.scheme)
            span.set_attribute("url.path", str(request.scope["path"]))

            async def observed(message: Message) -> None:
                if message["type"] == "http.response.start":
                    request.status = int(str(message["status"]))
                    _answered(span, request)
                await send(message)

            await self._app(request.scope, receive, observed)

    def _is_measured(self, scope: Message) -> bool:
        """Whether the framework itself does it, as newer versions of FastAPI do."""
        return not self._given and scope.get("fastapi.telemetry") is not None

    def _nobody_listens(self, scope: Message) -> bool:
        now = self._clock()
        if now >= self._look_at:
            # An SDK may come after the middleware; asking for it costs more than the rest.
            self._look_at = now + LOOK_SECONDS
            provider = trace.get_tracer_provider()
            self._listened = self._given or not isinstance(provider, trace.ProxyTracerProvider)
        if self._listened:
            return False
        headers: Iterable[tuple[bytes, bytes]] = scope["headers"]  # type: ignore[assignment]
        for name, _ in headers:  # noqa: SIM110 - a generator costs a quarter of it all
            if name == b"traceparent":
                return False
        return True


class _Request:
    """What is known of one request, and after a while of its answer."""

    __slots__ = ("began", "method", "scheme", "scope", "status")

    def __init__(self, scope: Message, began: float) -> None:
        method = str(scope["method"])
        self.scope = scope
        self.began = began
        self.method = method if method in METHODS else "_OTHER"
        self.scheme = str(scope.get("scheme", "http"))
        self.status = 500  # what the server answers when the application raises

    @property
    def route(self) -> str:
        """The pattern that matched, never the path: it would be a label without bounds."""
        return str(getattr(self.scope.get("route"), "path", ""))

    @property
    def known(self) -> Attributes:
        """Before the answer."""
        return {"http.request.method": self.method, "url.scheme": self.scheme}

    @property
    def measured(self) -> Attributes:
        """After it."""
        measured = {**self.known, "http.response.status_code": self.status}
        if self.route:
            measured["http.route"] = self.route
        if self.status >= 500:
            measured["error.type"] = str(self.status)
        return measured


def _headers_of(scope: Message) -> dict[str, str]:
    headers = cast("Iterable[tuple[bytes, bytes]]", scope["headers"])
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def _answered(span: trace.Span, request: _Request) -> None:
    if request.route:
        span.update_name(f"{request.method} {request.route}")
        span.set_attribute("http.route", request.route)
    span.set_attribute("http.response.status_code", request.status)
    if request.status >= 500:
        span.set_status(trace.StatusCode.ERROR)
