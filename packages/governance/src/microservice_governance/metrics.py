"""Events of policies, counted as OpenTelemetry metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from microservice_core import MissingDependencyError

from .breaker.config import BreakerState
from .events import (
    CallHedged,
    CallRejected,
    CallRetried,
    CallTimedOut,
    FallbackUsed,
    FaultInjected,
    LimitChanged,
    Listener,
    PolicyEvent,
    StateChanged,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

__all__ = ("EventSource", "record_metrics")


class EventSource(Protocol):
    """Anything that has events: a policy, a pipeline, keyed breakers or a registry."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on; returns a function that ends this."""
        ...


_COUNTERS: dict[type[PolicyEvent], tuple[str, str]] = {
    CallRejected: ("governance.rejections", "{call}"),
    CallRetried: ("governance.retry.attempts", "{attempt}"),
    CallHedged: ("governance.hedge.attempts", "{attempt}"),
    CallTimedOut: ("governance.timeouts", "{call}"),
    FallbackUsed: ("governance.fallbacks", "{call}"),
    FaultInjected: ("governance.faults", "{call}"),
    StateChanged: ("governance.breaker.transitions", "{transition}"),
}


def record_metrics(
    source: EventSource, *, meter: Meter | None = None, max_names: int = 200
) -> Callable[[], None]:
    """Count the events of `source` from now on; returns a function that ends this.

    Counters: `governance.rejections`, `governance.retry.attempts`, `governance.hedge.attempts`,
    `governance.timeouts`, `governance.fallbacks`, `governance.faults` and
    `governance.breaker.transitions`, which has the attribute `governance.state`. Up-down counters:
    `governance.breaker.not_closed`, the number of circuits that are not closed now, and
    `governance.limit.change`, the sum of the changes of an adaptive limit. Each has the attributes
    `governance.policy` and `governance.name`.

    Args:
        meter: creates the instruments; by default the meter of the global provider.
        max_names: number of distinct `governance.name` values; later names count as `other`.

    Raises:
        MissingDependencyError: the extra `otel` is not installed.
    """
    try:
        from opentelemetry import metrics
    except ImportError:
        raise MissingDependencyError("record_metrics", "microservice-governance[otel]") from None
    return source.subscribe(
        _Recorder(meter or metrics.get_meter("microservice_governance"), max_names)
    )


class _Recorder:
    def __init__(self, meter: Meter, max_names: int) -> None:
        self._counters = {
            kind: meter.create_counter(name, unit=unit) for kind, (name, unit) in _COUNTERS.items()
        }
        self._not_closed = meter.create_up_down_counter(
            "governance.breaker.not_closed", unit="{circuit}"
        )
        self._limit = meter.create_up_down_counter("governance.limit.change", unit="{call}")
        self._max_names = max_names
        self._names: set[str] = set()

    def __call__(self, event: PolicyEvent) -> None:
        labels = {
            "governance.policy": event.policy,
            "governance.name": self._bounded_name(event.name),
        }
        if isinstance(event, LimitChanged):
            self._limit.add(event.new - event.old, labels)
            return
        if isinstance(event, StateChanged):
            # bool arithmetic: +1 when the circuit leaves `closed`, -1 when it returns, else 0
            change = (event.new != BreakerState.CLOSED) - (event.old != BreakerState.CLOSED)
            if change:
                self._not_closed.add(change, labels)
            labels = {**labels, "governance.state": event.new}
        counter = self._counters.get(type(event))
        if counter is not None:
            counter.add(1, labels)

    def _bounded_name(self, name: str) -> str:
        if name in self._names:
            return name
        if len(self._names) >= self._max_names:
            return "other"
        self._names.add(name)
        return name
