"""Settings of a rate limit, and the decision of a limiter."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ("NANOSECONDS", "Decision", "LimitConfig")

NANOSECONDS = 1_000_000_000
"""Ticks of a second for limits in this process."""


class LimitConfig(BaseModel):
    """`rate` units every `per_seconds`, up to `burst` of them at once.

    In any interval of `t` seconds at most `burst + rate * t / per_seconds` units pass. With `hard`
    at most `rate` units pass in any interval of `per_seconds`, wherever it begins: the burst is
    then taken from the rate, and `rate - burst` units per period pass in the long run.

    Attributes:
        rate: units per period.
        per_seconds: length of the period.
        burst: units that may pass at once after a quiet time; by default `rate`, or a tenth of it
            with `hard`.
        hard: never more than `rate` in any period.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: Annotated[int, Field(ge=1, le=1_000_000_000)]
    per_seconds: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] = 1.0
    burst: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    hard: bool = False

    @model_validator(mode="after")
    def _check_hard_limit(self) -> Self:
        if self.hard and self.rate > 1 and self.capacity >= self.rate:
            raise ValueError(
                f"burst ({self.burst}) must be below rate ({self.rate}) with hard, "
                "or only a single burst would ever pass"
            )
        return self

    @property
    def capacity(self) -> int:
        """Units that may pass at once."""
        if self.burst is not None:
            return self.burst
        return max(1, self.rate // 10) if self.hard else self.rate

    def emission(self, ticks_per_second: int) -> int:
        """Ticks that one unit costs; rounded up, or the last unit of a burst would pass too early."""
        period = self.per_seconds * ticks_per_second
        if not self.hard:
            return max(1, math.ceil(period / self.rate))
        # A closed interval of n periods holds n + 1 units that are one period apart. So with a
        # single unit per period two units must be more than a period apart.
        steady = self.rate - self.capacity
        return math.ceil(period) + 1 if steady == 0 else math.ceil(period / steady)


class Decision(NamedTuple):
    """The decision of a limiter.

    Attributes:
        allowed: the units may pass, and are counted.
        remaining: units that could pass right after this decision.
        retry_after: seconds until the same request would pass; -1 if it was allowed, or if it can
            never pass because it is larger than the burst.
        reset_after: seconds until the whole burst is free again.
    """

    allowed: bool
    remaining: int
    retry_after: float
    reset_after: float
