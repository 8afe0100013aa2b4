"""Spans of calls and of their attempts, in OpenTelemetry's terms; none without an SDK.

A call is one client span, and each attempt is a client span below it whose context is sent with the
request: the spans of an instance are children of the attempt that reached it. Attributes follow the
HTTP semantic conventions (https://opentelemetry.io/docs/specs/semconv/http/http-spans/).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from opentelemetry import context, propagate, trace

from microservice_core import ServiceInstance

from .attributes import method_label

__all__ = ("AttemptSpan", "Send", "Tracing", "inject_trace_context", "record_status")


# What OpenTelemetry's instrumentations of httpx and aiohttp look for; the API has no public name.
_SUPPRESS_KEY: str = getattr(
    context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", "suppress_http_instrumentation"
)
Send = Callable[[httpx.Request], Coroutine[Any, Any, httpx.Response]]
"""Sends a request to an instance, as a transport does."""


class Tracing:
    """Makes the spans of calls and attempts.

    Args:
        provider: where spans go; the global one by default.
    """

    def __init__(self, provider: trace.TracerProvider | None) -> None:
        self._tracer = trace.get_tracer("microservice_client", tracer_provider=provider)

    @contextmanager
    def call_span(self, service: str, request: httpx.Request) -> Iterator[trace.Span]:
        """The span of a call, current inside the block; an error that leaves the block marks it."""
        method = method_label(request.method)
        with self._tracer.start_as_current_span(
            f"{method} {service}", kind=trace.SpanKind.CLIENT
        ) as span:
            if span.is_recording():
                span.set_attribute("http.request.method", method)
                span.set_attribute("server.address", service)
                span.set_attribute("url.path", request.url.path)
                span.set_attribute("peer.service", service)
            try:
                yield span
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                raise

    def start_attempt(
        self, request: httpx.Request, instance: ServiceInstance, number: int
    ) -> AttemptSpan:
        """Start the span of an attempt and put its context into the request's headers.

        Args:
            request: what is sent to the instance.
            instance: where it goes.
            number: which attempt of the call this is, from 1.
        """
        method = method_label(request.method)
        span = self._tracer.start_span(method, kind=trace.SpanKind.CLIENT)
        if span.is_recording():
            span.set_attribute("http.request.method", method)
            span.set_attribute("server.address", instance.ip)
            span.set_attribute("server.port", instance.port)
            span.set_attribute("url.full", str(request.url.copy_with(query=None, fragment=None)))
            span.set_attribute("microservice.instance.id", instance.instance_id)
            if number > 1:
                span.set_attribute("http.request.resend_count", number - 1)
        propagate.inject(request.headers, context=trace.set_span_in_context(span))
        return AttemptSpan(span)


def inject_trace_context(request: httpx.Request) -> None:
    """Put the current context into the headers: a caller's trace or baggage, without a new span."""
    propagate.inject(request.headers)


class AttemptSpan:
    """The span of one attempt; it ends when the response's headers have come, or with an error."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def wrap(self, send: Send) -> Send:
        """Return `send` without the span that an instrumentation of the HTTP library would add."""

        async def send_once(request: httpx.Request) -> httpx.Response:
            token = context.attach(context.set_value(_SUPPRESS_KEY, value=True))
            try:
                return await send(request)
            finally:
                context.detach(token)

        return send_once

    def end_with_status(self, status: int) -> None:
        """End the span of an attempt that got a response."""
        record_status(self._span, status)
        self._span.end()

    def end_with_error(self, error: BaseException) -> None:
        """End the span of an attempt without a response; a cancellation is not marked as error."""
        if isinstance(error, Exception):
            self._span.set_attribute("error.type", type(error).__name__)
            self._span.set_status(trace.StatusCode.ERROR, type(error).__name__)
        self._span.end()


def record_status(span: trace.Span, status: int) -> None:
    """Set the status on a client span, where 400 and above is an error."""
    if span.is_recording():
        span.set_attribute("http.response.status_code", status)
        if status >= 400:
            span.set_attribute("error.type", str(status))
            span.set_status(trace.StatusCode.ERROR)
