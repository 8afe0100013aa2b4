"""Health and weight filters: leave out endpoints that should get no calls at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microservice_core import InvalidValueError

from .balancer import Balancer
from .node import E
from .stage import NarrowingStage, WeightedEndpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from .observer import BalancerObserver

__all__ = ("HealthFilter", "WeightFilter", "is_healthy")


def is_healthy(endpoint: object) -> bool:
    """Read the attribute `healthy`; an endpoint without one is healthy."""
    return bool(getattr(endpoint, "healthy", True))


class HealthFilter(NarrowingStage[E]):
    """Only healthy endpoints, unless so few are healthy that they would be overloaded.

    Args:
        health: returns whether an endpoint is healthy; by default its attribute `healthy`.
        panic_threshold: below this share of healthy endpoints (0 to 1, Envoy's default is 0.5),
            health is ignored. With 0 health always counts, and a pick without a healthy endpoint
            raises `NoInstanceAvailableError`.
        observer: notified when a panic begins and ends.

    Raises:
        InvalidValueError: `panic_threshold` is not from 0 to 1.
    """

    __slots__ = ("_health", "_observer", "panic_threshold", "panicking")

    def __init__(
        self,
        inner: Balancer[E],
        *,
        health: Callable[[E], bool] = is_healthy,
        panic_threshold: float = 0.5,
        observer: BalancerObserver | None = None,
    ) -> None:
        super().__init__(inner)
        self.panic_threshold = validate_share("panic_threshold", panic_threshold)
        self.panicking = False
        self._health = health
        self._observer = observer

    def _narrow(self, listed: WeightedEndpoints[E]) -> WeightedEndpoints[E]:
        healthy = [(endpoint, weight) for endpoint, weight in listed if self._health(endpoint)]
        panicking = len(healthy) < self.panic_threshold * len(listed)
        if panicking != self.panicking and self._observer is not None:
            self._observer.on_panic(panicking)
        self.panicking = panicking
        return listed if panicking else healthy

    def _describe(self) -> str:
        state = ", panicking" if self.panicking else ""
        return f"HealthFilter(panic_threshold={self.panic_threshold}{state})"


class WeightFilter(NarrowingStage[E]):
    """Only endpoints of weight above 0, so that further stages do not count drained ones.

    Args:
        weight: returns the weight to use in place of `endpoint.weight`, e.g. from metadata.
    """

    __slots__ = ("_weight",)

    def __init__(self, inner: Balancer[E], *, weight: Callable[[E], float] | None = None) -> None:
        super().__init__(inner)
        self._weight = weight

    def _narrow(self, listed: WeightedEndpoints[E]) -> WeightedEndpoints[E]:
        if self._weight is not None:
            listed = [(endpoint, self._weight(endpoint)) for endpoint, _ in listed]
        # `!= 0`, not `> 0`: an invalid weight goes on to the inner balancer, which refuses it.
        return [(endpoint, weight) for endpoint, weight in listed if weight != 0]


def validate_share(field: str, value: float) -> float:
    """Return the value.

    Raises:
        InvalidValueError: the value is not from 0 to 1.
    """
    if not 0 <= value <= 1:
        raise InvalidValueError(field, value, "a share from 0 to 1")
    return value
