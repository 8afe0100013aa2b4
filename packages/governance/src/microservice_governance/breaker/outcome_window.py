"""Sliding windows of outcomes: over the last calls, or over the last seconds."""

from __future__ import annotations

from typing import Protocol

__all__ = ("CountWindow", "TimeWindow", "Window")

_FAILED, _SLOW, _FILLED = 1, 2, 4


class Window(Protocol):
    """How many of the recent calls failed or were slow.

    Attributes:
        turns_at: from then on a call belongs to another part of the window.
    """

    calls: int
    failures: int
    slow: int
    turns_at: float

    def record(self, failed: bool, slow: bool, now: float) -> None:
        """One call ended."""
        ...

    def record_good(self, calls: int) -> None:
        """So many calls ended well since the last that was recorded."""
        ...

    def forget(self, now: float) -> None:
        """Drop what is too old by now."""
        ...


class CountWindow:
    """The last `size` calls, one byte each; nothing is kept before the first bad one."""

    __slots__ = ("_outcomes", "_place", "_size", "calls", "failures", "slow", "turns_at")

    def __init__(self, size: int) -> None:
        self._outcomes: bytearray | None = None
        self._size = size
        self._place = 0
        self.calls = self.failures = self.slow = 0
        self.turns_at = float("inf")

    def record(self, failed: bool, slow: bool, now: float) -> None:
        outcomes = self._ring()
        gone = outcomes[self._place]
        self.calls += not gone
        self.failures += failed - (gone & _FAILED)
        self.slow += slow - (gone & _SLOW) // _SLOW
        outcomes[self._place] = _FILLED | failed * _FAILED | slow * _SLOW
        self._place = (self._place + 1) % self._size

    def record_good(self, calls: int) -> None:
        if self._outcomes is None:
            self.calls = min(self._size, self.calls + calls)
            self._place = (self._place + calls) % self._size
            return
        left = min(calls, self._size)
        self._place = (self._place + calls - left) % self._size
        while left:
            left -= self._overwrite(min(left, self._size - self._place))

    def forget(self, now: float) -> None:
        """Calls do not age here."""

    def _ring(self) -> bytearray:
        if self._outcomes is None:
            self._outcomes = bytearray(self._size)
            for back in range(1, self.calls + 1):
                self._outcomes[self._place - back] = _FILLED
        return self._outcomes

    def _overwrite(self, count: int) -> int:
        """Good calls in place of the oldest ones, as far as the ring goes on without a break."""
        outcomes = self._ring()
        part = slice(self._place, self._place + count)
        gone = outcomes[part]
        both = gone.count(_FILLED | _FAILED | _SLOW)
        self.calls += gone.count(0)
        self.failures -= gone.count(_FILLED | _FAILED) + both
        self.slow -= gone.count(_FILLED | _SLOW) + both
        outcomes[part] = bytes([_FILLED]) * count
        self._place = (self._place + count) % self._size
        return count


class TimeWindow:
    """The calls of the last `seconds`, in buckets of a second."""

    __slots__ = ("_buckets", "_second", "calls", "failures", "slow", "turns_at")

    def __init__(self, seconds: int, now: float) -> None:
        self._buckets = [(0, 0, 0)] * seconds
        self._second = int(now)
        self.turns_at = float(self._second + 1)
        self.calls = self.failures = self.slow = 0

    def record(self, failed: bool, slow: bool, now: float) -> None:
        self.forget(now)
        self._add(1, failed, slow)

    def record_good(self, calls: int) -> None:
        self._add(calls, 0, 0)

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
        self.turns_at = float(self._second + 1)

    def _add(self, calls: int, failed: int, slow: int) -> None:
        place = self._second % len(self._buckets)
        before = self._buckets[place]
        self._buckets[place] = (before[0] + calls, before[1] + failed, before[2] + slow)
        self.calls += calls
        self.failures += failed
        self.slow += slow
