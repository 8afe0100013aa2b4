"""Metrics by instance, for a client with `instance_metrics=True`: duration, errors, health.

| instrument | unit | attributes |
|---|---|---|
| `microservice.client.instance.duration` | s, per attempt | service, instance, status or error type |
| `microservice.client.instance.health` | 1 or 0 | service, instance |

An instance is healthy (1) while the registry lists it as healthy and enabled and its circuit breaker
is not open. Instances come and go, and a backend keeps every name it has received: only 500 are
named, all others are `other`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from microservice_core import ServiceInstance

from .attributes import DURATION_BUCKETS, outcome_attributes

__all__ = ("MAX_NAMED_INSTANCES", "InstanceMetrics")

MAX_NAMED_INSTANCES = 500
_OTHER = "other"

InstancesByService = Callable[[], Mapping[str, tuple[ServiceInstance, ...]]]
BreakerStates = Callable[[str], Mapping[str, str]]


class InstanceMetrics:
    """Records attempts by instance, and observes the health of instances.

    Args:
        provider: where metrics go; the global one by default.
        instances: returns the instances of every service in use.
        breaker_states: returns the circuit breaker's state of each instance of a service.
    """

    def __init__(
        self,
        provider: metrics.MeterProvider | None,
        instances: InstancesByService,
        breaker_states: BreakerStates,
    ) -> None:
        self._instances = instances
        self._breaker_states = breaker_states
        self._named: set[tuple[str, str]] = set()
        meter = metrics.get_meter("microservice_client", meter_provider=provider)
        self._seconds = meter.create_histogram(
            "microservice.client.instance.duration",
            unit="s",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        meter.create_observable_gauge("microservice.client.instance.health", [self._observe])

    def record_attempt(
        self, service: str, instance_id: str, seconds: float, outcome: int | Exception
    ) -> None:
        """Record an attempt that has ended.

        Args:
            service: the service's name.
            instance_id: where the attempt went.
            seconds: how long it took.
            outcome: the response's status, or the error.
        """
        attributes = self._instance_attributes(service, instance_id)
        self._seconds.record(seconds, {**attributes, **outcome_attributes(outcome)})

    def close(self) -> None:
        """Observe nothing any more and drop the client: a meter keeps its callbacks for good."""
        self._instances, self._breaker_states = dict, _no_breakers

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        for service, instances in self._instances().items():
            states = self._breaker_states(service)
            for instance in instances:
                attributes = self._instance_attributes(service, instance.instance_id)
                if attributes["microservice.instance.id"] != _OTHER:
                    is_open = states.get(instance.instance_id) in {"open", "forced-open"}
                    healthy = instance.healthy and instance.enabled and not is_open
                    yield Observation(int(healthy), attributes)

    def _instance_attributes(self, service: str, instance_id: str) -> dict[str, str | int]:
        key = (service, instance_id)
        if key not in self._named:
            if len(self._named) >= MAX_NAMED_INSTANCES:
                instance_id = _OTHER
            else:
                self._named.add(key)
        return {"server.address": service, "microservice.instance.id": instance_id}


def _no_breakers(_service: str) -> Mapping[str, str]:
    return {}
