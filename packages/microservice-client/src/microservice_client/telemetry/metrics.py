"""Metrics of calls through opentelemetry-api: duration, attempts, rejections, calls in flight.

| instrument | unit | attributes |
|---|---|---|
| `http.client.request.duration` | s, per attempt | method, service, status or error type |
| `microservice.client.call.duration` | s, per call | method, service, status or error type |
| `microservice.client.call.attempts` | per call | service |
| `microservice.client.rejections` | per call that was refused | service, policy |
| `microservice.client.active_calls` | now | service |

The service's name is `server.address`; no attribute names an instance, of which there is no end
(`instance_metrics=True` counts by instance, see `instance_metrics`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics

from .tracing import SdkCheck, bounded_method

if TYPE_CHECKING:
    from .instance_metrics import InstanceMetrics

__all__ = ("DURATIONS", "CallMetrics", "outcome_attributes")

DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class CallMetrics:
    """Counts calls.

    Args:
        provider: where metrics go; the global one by default.

    Attributes:
        instances: counts attempts by instance, where that was asked for.
    """

    def __init__(self, provider: metrics.MeterProvider | None) -> None:
        self.instances: InstanceMetrics | None = None
        self._sdk = SdkCheck(provider is not None, metrics.get_meter_provider)
        meter = metrics.get_meter("microservice_client", meter_provider=provider)
        self._attempt_seconds = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            explicit_bucket_boundaries_advisory=DURATIONS,
        )
        self._call_seconds = meter.create_histogram(
            "microservice.client.call.duration",
            unit="s",
            explicit_bucket_boundaries_advisory=DURATIONS,
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

    def on(self, now: float) -> bool:
        """Whether there is an SDK that would count."""
        return self._sdk.there(now)

    def close(self) -> None:
        """Nobody is observed any more."""
        if self.instances is not None:
            self.instances.close()

    def began(self, service: str) -> None:
        """A call is under way."""
        self._active.add(1, {"server.address": service})

    def ended(
        self, service: str, method: str, seconds: float, outcome: int | Exception | None, tried: int
    ) -> None:
        """It came to an end; without an outcome it was cancelled."""
        self._active.add(-1, {"server.address": service})
        if outcome is not None:
            self._call_seconds.record(seconds, _attributes(service, method, outcome))
            self._attempts.record(tried, {"server.address": service})

    def attempted(
        self, service: str, method: str, seconds: float, outcome: int | Exception
    ) -> None:
        """One attempt came to an end."""
        self._attempt_seconds.record(seconds, _attributes(service, method, outcome))

    def rejected(self, service: str, policy: str) -> None:
        """A policy refused a call."""
        self._rejections.add(1, {"server.address": service, "microservice.policy": policy})


def _attributes(service: str, method: str, outcome: int | Exception) -> dict[str, str | int]:
    known = {"http.request.method": bounded_method(method), "server.address": service}
    return known | outcome_attributes(outcome)


def outcome_attributes(outcome: int | Exception) -> dict[str, str | int]:
    """How it ended: a status, or an error's type."""
    attributes: dict[str, str | int] = {}
    if isinstance(outcome, Exception):
        attributes["error.type"] = type(outcome).__name__
    else:
        attributes["http.response.status_code"] = outcome
        if outcome >= 400:
            attributes["error.type"] = str(outcome)
    return attributes
