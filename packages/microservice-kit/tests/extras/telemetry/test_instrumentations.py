"""Beside the instrumentation libraries of OpenTelemetry a request is measured once."""

from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanKind

from microservice_kit import TracingMiddleware

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class OpenTelemetryMiddleware:
    """Of the name and module of that of opentelemetry-instrumentation-asgi; it does nothing."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


OpenTelemetryMiddleware.__module__ = "opentelemetry.instrumentation.asgi"


async def span_in_handler(*middleware: type[Any], around: Any = None) -> trace.Span:
    """Return the span that a handler is in, when the request has a caller's trace context."""
    spans: list[trace.Span] = []
    app = FastAPI()
    for kind in reversed(middleware):
        app.add_middleware(kind)

    @app.get("/")
    async def handler() -> None:
        spans.append(trace.get_current_span())

    transport = httpx.ASGITransport(around(app) if around else app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        await client.get("/", headers={"traceparent": PARENT})
    (span,) = spans
    return span


def is_of_the_caller(span: trace.Span) -> bool:
    return f"{span.get_span_context().trace_id:032x}" in PARENT


async def test_alone_the_middleware_takes_the_caller_s_context_over() -> None:
    assert is_of_the_caller(await span_in_handler(TracingMiddleware))


async def test_it_leaves_the_request_to_an_instrumentation_outside_or_inside() -> None:
    assert not is_of_the_caller(await span_in_handler(OpenTelemetryMiddleware, TracingMiddleware))
    assert not is_of_the_caller(await span_in_handler(TracingMiddleware, OpenTelemetryMiddleware))


async def test_it_leaves_the_request_to_a_server_span_that_is_there() -> None:
    tracer = TracerProvider().get_tracer("t")
    with tracer.start_as_current_span("request", kind=SpanKind.SERVER) as span:
        assert await span_in_handler(TracingMiddleware) is span


async def test_with_providers_of_its_own_it_measures_every_request() -> None:
    def wrap(app: FastAPI) -> Any:
        return TracingMiddleware(app, tracer_provider=TracerProvider())

    span = await span_in_handler(OpenTelemetryMiddleware, around=wrap)
    assert is_of_the_caller(span)
    assert isinstance(span, ReadableSpan)
