"""OpenTelemetry in one line, for an application that has not set it up already."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Self

from microservice_core import InvalidValueError, MissingDependencyError

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from prometheus_client import CollectorRegistry

__all__ = ("Telemetry", "setup_telemetry")

_OTLP = "opentelemetry.exporter.otlp.proto.http"
_SDK = "opentelemetry.sdk"
_PROMETHEUS = "opentelemetry.exporter.prometheus"


@dataclass(slots=True)
class Telemetry:
    """The providers that were set up; leaving the context sends what is still queued.

    Attributes:
        registry: what `prometheus_text` reads; None without `prometheus=True`.
    """

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    registry: CollectorRegistry | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Send what is queued, and stop; closing twice is fine."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()

    def prometheus_text(self) -> bytes:
        """Return all metrics in Prometheus' text format.

        Raises:
            InvalidValueError: it was set up without `prometheus=True`.
        """
        if self.registry is None:
            raise InvalidValueError("prometheus", False, "True in setup_telemetry")
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


def setup_telemetry(
    service_name: str,
    *,
    version: str = "",
    attributes: Mapping[str, str] | None = None,
    sample_ratio: float = 1.0,
    prometheus: bool = False,
    install: bool = True,
) -> Telemetry:
    """Set up traces and metrics, exported by OTLP over HTTP when an endpoint is configured.

    The endpoint comes from `OTEL_EXPORTER_OTLP_ENDPOINT` as everywhere in OpenTelemetry; without
    one nothing is exported. Spans follow their parent's sampling decision.

    Args:
        version: the service's version.
        attributes: further attributes of the resource.
        sample_ratio: the share of new traces that is recorded, 0 to 1.
        prometheus: also keep metrics for `prometheus_text`; needs the extra `prometheus`.
        install: make them the global providers.

    Raises:
        MissingDependencyError: the extra `otel` or `prometheus` is not installed.
        InvalidValueError: the ratio is outside 0..1.
    """
    if not 0 <= sample_ratio <= 1:
        raise InvalidValueError("sample_ratio", sample_ratio, "from 0 to 1")
    _require_packages(prometheus)
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    labels = {"service.name": service_name, "service.version": version, **(attributes or {})}
    resource = Resource.create({key: value for key, value in labels.items() if value})
    readers, registry = _create_metric_readers(prometheus)
    telemetry = Telemetry(
        TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(sample_ratio)),
        MeterProvider(readers, resource=resource),
        registry,
    )
    for processor in _create_span_processors():
        telemetry.tracer_provider.add_span_processor(processor)
    if install:
        _set_global_providers(telemetry)
    return telemetry


def _set_global_providers(telemetry: Telemetry) -> None:
    from opentelemetry import metrics, trace

    trace.set_tracer_provider(telemetry.tracer_provider)
    metrics.set_meter_provider(telemetry.meter_provider)


def _require_packages(prometheus: bool) -> None:
    """Name every missing extra in one error.

    Raises:
        MissingDependencyError: one is missing.
    """
    exports = any(map(_is_export_configured, ("TRACES", "METRICS")))
    lacks_prometheus = prometheus and _is_missing(_PROMETHEUS)
    extras = []
    # The extra `prometheus` brings the SDK along.
    if (_is_missing(_SDK) and not lacks_prometheus) or (exports and _is_missing(_OTLP)):
        extras.append("otel")
    if lacks_prometheus:
        extras.append("prometheus")
    if extras:
        raise MissingDependencyError("setup_telemetry", f"microservice-kit[{','.join(extras)}]")


def _is_export_configured(signal: str) -> bool:
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(os.environ.get(name) for name in endpoints)


def _create_span_processors() -> list[SpanProcessor]:
    if not _is_export_configured("TRACES"):
        return []
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return [BatchSpanProcessor(OTLPSpanExporter())]


def _create_metric_readers(prometheus: bool) -> tuple[list[MetricReader], CollectorRegistry | None]:
    readers: list[MetricReader] = []
    registry = None
    if _is_export_configured("METRICS"):
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    if prometheus:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry()
        readers.append(PrometheusMetricReader(registry=registry))
    return readers, registry


def _is_missing(module: str) -> bool:
    try:
        return find_spec(module) is None
    except (ModuleNotFoundError, ValueError):  # ValueError: there is only a placeholder
        return True
