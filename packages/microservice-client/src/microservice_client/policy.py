"""How calls to a service behave: time limits, attempts, breaker, balancer."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ("ServicePolicy",)


class ServicePolicy(BaseModel):
    """The behaviour of calls to one service; every field has a sane default.

    Attributes:
        connect_timeout_seconds: for one connection.
        attempt_timeout_seconds: for one attempt, until its response's headers are there.
        total_timeout_seconds: for the call with all its attempts.
        attempts: tries at most, each on another instance while there is one.
        retry_statuses: responses that count as "try another one".
        backoff_seconds: wait before the second attempt, doubled for each further one, jittered.
        balancer: a name that `microservice_lb.create` knows.
        breaker_failures: failures in a row after which an instance is left alone.
        breaker_open_seconds: for how long.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    connect_timeout_seconds: float = Field(default=1.0, gt=0)
    attempt_timeout_seconds: float = Field(default=5.0, gt=0)
    total_timeout_seconds: float = Field(default=10.0, gt=0)
    attempts: int = Field(default=3, ge=1, le=10)
    retry_statuses: frozenset[int] = frozenset({502, 503, 504})
    backoff_seconds: float = Field(default=0.025, ge=0)
    balancer: str = "peak_ewma"
    breaker_failures: int = Field(default=5, ge=1)
    breaker_open_seconds: float = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _one_attempt_fits(self) -> Self:
        if self.attempt_timeout_seconds > self.total_timeout_seconds:
            raise ValueError(
                "attempt_timeout_seconds must not be above total_timeout_seconds "
                f"({self.attempt_timeout_seconds:g} > {self.total_timeout_seconds:g})"
            )
        return self
