"""Slow start: the share of a new endpoint grows to its full weight over a time window."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from microservice_core import InvalidValueError

from .balancer import Balancer, Key
from .health_filter import validate_share
from .node import E
from .stage import NarrowingStage, WeightedEndpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from .lease import Lease

__all__ = ("SlowStart",)

_WEIGHT_STEPS = 20  # weight changes per window while an endpoint warms up


class SlowStart(NarrowingStage[E]):
    """Weigh an endpoint `max(minimum, (age / window) ** (1 / aggression))` until it is `window` old.

    The age counts from the first update with the endpoint; those of the very first update count as
    warm. Weights change only as picks are made. Needs a balancer that honours weights.

    Source: Envoy, "Slow start mode".

    Args:
        window_seconds: time to warm up.
        aggression: 1 is linear; above 1 rises sooner.
        minimum: share of the weight at the start, from 0 to 1.
        clock: monotonic seconds.

    Raises:
        InvalidValueError: an argument is outside its range.
    """

    __slots__ = (
        "_clock",
        "_listed_since",
        "_next_step",
        "_update_lock",
        "aggression",
        "minimum",
        "window_seconds",
    )

    def __init__(
        self,
        inner: Balancer[E],
        *,
        window_seconds: float = 60.0,
        aggression: float = 1.0,
        minimum: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        if not 0 < window_seconds <= 86_400:
            raise InvalidValueError("window_seconds", window_seconds, "above 0, up to 86400")
        if not 0 < aggression <= 100:
            raise InvalidValueError("aggression", aggression, "above 0, up to 100")
        self.window_seconds = window_seconds
        self.aggression = aggression
        self.minimum = validate_share("minimum", minimum)
        self._clock = clock
        self._listed_since: dict[str, float] | None = None
        self._next_step: float | None = None
        self._update_lock = threading.Lock()

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        with self._update_lock:
            super().update(endpoints, weights=weights)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        if self._next_step is not None:
            self._advance_weights()
        return self._inner.pick(key, exclude)

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        if self._next_step is not None:
            self._advance_weights()
        return self._inner.acquire(key, exclude)

    def _advance_weights(self) -> None:
        due = self._next_step
        if due is None or self._clock() < due or not self._update_lock.acquire(blocking=False):
            return
        try:
            self._update_inner(self._listed)
        finally:
            self._update_lock.release()

    def _narrow(self, listed: WeightedEndpoints[E]) -> WeightedEndpoints[E]:
        now, previous = self._clock(), self._listed_since
        start = now if previous is not None else now - self.window_seconds
        since = {e.instance_id: (previous or {}).get(e.instance_id, start) for e, _ in listed}
        weighted = [(e, w * self._warm_share(now - since[e.instance_id])) for e, w in listed]
        warming = any(now - at < self.window_seconds for at in since.values())
        # An empty list is not remembered: the endpoints of the first update that has any count as
        # warm, and those that return after an empty one keep their age.
        self._listed_since = since if listed else previous
        self._next_step = now + self.window_seconds / _WEIGHT_STEPS if warming else None
        return weighted

    def _warm_share(self, age: float) -> float:
        if age >= self.window_seconds:
            return 1.0
        return max(self.minimum, float((age / self.window_seconds) ** (1 / self.aggression)))

    def _describe(self) -> str:
        return f"SlowStart(window_seconds={self.window_seconds}, aggression={self.aggression})"
