"""Metrics by instance, for a client that was asked for them: calls, latency, errors, health.

| instrument | unit | attributes |
|---|---|---|
| `microservice.client.instance.duration` | s, per attempt | service, instance, status or error type |
| `microservice.client.instance.health` | 1 or 0 | service, instance |

An instance is well while the registry says so and its circuit breaker lets calls through. Instances
come and go, and a backend keeps every one it has heard of: only so many are named, all others are
`other`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from microservice_core import ServiceInstance

from .metrics import DURATIONS, outcome_attributes

__all__ = ("InstanceMetrics",)

MOST_NAMED = 500
OTHER = "other"

Known = Callable[[], Mapping[str, tuple[ServiceInstance, ...]]]
BreakerStates = Callable[[str], Mapping[str, str]]


class InstanceMetrics:
    """Counts attempts by instance, and shows who is well.

    Args:
        known: the instances of every service in use.
        breakers: the state of each instance's circuit breaker.
    """

    def __init__(
        self, provider: metrics.MeterProvider | None, known: Known, breakers: BreakerStates
    ) -> None:
        self._known = known
        self._breakers = breakers
        self._named: set[tuple[str, str]] = set()
        meter = metrics.get_meter("microservice_client", meter_provider=provider)
        self._seconds = meter.create_histogram(
            "microservice.client.instance.duration",
            unit="s",
            explicit_bucket_boundaries_advisory=DURATIONS,
        )
        meter.create_observable_gauge("microservice.client.instance.health", [self._observe])

    def attempted(
        self, service: str, instance_id: str, seconds: float, outcome: int | Exception
    ) -> None:
        """One attempt came to an end."""
        named = self._name(service, instance_id)
        self._seconds.record(seconds, {**named, **outcome_attributes(outcome)})

    def close(self) -> None:
        """Observe nothing any more, and hold nobody: a meter keeps its callbacks for good."""
        self._known, self._breakers = dict, _no_breakers

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        for service, instances in self._known().items():
            states = self._breakers(service)
            for one in instances:
                named = self._name(service, one.instance_id)
                if named["microservice.instance.id"] != OTHER:
                    shut_out = states.get(one.instance_id) in {"open", "forced-open"}
                    well = one.healthy and one.enabled and not shut_out
                    yield Observation(int(well), named)

    def _name(self, service: str, instance_id: str) -> dict[str, str | int]:
        key = (service, instance_id)
        if key not in self._named:
            if len(self._named) >= MOST_NAMED:
                instance_id = OTHER
            else:
                self._named.add(key)
        return {"server.address": service, "microservice.instance.id": instance_id}


def _no_breakers(_service: str) -> Mapping[str, str]:
    return {}
