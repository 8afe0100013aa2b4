"""Retry budget: bounds the load that retries add, so that they do not finish off a weak service."""

from __future__ import annotations

import threading
import time
from itertools import count
from typing import TYPE_CHECKING

from microservice_core import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("RetryBudget",)

_SLOTS = 10


class RetryBudget:
    """Allows retries up to `ratio` of the recent calls, plus a few per second.

    Shared by all calls to one service, from any thread.

    Source: Finagle's RetryBudget (20 %, 10 per second, counted over 10 s).

    Args:
        ratio: retries that each call earns, e.g. 0.2.
        min_per_second: retries per second that are allowed however few calls there are.
        window_seconds: how long a call counts as recent.
        clock: monotonic seconds.

    Raises:
        InvalidValueError: a number is out of its range.
    """

    __slots__ = (
        "_balance",
        "_clock",
        "_count_call",
        "_credited",
        "_lock",
        "_slot",
        "_slot_ends",
        "_slot_seconds",
        "_slots",
        "ratio",
        "reserve",
    )

    def __init__(
        self,
        ratio: float = 0.2,
        *,
        min_per_second: float = 10.0,
        window_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _validate(ratio, min_per_second, window_seconds)
        self.ratio = ratio
        self.reserve = min_per_second * window_seconds
        self._clock = clock
        self._start_slots(window_seconds, 0.0)
        # One atomic step (a C function), so that threads need no lock for a call.
        self._count_call = count(1).__next__
        self._credited = 0
        self._lock = threading.Lock()

    def reconfigure(
        self, ratio: float, *, min_per_second: float = 10.0, window_seconds: float = 10.0
    ) -> None:
        """Use other settings; what was earned and spent stays, for one more window if that changes.

        Raises:
            InvalidValueError: as for the constructor; nothing has changed.
        """
        _validate(ratio, min_per_second, window_seconds)
        with self._lock:
            self._advance()
            self.ratio = ratio
            self.reserve = min_per_second * window_seconds
            if self._slot_seconds != window_seconds / _SLOTS:
                self._start_slots(window_seconds, self._balance)

    @property
    def available(self) -> float:
        """The number of retries that may be made now."""
        with self._lock:
            self._advance()
            return max(0.0, self._balance + self.reserve)

    def record_call(self) -> None:
        """Count the first attempt of a call, which earns `ratio` of a retry."""
        self._count_call()
        if self._clock() >= self._slot_ends:
            with self._lock:
                self._advance()

    def try_spend(self) -> bool:
        """Take one retry from the budget; False if there is none."""
        with self._lock:
            self._advance()
            # The balance is a sum of floats: five times 0.2 may come out just below 1.
            if self._balance + self.reserve < 1 - 1e-4:
                return False
            self._add(-1.0)
            return True

    def _start_slots(self, window_seconds: float, balance: float) -> None:
        self._slot_seconds = window_seconds / _SLOTS
        self._slots = [0.0] * _SLOTS
        self._slot = int(self._clock() / self._slot_seconds)
        self._slot_ends = (self._slot + 1) * self._slot_seconds
        self._balance = 0.0
        self._add(balance)

    def _add(self, amount: float) -> None:
        self._slots[self._slot % _SLOTS] += amount
        self._balance += amount

    def _advance(self) -> None:
        """Credit the calls counted since the last time, then drop the slots that are too old."""
        # An `itertools.count` cannot be read without advancing it. This read takes a number as a
        # call does, so the calls since the last reading are one fewer than the difference.
        reading = self._count_call()
        self._add((reading - 1 - self._credited) * self.ratio)
        self._credited = reading
        now = int(self._clock() / self._slot_seconds)
        for slot in range(self._slot + 1, min(now, self._slot + _SLOTS) + 1):
            self._slots[slot % _SLOTS] = 0.0
        if now > self._slot:
            self._slot = now
            self._slot_ends = (now + 1) * self._slot_seconds
            self._balance = sum(self._slots)


def _validate(ratio: float, min_per_second: float, window_seconds: float) -> None:
    if not 0 <= ratio <= 1000:
        raise InvalidValueError("ratio", ratio, "a number from 0 to 1000")
    if not 0 <= min_per_second <= 1_000_000:
        raise InvalidValueError("min_per_second", min_per_second, "a number from 0 to 1000000")
    if not 1 <= window_seconds <= 3600:
        raise InvalidValueError("window_seconds", window_seconds, "a number from 1 to 3600")
