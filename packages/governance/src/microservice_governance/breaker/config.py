"""When a breaker opens, for how long, and what it counts; in Resilience4j's terms."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from microservice_governance.named_exceptions import NamedExceptions

__all__ = ("BreakerConfig", "BreakerState")

Rate = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BreakerState(StrEnum):
    """Where a breaker stands; the first three strings are pybreaker's own."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    FORCED_OPEN = "forced-open"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics-only"


class BreakerConfig(BaseModel):
    """The settings of one breaker, checked together.

    Attributes:
        failure_rate_threshold: opens when this share of the window failed; None = never for that.
        slow_call_rate_threshold: opens when this share of the window was slow; None = never.
        slow_call_seconds: a call that takes this long is slow.
        sliding_window_type: the last calls (`count`) or the last seconds (`time`).
        sliding_window_size: how many calls or whole seconds.
        minimum_calls: fewer calls in the window decide nothing.
        consecutive_failures: opens after that many failures in a row; None = never for that.
        open_seconds: how long an open circuit refuses before it tries again.
        open_seconds_multiplier: each failed trial makes the next open time longer by this factor.
        max_open_seconds: no open time grows beyond this.
        permitted_half_open_calls: trial calls in half-open; all others are refused.
        max_half_open_seconds: trial calls that have not come back by then are given up and new
            ones let in; None = after `open_seconds`.
        record_exceptions: what counts as a failure; any other exception counts as success.
        ignore_exceptions: what counts as neither.
        record_exception: an exception of those for which this is false counts as success.
        record_result: a returned value for which this is true counts as a failure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    failure_rate_threshold: Rate | None = 0.5
    slow_call_rate_threshold: Rate | None = None
    slow_call_seconds: Seconds = 60.0
    sliding_window_type: Literal["count", "time"] = "count"
    sliding_window_size: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    minimum_calls: Annotated[int, Field(ge=1)] = 20
    consecutive_failures: Annotated[int, Field(ge=1)] | None = None
    open_seconds: Seconds = 30.0
    open_seconds_multiplier: Annotated[float, Field(ge=1, le=100)] = 1.0
    max_open_seconds: Seconds = 300.0
    permitted_half_open_calls: Annotated[int, Field(ge=1)] = 3
    max_half_open_seconds: Seconds | None = None
    record_exceptions: NamedExceptions = (Exception,)
    ignore_exceptions: NamedExceptions = ()
    record_exception: Callable[[Exception], bool] | None = None
    record_result: Callable[[object], bool] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sliding_window_type == "count" and self.minimum_calls > self.sliding_window_size:
            raise ValueError(
                f"minimum_calls ({self.minimum_calls}) must be at most sliding_window_size "
                f"({self.sliding_window_size}), or the window never decides"
            )
        if self.max_open_seconds < self.open_seconds:
            raise ValueError(
                f"max_open_seconds ({self.max_open_seconds}) must be at least open_seconds "
                f"({self.open_seconds})"
            )
        if not (
            self.failure_rate_threshold
            or self.slow_call_rate_threshold
            or self.consecutive_failures
        ):
            raise ValueError(
                "one of failure_rate_threshold, slow_call_rate_threshold and consecutive_failures "
                "must be set, or the breaker never opens; set its state to 'disabled' if that is "
                "what you want"
            )
        return self

    def open_seconds_after(self, openings: int) -> float:
        """How long the circuit stays open the n-th time in a row (from 1)."""
        try:
            grown = self.open_seconds * self.open_seconds_multiplier ** (openings - 1)
        except OverflowError:
            return self.max_open_seconds
        return min(grown, self.max_open_seconds)
