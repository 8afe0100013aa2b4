"""Estimators of how many concurrent calls a service can handle, from the calls' durations.

Source: the algorithms and numbers of Netflix's concurrency-limits; each sample is one call.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

__all__ = ("ALGORITHMS", "Aimd", "AlgorithmName", "Gradient2", "LimitEstimator", "Vegas")

AlgorithmName = Literal["gradient2", "vegas", "aimd"]

_MIN_SECONDS = 1e-9  # a coarse clock may not have moved during a call, and we divide by it


class LimitEstimator(ABC):
    """An estimate that learns from each call.

    Attributes:
        limit: concurrent calls; a float, so that steps smaller than one add up.
    """

    def __init__(self, initial: int, min_limit: int, max_limit: int) -> None:
        self.limit = float(initial)
        self._min_limit = min_limit
        self._max_limit = max_limit

    def set_bounds(self, min_limit: int, max_limit: int) -> None:
        """Use other bounds; the limit stays, as far as they allow."""
        self._min_limit, self._max_limit = min_limit, max_limit
        self.limit = min(float(max_limit), max(float(min_limit), self.limit))

    def learn(self, seconds: float, in_flight: int, dropped: bool) -> None:
        """Update the limit after a call.

        Args:
            seconds: duration of the call.
            in_flight: calls that ran at the same time, this one included.
            dropped: the call failed because the service is overloaded.
        """
        estimate = self._estimate(max(seconds, _MIN_SECONDS), in_flight, dropped)
        self.limit = min(float(self._max_limit), max(float(self._min_limit), estimate))

    @abstractmethod
    def _estimate(self, seconds: float, in_flight: int, dropped: bool) -> float: ...


class Aimd(LimitEstimator):
    """Additive increase while the limit is used, 10 % decrease when a call was dropped."""

    def _estimate(self, seconds: float, in_flight: int, dropped: bool) -> float:
        if dropped:
            return self.limit * 0.9
        # Below half of the limit the calls say nothing about more of them.
        return self.limit + 1 if in_flight * 2 >= self.limit else self.limit


class Vegas(LimitEstimator):
    """Estimates the number of queueing calls from the shortest duration, and keeps it in bounds.

    The shortest duration is measured again from time to time: otherwise a service that has become
    slower for good would look overloaded ever after.
    """

    _PROBE_EVERY = 30  # calls per unit of the limit

    def __init__(self, initial: int, min_limit: int, max_limit: int) -> None:
        super().__init__(initial, min_limit, max_limit)
        self._shortest = 0.0
        self._calls = 0

    def _estimate(self, seconds: float, in_flight: int, dropped: bool) -> float:
        self._calls += 1
        if self._calls >= self._PROBE_EVERY * self.limit:
            self._calls, self._shortest = 0, 0.0
        if not self._shortest or seconds < self._shortest:
            self._shortest = seconds
            if not dropped:
                return self.limit
        step = max(1.0, math.log10(self.limit))
        if dropped:
            return self.limit - step
        if in_flight * 2 < self.limit:
            return self.limit
        return self._step_for_queue(step, math.ceil(self.limit * (1 - self._shortest / seconds)))

    def _step_for_queue(self, step: float, queued: int) -> float:
        # `alpha` and `beta` of TCP Vegas: the queue is kept between the two.
        alpha, beta = 3 * step, 6 * step
        if queued <= step:
            return self.limit + beta
        if queued < alpha:
            return self.limit + step
        return self.limit - step if queued > beta else self.limit


class Gradient2(LimitEstimator):
    """Compares with the usual duration: lowers the limit when calls take longer, else raises it."""

    _TOLERANCE = 1.5  # calls may take this many times the usual duration
    _QUEUE = 4  # calls that may queue: the limit grows by a share of them per call
    _SMOOTHING = 0.2  # weight of a new estimate
    _WINDOW = 600  # calls that the usual duration is averaged over

    def __init__(self, initial: int, min_limit: int, max_limit: int) -> None:
        super().__init__(initial, min_limit, max_limit)
        self._usual = 0.0
        self._calls = 0

    def _estimate(self, seconds: float, in_flight: int, dropped: bool) -> float:
        if dropped:
            return self.limit * (1 - self._SMOOTHING / 2)
        self._calls = min(self._calls + 1, self._WINDOW)
        self._usual += (seconds - self._usual) / self._calls
        if self._usual > 2 * seconds:
            self._usual *= 0.95  # after an overload the average would recover too slowly
        if in_flight < self.limit / 2:
            return self.limit
        gradient = max(0.5, min(1.0, self._TOLERANCE * self._usual / seconds))
        estimate = self.limit * gradient + self._QUEUE
        return self.limit * (1 - self._SMOOTHING) + estimate * self._SMOOTHING


ALGORITHMS: dict[str, type[LimitEstimator]] = {
    "gradient2": Gradient2,
    "vegas": Vegas,
    "aimd": Aimd,
}
