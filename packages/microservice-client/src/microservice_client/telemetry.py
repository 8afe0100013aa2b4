"""One client span per call, in OpenTelemetry's terms; costs next to nothing without an SDK.

Attributes follow the HTTP semantic conventions
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/).
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx
from opentelemetry import propagate, trace

__all__ = ("CallSpan",)


class CallSpan:
    """The span of one call by name; hands the trace context on in the request's headers."""

    __slots__ = ("_context", "_request", "_service", "_span", "_tracer")

    def __init__(self, tracer: trace.Tracer, service: str, request: httpx.Request) -> None:
        self._tracer = tracer
        self._service = service
        self._request = request

    def __enter__(self) -> Self:
        self._context = self._tracer.start_as_current_span(
            f"{self._request.method} {self._service}", kind=trace.SpanKind.CLIENT
        )
        self._span = self._context.__enter__()
        if self._span.is_recording():
            self._span.set_attribute("http.request.method", self._request.method)
            self._span.set_attribute("server.address", self._service)
            self._span.set_attribute("url.path", self._request.url.path)
        propagate.inject(self._request.headers)
        return self

    def answered(self, response: httpx.Response, attempts: int) -> None:
        """Note what came back, after how many attempts."""
        if self._span.is_recording():
            self._span.set_attribute("http.response.status_code", response.status_code)
            self._span.set_attribute("http.request.resend_count", attempts - 1)
            if response.status_code >= 400:
                self._span.set_attribute("error.type", str(response.status_code))
                self._span.set_status(trace.StatusCode.ERROR)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._context.__exit__(exc_type, exc, tb)
