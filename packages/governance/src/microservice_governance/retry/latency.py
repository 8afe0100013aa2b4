"""Which share of the recent calls took how long."""

from __future__ import annotations

import math
from collections import deque

from microservice_core import InvalidValueError

__all__ = ("LatencyPercentile",)

_EVERY = 16  # sorting two hundred numbers for each call would cost more than it tells


class LatencyPercentile:
    """The time within which a share of the recent calls answered.

    Args:
        share: e.g. 0.95; above 0 and below 1.
        window: calls that count.
        minimum_calls: with fewer there is no answer.

    Raises:
        InvalidValueError: a number outside its range.
    """

    __slots__ = ("_kept", "_recorded", "_value", "minimum_calls", "share")

    def __init__(self, share: float, *, window: int = 200, minimum_calls: int = 20) -> None:
        if not 0 < share < 1:
            raise InvalidValueError("share", share, "a number above 0 and below 1")
        if not 1 <= window <= 100_000:
            raise InvalidValueError("window", window, "a whole number from 1 to 100000")
        if not 1 <= minimum_calls <= window:
            raise InvalidValueError("minimum_calls", minimum_calls, f"from 1 to {window}")
        self.share = share
        self.minimum_calls = minimum_calls
        self._kept: deque[float] = deque(maxlen=window)
        self._recorded = 0
        self._value: float | None = None

    @property
    def seconds(self) -> float | None:
        """The time; None as long as too few calls are known."""
        return self._value

    def record(self, seconds: float) -> None:
        """A call took that long."""
        self._kept.append(seconds)
        self._recorded += 1
        known = len(self._kept)
        if known >= self.minimum_calls and (self._value is None or self._recorded % _EVERY == 0):
            # Nearest rank: the smallest time that this share of the calls did not exceed.
            self._value = sorted(self._kept)[math.ceil(self.share * known) - 1]
