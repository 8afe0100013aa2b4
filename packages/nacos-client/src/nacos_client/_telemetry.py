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


# Those of OpenTelemetry's conventions for HTTP; an SDK's defaults are meant for milliseconds.
_BOUNDARIES_SECONDS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0
)  # fmt: skip


class Telemetry:
    """One client span and one measurement per operation, retries included.

    Attributes follow OpenTelemetry's conventions for HTTP clients; `url.template` is the API path,
    of which there are a few dozen. The histogram has a name of its own: an operation is no request,
    and `http.client.request.duration` belongs to whoever measures the application's requests.
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
        "nacos.client.operation.duration",
        unit="s",
        description="Duration of Nacos operations, retries included.",
        explicit_bucket_boundaries_advisory=_BOUNDARIES_SECONDS,
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
