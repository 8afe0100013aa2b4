"""GCRA: the leaky bucket whose whole state is one number, the theoretical arrival time.

All times are whole nanoseconds, so that no rounding error adds up. Source: ITU-T I.371 annex A, and redis-cell
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

# The constructor of a NamedTuple is a Python function; this is the C function it calls.
_new_tuple = tuple.__new__


class Gcra:
    """The rule of one limit, without state: the caller keeps the arrival time."""

    __slots__ = ("emission", "tolerance")

    def __init__(self, config: LimitConfig) -> None:
        self.emission = config.emission(NANOSECONDS)
        self.tolerance = config.capacity * self.emission

    def decide(self, arrival: int, now: int, cost: int) -> tuple[int, Decision]:
        """The new arrival time to keep, and the decision.

        Args:
            arrival: the arrival time kept last; anything up to `now` for an unused limit.
            now: nanoseconds, monotonic.
            cost: units; 0 only looks.
        """
        if arrival < now:  # noqa: PLR1730 - a call of max() costs more than the rest
            arrival = now
        emission = self.emission
        new_arrival = arrival + cost * emission
        early = new_arrival - self.tolerance - now  # nanoseconds that the request comes too early
        if early <= 0:
            reset = (new_arrival - now) / NANOSECONDS
            return new_arrival, _new_tuple(Decision, (True, -early // emission, -1.0, reset))
        exceeds_burst = cost * emission > self.tolerance
        remaining = max(0, (self.tolerance - arrival + now) // emission)
        retry = -1.0 if exceeds_burst else early / NANOSECONDS
        reset = (arrival - now) / NANOSECONDS
        return arrival, _new_tuple(Decision, (False, remaining, retry, reset))

    def take_one(self, arrival: int, now: int) -> int:
        """The new arrival time to keep if one unit passes; 0 if it does not.

        As `decide` for a policy's call, which needs no `Decision` when it is allowed.
        """
        new_arrival = (arrival if arrival > now else now) + self.emission  # noqa: FURB136 - as above
        return new_arrival if new_arrival - self.tolerance <= now else 0

    def adopt(self, arrival: int, now: int, previous: Gcra) -> int:
        """The arrival time under this rule of what was taken under `previous`.

        The units taken before count as units, at the pace of this rule, and as one burst at most.
        """
        used = max(0, arrival - now) / previous.emission
        return now + min(self.tolerance, round(used * self.emission))

    def wait_seconds(self, arrival: int, now: int, cost: int) -> float:
        """Seconds until `cost` units would pass if no other units were taken."""
        early = max(arrival, now) + cost * self.emission - self.tolerance - now
        return max(0.0, early / NANOSECONDS)


def nanoseconds(clock: Callable[[], float]) -> Callable[[], int]:
    """The clock in whole nanoseconds, rounded: a truncated float would be a little too early."""
    if clock is time.monotonic:
        return time.monotonic_ns
    return lambda: int(clock() * NANOSECONDS + 0.5)
