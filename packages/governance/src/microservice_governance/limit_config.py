"""How much is let through in how much time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ("Decision", "LimitConfig")

NANOSECONDS = 1_000_000_000


class LimitConfig(BaseModel):
    """`rate` units every `per_seconds`, up to `burst` of them at once.

    Within any stretch of time `t` at most `burst + rate * t / per_seconds` units pass.

    Attributes:
        rate: units let through per period.
        per_seconds: the period.
        burst: units that may pass at once after a quiet time; `rate` when not given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: Annotated[int, Field(ge=1, le=1_000_000_000)]
    per_seconds: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] = 1.0
    burst: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None

    @property
    def capacity(self) -> int:
        """Units that may pass at once."""
        return self.rate if self.burst is None else self.burst

    @property
    def emission_nanoseconds(self) -> int:
        """Time one unit costs; rounded up, or the last unit of a burst would come too early."""
        return max(1, math.ceil(self.per_seconds * NANOSECONDS / self.rate))


@dataclass(frozen=True, slots=True)
class Decision:
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
