"""Slow start: a new endpoint gets its share of the calls by and by."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from microservice_core import InvalidValueError

from .balancer import Balancer, E, Key
from .health_filter import checked_share
from .stage import Listed, NarrowingStage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from .lease import Lease

__all__ = ("SlowStart",)

_STEPS = 20  # how often the weights change while somebody warms up


class SlowStart(NarrowingStage[E]):
    """Weigh an endpoint `max(minimum, (age / window) ** (1 / aggression))` until it is `window` old.

    Its age counts from the first update that had it; those of the very first update count as warm.
    Weights move on when picks are made. Needs a balancer that honours weights.

    Source: Envoy, "Slow start mode".

    Args:
        window_seconds: how long it takes to warm up.
        aggression: 1 is linear; above 1 rises sooner.
        minimum: share of the weight to begin with.
        clock: monotonic seconds.

    Raises:
        InvalidValueError: an argument is outside its range.
    """

    __slots__ = (
        "_clock",
        "_next_step",
        "_since",
        "_stepping",
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
        self.minimum = checked_share("minimum", minimum)
        self._clock = clock
        self._since: dict[str, float] | None = None
        self._next_step: float | None = None
        self._stepping = threading.Lock()

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        with self._stepping:
            super().update(endpoints, weights=weights)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        if self._next_step is not None:
            self._step()
        return self._inner.pick(key, exclude)

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        if self._next_step is not None:
            self._step()
        return self._inner.acquire(key, exclude)

    def _step(self) -> None:
        due = self._next_step
        if due is None or self._clock() < due or not self._stepping.acquire(blocking=False):
            return
        try:
            self._pass_on(self._given)
        finally:
            self._stepping.release()

    def _narrow(self, given: Listed[E]) -> Listed[E]:
        now, known = self._clock(), self._since
        born = now if known is not None else now - self.window_seconds
        since = {e.instance_id: (known or {}).get(e.instance_id, born) for e, _ in given}
        weighed = [(e, w * self._part(now - since[e.instance_id])) for e, w in given]
        warming = any(now - at < self.window_seconds for at in since.values())
        self._since = since if given else known
        self._next_step = now + self.window_seconds / _STEPS if warming else None
        return weighed

    def _part(self, age: float) -> float:
        if age >= self.window_seconds:
            return 1.0
        return max(self.minimum, float((age / self.window_seconds) ** (1 / self.aggression)))

    def _what(self) -> str:
        return f"SlowStart(window_seconds={self.window_seconds}, aggression={self.aggression})"
