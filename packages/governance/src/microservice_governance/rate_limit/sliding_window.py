"""Sliding window: an exact log of what passed, for small limits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from microservice_core import InvalidValueError

from .config import Decision, LimitConfig

__all__ = ("SlidingWindowLimiter",)

MOST = 10_000


class SlidingWindowLimiter:
    """Never more than `config.rate` units in any `config.per_seconds`, and never less than that.

    GCRA needs one number where this needs one per unit, so it is for limits of up to 10000; a
    larger one that must be hard is a `RateLimiter` with `LimitConfig(hard=True)`.

    Args:
        config: `rate` and `per_seconds`; a burst has no meaning here.
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
        if config.rate > MOST:
            raise InvalidValueError("rate", config.rate, f"at most {MOST}; take a RateLimiter")
        if config.burst is not None:
            raise InvalidValueError("burst", config.burst, "left out: the window bounds it")
        self.config = config
        self.name = name
        self._clock = clock
        self._passed: deque[float] = deque()
        self._lock = threading.Lock()

    def try_acquire(self, cost: int = 1) -> Decision:
        """Take `cost` units if the window has room for them now.

        Args:
            cost: units; 0 only looks.

        Raises:
            InvalidValueError: `cost` is negative.
        """
        if cost < 0:
            raise InvalidValueError("cost", cost, "at least 0")
        now = self._clock()
        with self._lock:
            passed, period = self._passed, self.config.per_seconds
            while passed and passed[0] + period <= now:
                passed.popleft()
            room = self.config.rate - len(passed)
            allowed = cost <= room
            if allowed:
                passed.extend([now] * cost)
                room -= cost
            retry = -1.0
            if not allowed and cost <= self.config.rate:
                retry = passed[cost - room - 1] + period - now
            reset = passed[-1] + period - now if passed else 0.0
        return Decision(allowed, room, retry, reset)

    def snapshot(self) -> dict[str, object]:
        """The limit and what is left of it."""
        now = self.try_acquire(0)
        return {
            "policy": "sliding_window",
            "name": self.name,
            "rate": self.config.rate,
            "per_seconds": self.config.per_seconds,
            "remaining": now.remaining,
        }
