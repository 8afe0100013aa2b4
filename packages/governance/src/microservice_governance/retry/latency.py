"""Latency percentile: the duration that a share of the recent calls did not exceed."""

from __future__ import annotations

import math
from collections import deque

from microservice_core import InvalidValueError

__all__ = ("LatencyPercentile",)

_CALLS_PER_UPDATE = 16  # sorting two hundred durations after each call would cost too much


class LatencyPercentile:
    """The duration that a share of the recent calls did not exceed.

    Args:
        share: e.g. 0.95; above 0 and below 1.
        window: number of recent calls that are taken into account.
        minimum_calls: with fewer calls the duration is unknown.

    Raises:
        InvalidValueError: a number is out of its range.
    """

    __slots__ = ("_durations", "_recorded", "_value", "minimum_calls", "share")

    def __init__(self, share: float, *, window: int = 200, minimum_calls: int = 20) -> None:
        _validate_share(share)
        if not 1 <= window <= 100_000:
            raise InvalidValueError("window", window, "a whole number from 1 to 100000")
        if not 1 <= minimum_calls <= window:
            raise InvalidValueError("minimum_calls", minimum_calls, f"from 1 to {window}")
        self.share = share
        self.minimum_calls = minimum_calls
        self._durations: deque[float] = deque(maxlen=window)
        self._recorded = 0
        self._value: float | None = None

    @property
    def seconds(self) -> float | None:
        """The duration; None as long as there were too few calls."""
        return self._value

    def record(self, seconds: float) -> None:
        """Add the duration of a call."""
        self._durations.append(seconds)
        self._recorded += 1
        if self._value is None or self._recorded % _CALLS_PER_UPDATE == 0:
            self._update()

    def reconfigure(self, share: float) -> None:
        """Use another share of the same calls.

        Raises:
            InvalidValueError: as for the constructor; nothing has changed.
        """
        _validate_share(share)
        self.share = share
        self._update()

    def _update(self) -> None:
        calls = len(self._durations)
        if calls >= self.minimum_calls:
            # Nearest rank: the shortest duration that this share of the calls did not exceed.
            self._value = sorted(self._durations)[math.ceil(self.share * calls) - 1]


def _validate_share(share: float) -> None:
    if not 0 < share < 1:
        raise InvalidValueError("share", share, "a number above 0 and below 1")
