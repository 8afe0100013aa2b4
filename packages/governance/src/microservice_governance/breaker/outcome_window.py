"""The breaker's windows of recent outcomes: the last calls, or the last seconds."""

from __future__ import annotations

from typing import Protocol

__all__ = ("CountWindow", "OutcomeWindow", "TimeWindow")

# Bits of one byte in `CountWindow`. 0 is a place that no call has taken yet. `_FAILED` is bit 0 on
# purpose: `byte & _FAILED` and a `bool` are then the same number (0 or 1) and can be added up.
# The other bits have to be shifted down first: `(byte & _SLOW) // _SLOW`.
_FAILED, _SLOW, _FILLED = 1, 2, 4


class OutcomeWindow(Protocol):
    """Counts of the calls in the window.

    Attributes:
        calls: calls in the window.
        failures: how many of them failed.
        slow: how many of them were slow.
        bucket_ends_at: a call that ends at this time or later belongs to another bucket, so
            `record` or `forget` has to run first; infinity for a window without buckets.
    """

    calls: int
    failures: int
    slow: int
    bucket_ends_at: float

    def record(self, failed: bool, slow: bool, now: float) -> None:
        """Add one call that ended at `now`."""
        ...

    def record_successes(self, calls: int) -> None:
        """Add calls that succeeded since the last `record`, in the present bucket."""
        ...

    def forget(self, now: float) -> None:
        """Drop the calls that are too old at `now`."""
        ...


class CountWindow:
    """The last `size` calls, in a ring of one byte each.

    The ring is allocated with the first bad call: until then all calls are good, and their number
    says everything. Most breakers never see a bad call and stay small.
    """

    __slots__ = ("_outcomes", "_position", "_size", "bucket_ends_at", "calls", "failures", "slow")

    def __init__(self, size: int) -> None:
        self._outcomes: bytearray | None = None
        self._size = size
        self._position = 0
        self.calls = self.failures = self.slow = 0
        self.bucket_ends_at = float("inf")

    def record(self, failed: bool, slow: bool, now: float) -> None:
        outcomes = self._allocate_ring()
        replaced = outcomes[self._position]
        self.calls += not replaced  # a place that was empty: one call more
        self.failures += failed - (replaced & _FAILED)
        self.slow += slow - (replaced & _SLOW) // _SLOW
        outcomes[self._position] = _FILLED | failed * _FAILED | slow * _SLOW
        self._position = (self._position + 1) % self._size

    def record_successes(self, calls: int) -> None:
        if self._outcomes is None:
            self.calls = min(self._size, self.calls + calls)
            self._position = (self._position + calls) % self._size
            return
        # More calls than places: only the last `size` stay, so skip the places they overwrite.
        remaining = min(calls, self._size)
        self._position = (self._position + calls - remaining) % self._size
        while remaining:
            remaining -= self._overwrite(min(remaining, self._size - self._position))

    def forget(self, now: float) -> None:
        """Do nothing: calls leave this window by number, not by age."""

    def _allocate_ring(self) -> bytearray:
        if self._outcomes is None:
            self._outcomes = bytearray(self._size)
            # The good calls so far are just before the present position, wrapping around.
            for distance in range(1, self.calls + 1):
                self._outcomes[self._position - distance] = _FILLED
        return self._outcomes

    def _overwrite(self, count: int) -> int:
        """Write `count` good calls at the position; they must fit before the end of the ring."""
        outcomes = self._allocate_ring()
        part = slice(self._position, self._position + count)
        replaced = outcomes[part]
        failed_and_slow = replaced.count(_FILLED | _FAILED | _SLOW)
        self.calls += replaced.count(0)
        self.failures -= replaced.count(_FILLED | _FAILED) + failed_and_slow
        self.slow -= replaced.count(_FILLED | _SLOW) + failed_and_slow
        outcomes[part] = bytes([_FILLED]) * count
        self._position = (self._position + count) % self._size
        return count


class TimeWindow:
    """The calls of the last `seconds`, in buckets of one second."""

    __slots__ = ("_buckets", "_second", "bucket_ends_at", "calls", "failures", "slow")

    def __init__(self, seconds: int, now: float) -> None:
        self._buckets = [(0, 0, 0)] * seconds  # calls, failures, slow
        self._second = int(now)
        self.bucket_ends_at = float(self._second + 1)
        self.calls = self.failures = self.slow = 0

    def record(self, failed: bool, slow: bool, now: float) -> None:
        self.forget(now)
        self._add(1, failed, slow)

    def record_successes(self, calls: int) -> None:
        self._add(calls, 0, 0)

    def forget(self, now: float) -> None:
        size = len(self._buckets)
        for second in range(self._second + 1, min(int(now), self._second + size) + 1):
            calls, failures, slow = self._buckets[second % size]
            self._buckets[second % size] = (0, 0, 0)
            self.calls -= calls
            self.failures -= failures
            self.slow -= slow
        # A clock that steps back keeps filling the newest bucket.
        self._second = max(self._second, int(now))
        self.bucket_ends_at = float(self._second + 1)

    def _add(self, calls: int, failed: int, slow: int) -> None:
        index = self._second % len(self._buckets)
        bucket = self._buckets[index]
        self._buckets[index] = (bucket[0] + calls, bucket[1] + failed, bucket[2] + slow)
        self.calls += calls
        self.failures += failed
        self.slow += slow
