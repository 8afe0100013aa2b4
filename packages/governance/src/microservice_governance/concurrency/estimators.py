"""How many calls at once a service bears, estimated from how long they take.

Source: the algorithms and numbers of Netflix's concurrency-limits; each sample is one call.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

__all__ = ("ALGORITHMS", "Aimd", "AlgorithmName", "Gradient2", "LimitAlgorithm", "Vegas")

AlgorithmName = Literal["gradient2", "vegas", "aimd"]

_SHORTEST = 1e-9  # a clock may not have moved at all


class LimitAlgorithm(ABC):
    """An estimate that learns from each call.

    Attributes:
        limit: calls at once; a fraction, so that small steps add up.
    """

    def __init__(self, initial: int, least: int, most: int) -> None:
        self.limit = float(initial)
        self._least = least
        self._most = most

    def learn(self, seconds: float, in_flight: int, dropped: bool) -> None:
        """A call took that long while so many were in flight, itself included."""
        wanted = self._next(max(seconds, _SHORTEST), in_flight, dropped)
        self.limit = min(float(self._most), max(float(self._least), wanted))

    @abstractmethod
    def _next(self, seconds: float, in_flight: int, dropped: bool) -> float: ...


class Aimd(LimitAlgorithm):
    """One more while the limit is in use; a tenth less when a call was dropped."""

    def _next(self, seconds: float, in_flight: int, dropped: bool) -> float:
        if dropped:
            return self.limit * 0.9
        return self.limit + 1 if in_flight * 2 >= self.limit else self.limit


class Vegas(LimitAlgorithm):
    """Guesses from the best time how many calls queue, and keeps that between two bounds.

    The best time is measured anew now and then, or a service that became slower for good would
    look overloaded for ever.
    """

    _PROBE_EVERY = 30  # times the limit, in calls

    def __init__(self, initial: int, least: int, most: int) -> None:
        super().__init__(initial, least, most)
        self._best = 0.0
        self._calls = 0

    def _next(self, seconds: float, in_flight: int, dropped: bool) -> float:
        self._calls += 1
        if self._calls >= self._PROBE_EVERY * self.limit:
            self._calls, self._best = 0, 0.0
        if not self._best or seconds < self._best:
            self._best = seconds
            if not dropped:
                return self.limit
        step = max(1.0, math.log10(self.limit))
        if dropped:
            return self.limit - step
        if in_flight * 2 < self.limit:
            return self.limit
        return self._between(step, math.ceil(self.limit * (1 - self._best / seconds)))

    def _between(self, step: float, queued: int) -> float:
        few, many = 3 * step, 6 * step
        if queued <= step:
            return self.limit + many
        if queued < few:
            return self.limit + step
        return self.limit - step if queued > many else self.limit


class Gradient2(LimitAlgorithm):
    """Follows the usual time: less when calls take longer than that, and room for a few to queue."""

    _TOLERANCE = 1.5
    _QUEUE = 4
    _SMOOTHING = 0.2
    _WINDOW = 600  # calls that make the usual time

    def __init__(self, initial: int, least: int, most: int) -> None:
        super().__init__(initial, least, most)
        self._usual = 0.0
        self._calls = 0

    def _next(self, seconds: float, in_flight: int, dropped: bool) -> float:
        if dropped:
            return self.limit * (1 - self._SMOOTHING / 2)
        self._calls = min(self._calls + 1, self._WINDOW)
        self._usual += (seconds - self._usual) / self._calls
        if self._usual > 2 * seconds:
            self._usual *= 0.95  # out of an overload: come down sooner
        if in_flight < self.limit / 2:
            return self.limit
        gradient = max(0.5, min(1.0, self._TOLERANCE * self._usual / seconds))
        wanted = self.limit * gradient + self._QUEUE
        return self.limit * (1 - self._SMOOTHING) + wanted * self._SMOOTHING


ALGORITHMS: dict[str, type[LimitAlgorithm]] = {
    "gradient2": Gradient2,
    "vegas": Vegas,
    "aimd": Aimd,
}
