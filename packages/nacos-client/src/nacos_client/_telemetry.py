"""Spans and metrics of operations through opentelemetry-api, when it is installed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from ._steps import Operation, Request

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram
    from opentelemetry.trace import Span, Tracer

__all__ = ("Telemetry", "create_telemetry")

T = TypeVar("T")


class Telemetry:
    """One client span and one measurement per operation, retries included.

    Names and attributes follow OpenTelemetry's conventions for HTTP clients; `url.template` is
    the API path, of which there are a few dozen.
    """

    def __init__(self, tracer: Tracer, duration: Histogram) -> None:
        self._tracer = tracer
        self._duration = duration

    def instrument(self, request: Request, operation: Operation[T]) -> Operation[T]:
        """The same operation, recorded as a span and a duration."""
        from opentelemetry.trace import SpanKind

        attributes = {"http.request.method": request.method, "url.template": request.path}
        span = self._tracer.start_span(
            request.operation, kind=SpanKind.CLIENT, attributes=attributes
        )
        began = time.monotonic()
        try:
            outcome = yield from operation
        except BaseException as error:
            attributes["error.type"] = type(error).__name__
            _record_error(span, error)
            raise
        finally:
            self._duration.record(time.monotonic() - began, attributes)
            span.end()
        return outcome


def create_telemetry(version: str) -> Telemetry | None:
    """Telemetry through the application's providers; None without opentelemetry-api."""
    try:
        from opentelemetry import metrics, trace
    except ImportError:
        return None
    tracer = trace.get_tracer("nacos_client", version)
    duration = metrics.get_meter("nacos_client", version).create_histogram(
        "http.client.request.duration",
        unit="s",
        description="Duration of Nacos operations, retries included.",
    )
    return Telemetry(tracer, duration)


def _record_error(span: Span, error: BaseException) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", type(error).__name__)
    status = getattr(error, "status", None)
    server = urlsplit(getattr(error, "server", ""))
    if isinstance(status, int):
        span.set_attribute("http.response.status_code", status)
    if server.hostname:
        span.set_attribute("server.address", server.hostname)
    span.set_status(Status(StatusCode.ERROR))
