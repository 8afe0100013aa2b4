"""Settings of a breaker: when it opens, for how long, what it counts; in Resilience4j's terms."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from microservice_core import backoff_seconds
from microservice_governance.exception_types import NamedExceptions

__all__ = ("BreakerConfig", "BreakerState")

Rate = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BreakerState(StrEnum):
    """The state of a breaker; the first three strings are pybreaker's."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    FORCED_OPEN = "forced-open"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics-only"


class BreakerConfig(BaseModel):
    """The settings of one breaker, validated together.

    Attributes:
        failure_rate_threshold: share of failed calls in the window, above 0 to 1, that opens the
            circuit; None disables the rule.
        slow_call_rate_threshold: share of slow calls in the window, above 0 to 1, that opens the
            circuit; None disables the rule.
        slow_call_seconds: a call of this duration or longer is slow.
        sliding_window_type: the window holds the last calls (`count`) or the last seconds (`time`).
        sliding_window_size: size of the window, in calls or whole seconds.
        minimum_calls: the two rates apply only with at least this many calls in the window.
        consecutive_failures: failures in a row that open the circuit; None disables the rule.
        open_seconds: how long an open circuit refuses calls before it admits trial calls.
        open_seconds_multiplier: factor by which each failed trial lengthens the next open time.
        max_open_seconds: upper bound of the open time.
        permitted_half_open_calls: trial calls in half-open; all others are refused.
        max_half_open_seconds: trial calls that have not ended after this time are given up and
            new ones admitted; None means `open_seconds`.
        record_exceptions: exceptions that count as a failure; all others count as success.
        ignore_exceptions: exceptions that are not counted at all. An `ExceptionGroup` is judged by the
            errors in it: a failure if one of them is, nothing if all of them are ignored.
        record_exception: predicate on a recorded exception; false makes it count as success.
        record_result: predicate on a returned value; true makes the call count as a failure.
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
    def _check_consistency(self) -> Self:
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
        """Seconds that the circuit stays open the n-th time in a row, counted from 1."""
        return backoff_seconds(
            openings,
            initial_seconds=self.open_seconds,
            max_seconds=self.max_open_seconds,
            multiplier=self.open_seconds_multiplier,
        )
