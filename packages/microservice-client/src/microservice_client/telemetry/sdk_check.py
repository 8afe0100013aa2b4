"""Whether an OpenTelemetry SDK is installed: without one, no span or measurement is made."""

from __future__ import annotations

from opentelemetry import metrics, trace

__all__ = ("SdkCheck",)

_INTERVAL_SECONDS = 1.0


class SdkCheck:
    """Whether spans and measurements reach an SDK; looked up once a second, because it is slow.

    A call reads the attributes, and calls `refresh` first when `due` has come. These are attributes
    and no methods because every call reads them.

    Args:
        tracer_provider, meter_provider: those passed to the client, which then need no check.

    Attributes:
        traced: make spans.
        measured: record metrics.
        due: clock time of the next `refresh`.
    """

    __slots__ = ("_meters_passed", "_tracers_passed", "due", "measured", "traced")

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None,
        meter_provider: metrics.MeterProvider | None,
    ) -> None:
        self._tracers_passed = self.traced = tracer_provider is not None
        self._meters_passed = self.measured = meter_provider is not None
        self.due = float("-inf")

    def refresh(self, now: float) -> None:
        """Look the global providers up, for one second from `now` on."""
        self.due = now + _INTERVAL_SECONDS
        self.traced = self._tracers_passed or _is_from_sdk(trace.get_tracer_provider())
        self.measured = self._meters_passed or _is_from_sdk(metrics.get_meter_provider())


def _is_from_sdk(provider: object) -> bool:
    # Without an SDK the provider is one of the API's own, which does nothing.
    return not type(provider).__module__.startswith(
        ("opentelemetry.trace", "opentelemetry.metrics")
    )
