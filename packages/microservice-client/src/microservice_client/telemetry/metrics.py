"""Metrics of calls through opentelemetry-api: duration, attempts, rejections, calls in flight.

| instrument | unit | attributes |
|---|---|---|
| `http.client.request.duration` | s, per attempt | method, service, status or error type |
| `microservice.client.call.duration` | s, per call | method, service, status or error type |
| `microservice.client.call.attempts` | per call | service |
| `microservice.client.rejections` | per call that was refused | service, policy |
| `microservice.client.active_calls` | now | service |

The service's name is `server.address`; no attribute names an instance, whose number is not bounded
(`instance_metrics=True` records by instance, see `instance_metrics`).
"""

from __future__ import annotations

from opentelemetry import metrics

from .attributes import DURATION_BUCKETS, method_label, outcome_attributes
from .instance_metrics import InstanceMetrics

__all__ = ("CallMetrics",)


class CallMetrics:
    """Records calls and attempts.

    Args:
        provider: where metrics go; the global one by default.

    Attributes:
        instances: records attempts by instance; None unless `instance_metrics=True`.
    """

    def __init__(self, provider: metrics.MeterProvider | None) -> None:
        self.instances: InstanceMetrics | None = None
        meter = metrics.get_meter("microservice_client", meter_provider=provider)
        self._attempt_seconds = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._call_seconds = meter.create_histogram(
            "microservice.client.call.duration",
            unit="s",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._attempts = meter.create_histogram(
            "microservice.client.call.attempts",
            unit="{attempt}",
            explicit_bucket_boundaries_advisory=(1, 2, 3, 4, 5, 10),
        )
        self._rejections = meter.create_counter("microservice.client.rejections", unit="{call}")
        self._active = meter.create_up_down_counter(
            "microservice.client.active_calls", unit="{call}"
        )

    def close(self) -> None:
        """Stop observing instances."""
        if self.instances is not None:
            self.instances.close()

    def record_call_start(self, service: str) -> None:
        """Count a call as active."""
        self._active.add(1, {"server.address": service})

    def record_call_end(
        self,
        service: str,
        method: str,
        seconds: float,
        outcome: int | Exception | None,
        attempts: int,
    ) -> None:
        """Record a call that has ended.

        Args:
            service: the service's name.
            method: of HTTP.
            seconds: how long the call took.
            outcome: the response's status, or the error; None if the call was cancelled.
            attempts: how many attempts were made.
        """
        self._active.add(-1, {"server.address": service})
        if outcome is not None:
            self._call_seconds.record(seconds, _call_attributes(service, method, outcome))
            self._attempts.record(attempts, {"server.address": service})

    def record_attempt(
        self,
        service: str,
        instance_id: str,
        method: str,
        seconds: float,
        outcome: int | Exception,
        *,
        counted: bool = True,
    ) -> None:
        """Record an attempt that has ended, also by instance if that is on.

        Args:
            service: the service's name.
            instance_id: where the attempt went.
            method: of HTTP.
            seconds: how long the attempt took.
            outcome: the response's status, or the error.
            counted: whether the outcome says something about the instance.
        """
        self._attempt_seconds.record(seconds, _call_attributes(service, method, outcome))
        if counted and self.instances is not None:
            self.instances.record_attempt(service, instance_id, seconds, outcome)

    def record_rejection(self, service: str, policy: str) -> None:
        """Count a call that a policy refused."""
        self._rejections.add(1, {"server.address": service, "microservice.policy": policy})


def _call_attributes(service: str, method: str, outcome: int | Exception) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "http.request.method": method_label(method),
        "server.address": service,
    }
    return attributes | outcome_attributes(outcome)
