"""Spans of calls and of their attempts, in OpenTelemetry's terms; nothing without an SDK.

A call is one client span, each attempt a client span below it, whose context goes along with the
request: what the instance does hangs on the attempt that reached it. Attributes follow the HTTP
semantic conventions (https://opentelemetry.io/docs/specs/semconv/http/http-spans/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
from opentelemetry import propagate, trace
from opentelemetry.context import get_current

from microservice_core import ServiceInstance

__all__ = ("AttemptSpan", "Tracing")

_METHODS = frozenset(
    {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "CONNECT", "QUERY"}
)


class Tracing:
    """Opens the spans.

    Args:
        provider: where spans go; the global one by default.
    """

    def __init__(self, provider: trace.TracerProvider | None) -> None:
        self._sdk = SdkCheck(provider is not None, trace.get_tracer_provider)
        self._tracer = trace.get_tracer("microservice_client", tracer_provider=provider)

    def on(self, now: float) -> bool:
        """Whether there is an SDK that would look at a span."""
        return self._sdk.there(now)

    @contextmanager
    def call(self, service: str, request: httpx.Request) -> Iterator[trace.Span]:
        """The span of a call, current inside; an error that leaves the block marks it."""
        method = bounded_method(request.method)
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

    def attempt(
        self, request: httpx.Request, instance: ServiceInstance, number: int
    ) -> AttemptSpan:
        """The span of an attempt, from now on; hands its context on."""
        method = bounded_method(request.method)
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


def hand_on(request: httpx.Request) -> None:
    """Let the context that is there without an SDK, a caller's trace or baggage, go along."""
    if get_current():
        propagate.inject(request.headers)


class AttemptSpan:
    """One attempt's span; ended once, when its response's headers are there or it failed."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def answered(self, status: int) -> None:
        """The instance answered."""
        note_status(self._span, status)
        self._span.end()

    def failed(self, error: BaseException) -> None:
        """It did not; a cancellation is no error."""
        if isinstance(error, Exception):
            self._span.set_attribute("error.type", type(error).__name__)
            self._span.set_status(trace.StatusCode.ERROR, type(error).__name__)
        self._span.end()


def note_status(span: trace.Span, status: int) -> None:
    """What came back; 400 and above is an error to the one who asked."""
    if span.is_recording():
        span.set_attribute("http.response.status_code", status)
        if status >= 400:
            span.set_attribute("error.type", str(status))
            span.set_status(trace.StatusCode.ERROR)


def bounded_method(method: str) -> str:
    """The method, or `_OTHER`: names and labels come from a bounded set."""
    return method if method in _METHODS else "_OTHER"


class SdkCheck:
    """Whether an OpenTelemetry SDK is installed; looked up once a second, as that takes a while.

    Args:
        given: a provider was handed in, so there is no question.
        look: the global provider.
    """

    __slots__ = ("_given", "_look", "_next", "_there")

    def __init__(self, given: bool, look: Callable[[], object]) -> None:
        self._given = given
        self._look = look
        self._next = float("-inf")
        self._there = given

    def there(self, now: float) -> bool:
        """As of `now`, or a second before."""
        if now >= self._next and not self._given:
            self._next = now + 1.0
            # Without an SDK the provider is one of the API's own, which does nothing.
            name = type(self._look()).__module__
            self._there = not name.startswith(("opentelemetry.trace", "opentelemetry.metrics"))
        return self._there
