"""One server span and one duration per request, as the HTTP semantic conventions name them.

Spans: https://opentelemetry.io/docs/specs/semconv/http/http-spans/, metrics:
https://opentelemetry.io/docs/specs/semconv/http/http-metrics/. A request costs next to nothing
while no SDK is installed; a caller's trace context is propagated all the same.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import cast

from opentelemetry import metrics, propagate, trace

from microservice_kit.asgi_types import App, Message, Receive, Send

__all__ = ("SECONDS_BOUNDARIES", "TracingMiddleware")

Attributes = dict[str, str | int]

_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)
_INSTRUMENTATION = "opentelemetry.instrumentation.asgi"
_MAX_MIDDLEWARE = 50
_SDK_CHECK_SECONDS = 1.0
# The boundaries that the conventions recommend, in seconds.
SECONDS_BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class TracingMiddleware:
    """Pure ASGI: `app.add_middleware(TracingMiddleware)`, or `TracingMiddleware(app)`.

    A request that something else measures already is left to that: FastAPI itself, or
    opentelemetry-instrumentation-asgi, which those of FastAPI and Starlette are made of. With
    providers of its own it measures every request.

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
        self.app = app
        # Servers inspect this attribute to learn that the application is ASGI 3: a coroutine
        # function. A call of the object uses the class's method instead, which is no coroutine
        # function: a request that is not observed costs no coroutine of its own.
        self.__call__ = self._asgi  # type: ignore[method-assign]
        self._clock = clock
        self._next_check_at = float("-inf")
        self._has_sdk = False
        self._checked_stack: object = None
        self._is_instrumented = False
        self._has_own_providers = tracer_provider is not None or meter_provider is not None
        self._tracer = trace.get_tracer("microservice_kit", tracer_provider=tracer_provider)
        meter = metrics.get_meter("microservice_kit", meter_provider=meter_provider)
        self._duration = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=SECONDS_BOUNDARIES,
        )
        self._active = meter.create_up_down_counter(
            "http.server.active_requests", description="Number of active HTTP server requests."
        )

    def __call__(self, scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve the request inside a span."""
        if scope["type"] != "http" or self._is_unobserved(scope) or self._is_measured(scope):
            return self.app(scope, receive, send)
        return self._observe(_Request(scope, self._clock()), receive, send)

    async def _asgi(self, scope: Message, receive: Receive, send: Send) -> None:
        await type(self).__call__(self, scope, receive, send)

    async def _observe(self, request: _Request, receive: Receive, send: Send) -> None:
        self._active.add(1, request.request_attributes)
        try:
            await self._run_in_span(request, receive, send)
        finally:
            self._active.add(-1, request.request_attributes)
            self._duration.record(self._clock() - request.started_at, request.response_attributes)

    async def _run_in_span(self, request: _Request, receive: Receive, send: Send) -> None:
        caller = propagate.extract(_decode_headers(request.scope))
        with self._tracer.start_as_current_span(
            request.method, context=caller, kind=trace.SpanKind.SERVER
        ) as span:
            span.set_attribute("http.request.method", request.method)
            span.set_attribute("url.scheme", request.scheme)
            span.set_attribute("url.path", str(request.scope["path"]))

            async def send_and_record(message: Message) -> None:
                if message["type"] == "http.response.start":
                    request.status = int(str(message["status"]))
                    _record_response(span, request)
                await send(message)

            await self.app(request.scope, receive, send_and_record)

    def _is_measured(self, scope: Message) -> bool:
        """Whether the framework measures it, as newer versions of FastAPI do, or an instrumentation."""
        if self._has_own_providers:
            return False
        if scope.get("fastapi.telemetry") is not None or _is_in_server_span():
            return True
        stack = getattr(scope.get("app"), "middleware_stack", None)
        if stack is not self._checked_stack:
            self._checked_stack, self._is_instrumented = stack, _has_instrumentation(stack)
        return self._is_instrumented

    def _is_unobserved(self, scope: Message) -> bool:
        now = self._clock()
        if now >= self._next_check_at:
            # An SDK may be installed after this middleware. Checked rarely: the check costs more
            # than the rest of a request that is not observed.
            self._next_check_at = now + _SDK_CHECK_SECONDS
            provider = trace.get_tracer_provider()
            self._has_sdk = self._has_own_providers or not isinstance(
                provider, trace.ProxyTracerProvider
            )
        if self._has_sdk:
            return False
        headers: Iterable[tuple[bytes, bytes]] = scope["headers"]  # type: ignore[assignment]
        for name, _ in headers:  # noqa: SIM110 - a generator costs a quarter of the whole
            if name == b"traceparent":
                return False
        return True


def _is_in_server_span() -> bool:
    return getattr(trace.get_current_span(), "kind", None) is trace.SpanKind.SERVER


def _has_instrumentation(stack: object) -> bool:
    """Whether opentelemetry-instrumentation-asgi is in a stack of middleware, wherever it is."""
    for _ in range(_MAX_MIDDLEWARE):
        if stack is None:
            break
        kind = type(stack)
        if kind.__module__ == _INSTRUMENTATION and kind.__name__ == "OpenTelemetryMiddleware":
            return True
        stack = getattr(stack, "app", None)
    return False


class _Request:
    """One request, and its response once that has started."""

    __slots__ = ("method", "scheme", "scope", "started_at", "status")

    def __init__(self, scope: Message, started_at: float) -> None:
        method = str(scope["method"])
        self.scope = scope
        self.started_at = started_at
        self.method = method if method in _METHODS else "_OTHER"
        self.scheme = str(scope.get("scheme", "http"))
        self.status = 500  # what the server responds when the application raises

    @property
    def route(self) -> str:
        """The pattern that matched; never the path, which would be an unbounded label."""
        return str(getattr(self.scope.get("route"), "path", ""))

    @property
    def request_attributes(self) -> Attributes:
        """The labels that are known before the response."""
        return {"http.request.method": self.method, "url.scheme": self.scheme}

    @property
    def response_attributes(self) -> Attributes:
        """The labels of a finished request."""
        attributes = {**self.request_attributes, "http.response.status_code": self.status}
        if self.route:
            attributes["http.route"] = self.route
        if self.status >= 500:
            attributes["error.type"] = str(self.status)
        return attributes


def _decode_headers(scope: Message) -> dict[str, str]:
    headers = cast("Iterable[tuple[bytes, bytes]]", scope["headers"])
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def _record_response(span: trace.Span, request: _Request) -> None:
    if request.route:
        span.update_name(f"{request.method} {request.route}")
        span.set_attribute("http.route", request.route)
    span.set_attribute("http.response.status_code", request.status)
    if request.status >= 500:
        span.set_status(trace.StatusCode.ERROR)
