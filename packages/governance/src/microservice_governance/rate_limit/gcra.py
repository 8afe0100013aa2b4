"""GCRA, the leaky bucket that needs one number per limit: the theoretical arrival time.

All times are whole nanoseconds, so that nothing drifts. Source: ITU-T I.371 annex A, and redis-cell
for the four numbers of a decision.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .config import NANOSECONDS, Decision

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import LimitConfig

__all__ = ("Gcra", "nanoseconds")

_new = tuple.__new__


class Gcra:
    """The rule of one limit; the state is the caller's."""

    __slots__ = ("emission", "tolerance")

    def __init__(self, config: LimitConfig) -> None:
        self.emission = config.emission(NANOSECONDS)
        self.tolerance = config.capacity * self.emission

    def decide(self, arrival: int, now: int, cost: int) -> tuple[int, Decision]:
        """The arrival time to keep, and the decision.

        Args:
            arrival: what was kept last; anything up to `now` for a limit that is unused.
            now: monotonic.
            cost: units; 0 only looks.
        """
        if arrival < now:  # noqa: PLR1730 - max() would take longer than all the rest
            arrival = now
        emission = self.emission
        later = arrival + cost * emission
        early = later - self.tolerance - now
        if early <= 0:
            taken = later - now
            return later, _new(Decision, (True, -early // emission, -1.0, taken / NANOSECONDS))
        never = cost * emission > self.tolerance
        remaining = max(0, (self.tolerance - arrival + now) // emission)
        retry = -1.0 if never else early / NANOSECONDS
        return arrival, _new(Decision, (False, remaining, retry, (arrival - now) / NANOSECONDS))

    def later(self, arrival: int, now: int) -> int:
        """The arrival time to keep when one unit passes; 0 when it does not."""
        later = (arrival if arrival > now else now) + self.emission  # noqa: FURB136 - as above
        return later if later - self.tolerance <= now else 0

    def wait(self, arrival: int, now: int, cost: int) -> float:
        """Seconds until `cost` units would pass if nobody else took any."""
        early = max(arrival, now) + cost * self.emission - self.tolerance - now
        return max(0.0, early / NANOSECONDS)


def nanoseconds(clock: Callable[[], float]) -> Callable[[], int]:
    """The clock in whole nanoseconds, rounded: a truncated float would be a little too early."""
    if clock is time.monotonic:
        return time.monotonic_ns
    return lambda: int(clock() * NANOSECONDS + 0.5)
