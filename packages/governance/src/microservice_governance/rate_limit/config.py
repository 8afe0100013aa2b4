"""How much is let through in how much time."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ("Decision", "LimitConfig")

NANOSECONDS = 1_000_000_000


class LimitConfig(BaseModel):
    """`rate` units every `per_seconds`, up to `burst` of them at once.

    Within any stretch of time `t` at most `burst + rate * t / per_seconds` units pass. With `hard`
    it is at most `rate` in any stretch of `per_seconds`, wherever it begins: the burst is then
    taken from the rate, so that `rate - burst` per period pass in the long run.

    Attributes:
        rate: units let through per period.
        per_seconds: the period.
        burst: units that may pass at once after a quiet time; when not given it is `rate`, or a
            tenth of it with `hard`.
        hard: never more than `rate` in any period.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: Annotated[int, Field(ge=1, le=1_000_000_000)]
    per_seconds: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] = 1.0
    burst: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    hard: bool = False

    @model_validator(mode="after")
    def _hard_leaves_something(self) -> Self:
        if self.hard and self.rate > 1 and self.capacity >= self.rate:
            raise ValueError(
                f"burst ({self.burst}) must be below rate ({self.rate}) with hard, "
                "or nothing but one burst would ever pass"
            )
        return self

    @property
    def capacity(self) -> int:
        """Units that may pass at once."""
        if self.burst is not None:
            return self.burst
        return max(1, self.rate // 10) if self.hard else self.rate

    def emission(self, ticks_per_second: int) -> int:
        """Ticks one unit costs; rounded up, or the last unit of a burst would come too early."""
        period = self.per_seconds * ticks_per_second
        if not self.hard:
            return max(1, math.ceil(period / self.rate))
        # A stretch that holds both its ends holds one more: a single unit needs more than it.
        steady = self.rate - self.capacity
        return math.ceil(period) + 1 if steady == 0 else math.ceil(period / steady)


class Decision(NamedTuple):
    """What a limiter said.

    Attributes:
        allowed: the units may pass, and were counted.
        remaining: units that could pass right now after this decision.
        retry_after: seconds until the same request would pass; -1 when it was allowed, or never
            can be because it asks for more than the burst.
        reset_after: seconds until the whole burst is free again.
    """

    allowed: bool
    remaining: int
    retry_after: float
    reset_after: float
