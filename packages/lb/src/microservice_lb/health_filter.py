"""Health and weight filters: who is worth considering at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microservice_core import InvalidValueError

from .balancer import Balancer, E
from .stage import Listed, NarrowingStage

if TYPE_CHECKING:
    from collections.abc import Callable

    from .observer import BalancerObserver

__all__ = ("HealthFilter", "WeightFilter", "is_healthy")


def is_healthy(endpoint: object) -> bool:
    """Its attribute `healthy`; healthy if it has none."""
    return bool(getattr(endpoint, "healthy", True))


class HealthFilter(NarrowingStage[E]):
    """Only the healthy, unless they are so few that they would be crushed.

    Args:
        health: tells whether an endpoint is healthy; by default its attribute `healthy`.
        panic_threshold: with a smaller share of healthy ones, health is ignored (Envoy's 0.5). 0
            never panics: without a healthy endpoint there is nobody then.
        observer: told when a panic begins and ends.

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
        self.panic_threshold = checked_share("panic_threshold", panic_threshold)
        self.panicking = False
        self._health = health
        self._observer = observer

    def _narrow(self, given: Listed[E]) -> Listed[E]:
        healthy = [one for one in given if self._health(one[0])]
        panicking = len(healthy) < self.panic_threshold * len(given)
        if panicking != self.panicking and self._observer is not None:
            self._observer.panicked(panicking)
        self.panicking = panicking
        return given if panicking else healthy

    def _what(self) -> str:
        state = ", panicking" if self.panicking else ""
        return f"HealthFilter(panic_threshold={self.panic_threshold}{state})"


class WeightFilter(NarrowingStage[E]):
    """Only those of weight above 0, so that further stages reckon without the drained.

    Args:
        weight: the weight to use in place of the endpoint's own, e.g. from its metadata.
    """

    __slots__ = ("_weight",)

    def __init__(self, inner: Balancer[E], *, weight: Callable[[E], float] | None = None) -> None:
        super().__init__(inner)
        self._weight = weight

    def _narrow(self, given: Listed[E]) -> Listed[E]:
        if self._weight is not None:
            given = [(endpoint, self._weight(endpoint)) for endpoint, _ in given]
        return [(endpoint, weight) for endpoint, weight in given if weight != 0]


def checked_share(field: str, value: float) -> float:
    """The value.

    Raises:
        InvalidValueError: it is not from 0 to 1.
    """
    if not 0 <= value <= 1:
        raise InvalidValueError(field, value, "a share from 0 to 1")
    return value
