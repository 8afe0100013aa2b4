"""Sliding windows of outcomes: over the last calls, or over the last seconds."""

from __future__ import annotations

from typing import Protocol

__all__ = ("CountWindow", "TimeWindow", "Window")

_FAILED, _SLOW, _FILLED = 1, 2, 4


class Window(Protocol):
    """How many of the recent calls failed or were slow."""

    calls: int
    failures: int
    slow: int

    def record(self, failed: bool, slow: bool, now: float) -> None:
        """One call ended."""
        ...

    def forget(self, now: float) -> None:
        """Drop what is too old by now."""
        ...


class CountWindow:
    """The last `size` calls, one byte each."""

    __slots__ = ("_outcomes", "_place", "calls", "failures", "slow")

    def __init__(self, size: int) -> None:
        self._outcomes = bytearray(size)
        self._place = 0
        self.calls = self.failures = self.slow = 0

    def record(self, failed: bool, slow: bool, now: float) -> None:
        place = self._place
        gone = self._outcomes[place]
        self.calls += not gone
        self.failures += failed - (gone & _FAILED)
        self.slow += slow - (gone & _SLOW) // _SLOW
        self._outcomes[place] = _FILLED | failed * _FAILED | slow * _SLOW
        self._place = (place + 1) % len(self._outcomes)

    def forget(self, now: float) -> None:
        """Calls do not age here."""


class TimeWindow:
    """The calls of the last `seconds`, in buckets of a second."""

    __slots__ = ("_buckets", "_second", "calls", "failures", "slow")

    def __init__(self, seconds: int, now: float) -> None:
        self._buckets = [(0, 0, 0)] * seconds
        self._second = int(now)
        self.calls = self.failures = self.slow = 0

    def record(self, failed: bool, slow: bool, now: float) -> None:
        self.forget(now)
        place = self._second % len(self._buckets)
        calls, failures, slows = self._buckets[place]
        self._buckets[place] = (calls + 1, failures + failed, slows + slow)
        self.calls += 1
        self.failures += failed
        self.slow += slow

    def forget(self, now: float) -> None:
        size = len(self._buckets)
        for second in range(self._second + 1, min(int(now), self._second + size) + 1):
            calls, failures, slows = self._buckets[second % size]
            self._buckets[second % size] = (0, 0, 0)
            self.calls -= calls
            self.failures -= failures
            self.slow -= slows
        # A clock that steps back keeps filling the newest bucket.
        self._second = max(self._second, int(now))
