"""Sliding window: an exact limit that keeps the time of every unit, for small rates."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from microservice_core import InvalidValueError

from .config import Decision, LimitConfig
from .keys import check_cost

__all__ = ("SlidingWindowLimiter",)

_MAX_RATE = 10_000


class SlidingWindowLimiter:
    """Lets exactly `config.rate` units pass in any `config.per_seconds`, never more, never less.

    It needs memory for every unit, where GCRA needs one number, so it is for rates up to 10,000.
    For a larger limit that must be hard, use a `RateLimiter` with `LimitConfig(hard=True)`.

    Args:
        config: `rate` and `per_seconds`; `burst` has no meaning here.
        name: for messages.
        clock: monotonic seconds.

    Raises:
        InvalidValueError: `rate` is above 10000, or a burst is given.
    """

    def __init__(
        self,
        config: LimitConfig,
        *,
        name: str = "sliding window",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _validate(config)
        self.config = config
        self.name = name
        self._clock = clock
        self._times: deque[float] = deque()  # of the units in the window, oldest first
        self._lock = threading.Lock()

    def try_acquire(self, cost: int = 1) -> Decision:
        """Take `cost` units if the window has room for them now.

        Args:
            cost: units; 0 only looks.

        Raises:
            InvalidValueError: `cost` is negative or not a whole number.
        """
        if type(cost) is not int or cost < 0:
            check_cost(cost)
        now = self._clock()
        with self._lock:
            times, period = self._times, self.config.per_seconds
            while times and times[0] + period <= now:
                times.popleft()
            room = max(0, self.config.rate - len(times))
            allowed = cost <= room
            if allowed:
                times.extend([now] * cost)
                room -= cost
            retry = -1.0
            if not allowed and cost <= self.config.rate:
                # so many units must leave the window that there is room for these
                retry = times[cost + len(times) - self.config.rate - 1] + period - now
            reset = times[-1] + period - now if times else 0.0
        return Decision(allowed, room, retry, reset)

    def reconfigure(self, config: LimitConfig) -> None:
        """Use another limit at once; the units of the last period, old or new, still count.

        Raises:
            InvalidValueError: as of the constructor.
        """
        _validate(config)
        with self._lock:
            self.config = config

    def snapshot(self) -> dict[str, object]:
        """The limit, and the units that are free now."""
        now = self.try_acquire(0)
        return {
            "policy": "sliding_window",
            "name": self.name,
            "rate": self.config.rate,
            "per_seconds": self.config.per_seconds,
            "remaining": now.remaining,
        }


def _validate(config: LimitConfig) -> None:
    if config.rate > _MAX_RATE:
        raise InvalidValueError("rate", config.rate, f"at most {_MAX_RATE}; use a RateLimiter")
    if config.burst is not None:
        raise InvalidValueError("burst", config.burst, "left out: the window bounds it")
