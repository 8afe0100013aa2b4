"""Settings of a whole pipeline, in a form that a configuration center can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from microservice_governance.breaker.config import BreakerConfig
from microservice_governance.concurrency.bulkhead import BulkheadConfig
from microservice_governance.concurrency.estimators import AlgorithmName
from microservice_governance.exception_types import NamedExceptions
from microservice_governance.fault_injection import FaultInjectionConfig
from microservice_governance.rate_limit.config import LimitConfig
from microservice_governance.retry.config import RetryConfig

__all__ = (
    "AdaptiveLimitConfig",
    "HedgeConfig",
    "PipelineConfig",
    "RetryBudgetConfig",
    "TimeoutConfig",
    "database_defaults",
    "http_client_defaults",
    "message_consumer_defaults",
)

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class TimeoutConfig(_Config):
    """Settings of a `Timeout`.

    Attributes:
        seconds: time limit of a call or an attempt.
    """

    seconds: Seconds


class AdaptiveLimitConfig(_Config):
    """Settings of an `AdaptiveLimit`, which documents them."""

    algorithm: AlgorithmName = "gradient2"
    initial: Annotated[int, Field(ge=1, le=100_000)] = 20
    min_limit: Annotated[int, Field(ge=1, le=100_000)] = 1
    max_limit: Annotated[int, Field(ge=1, le=100_000)] = 1000

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if not self.min_limit <= self.initial <= self.max_limit:
            raise ValueError(
                f"initial ({self.initial}) must be from min_limit ({self.min_limit}) to "
                f"max_limit ({self.max_limit})"
            )
        return self


class HedgeConfig(_Config):
    """Settings of a `Hedge`: exactly one of the two delays is set.

    Attributes:
        delay_seconds: delay before another attempt.
        delay_percentile: share of the calls, between 0 and 1; another attempt starts after the
            duration that this share of the recent calls did not exceed.
        attempts: concurrent attempts, the first included.
        budget_ratio: additional attempts per call, on average.
        on: exceptions after which another attempt is made.
    """

    delay_seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None
    delay_percentile: Annotated[float, Field(gt=0, lt=1)] | None = None
    attempts: Annotated[int, Field(ge=2, le=10)] = 2
    budget_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    on: NamedExceptions = (Exception,)

    @model_validator(mode="after")
    def _check_delays(self) -> Self:
        if (self.delay_seconds is None) == (self.delay_percentile is None):
            raise ValueError("set exactly one of delay_seconds and delay_percentile")
        return self


class RetryBudgetConfig(_Config):
    """Settings of the `RetryBudget` that all calls of a pipeline share; it documents them."""

    ratio: Annotated[float, Field(ge=0, le=1000)] = 0.2
    min_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = 10.0
    window_seconds: Annotated[float, Field(ge=1, le=3600)] = 10.0


class PipelineConfig(_Config):
    """The policies of a pipeline; those that are None are not applied.

    In a mapping, each policy may have `enabled: false` beside its settings: the settings are kept
    and the policy is not applied. The order is always the recommended one: timeout, bulkhead,
    adaptive_limit, retry (with retry_budget), hedge, circuit_breaker, rate_limit, attempt_timeout,
    fault_injection.

    Attributes:
        disabled: names of the policies with `enabled: false`.
    """

    timeout: TimeoutConfig | None = None
    bulkhead: BulkheadConfig | None = None
    adaptive_limit: AdaptiveLimitConfig | None = None
    retry: RetryConfig | None = None
    retry_budget: RetryBudgetConfig | None = None
    hedge: HedgeConfig | None = None
    circuit_breaker: BreakerConfig | None = None
    rate_limit: LimitConfig | None = None
    attempt_timeout: TimeoutConfig | None = None
    fault_injection: FaultInjectionConfig | None = None
    disabled: frozenset[str] = frozenset()

    ORDER: ClassVar[tuple[str, ...]] = (
        "timeout",
        "bulkhead",
        "adaptive_limit",
        "retry",
        "hedge",
        "circuit_breaker",
        "rate_limit",
        "attempt_timeout",
        "fault_injection",
    )

    @model_validator(mode="before")
    @classmethod
    def _extract_enabled_flags(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        settings, disabled = {}, set(value.get("disabled", ()))
        for name, part in value.items():
            settings[name] = part
            if isinstance(part, Mapping) and "enabled" in part:
                enabled = part["enabled"]
                if not isinstance(enabled, bool):
                    raise ValueError(f"{name}.enabled must be true or false, not {enabled!r}")
                settings[name] = {key: item for key, item in part.items() if key != "enabled"}
                disabled -= {name}
                disabled |= set() if enabled else {name}
        return {**settings, "disabled": disabled}

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        total, attempt = self._enabled_timeout("timeout"), self._enabled_timeout("attempt_timeout")
        if total and attempt and attempt.seconds >= total.seconds:
            raise ValueError(
                f"attempt_timeout ({attempt.seconds:g} s) must be below timeout "
                f"({total.seconds:g} s), or it never ends an attempt"
            )
        if self.retry_budget is not None and self.retry is None:
            raise ValueError("retry_budget without retry has nothing to bound: drop it")
        has_breaker = self.circuit_breaker and "circuit_breaker" not in self.disabled
        if has_breaker and total and attempt is None:
            raise ValueError(
                "circuit_breaker needs attempt_timeout inside timeout: a call that is cancelled "
                "from outside does not count, so a backend that hangs would never open it"
            )
        return self

    def _enabled_timeout(self, part: Literal["timeout", "attempt_timeout"]) -> TimeoutConfig | None:
        return None if part in self.disabled else getattr(self, part)


def http_client_defaults() -> PipelineConfig:
    """For idempotent HTTP calls: 10 s in total, 3 attempts of 5 s, a breaker at 50 % failures."""
    return PipelineConfig(
        timeout=TimeoutConfig(seconds=10),
        bulkhead=BulkheadConfig(limit=200, queue=200),
        retry=RetryConfig(on=(ConnectionError, TimeoutError), attempts=3),
        retry_budget=RetryBudgetConfig(),
        circuit_breaker=BreakerConfig(),
        attempt_timeout=TimeoutConfig(seconds=5),
    )


def database_defaults() -> PipelineConfig:
    """For a database: few concurrent calls, a bounded queue, one attempt of 5 s."""
    return PipelineConfig(
        bulkhead=BulkheadConfig(limit=20, queue=100, max_wait_seconds=2),
        circuit_breaker=BreakerConfig(open_seconds=5),
        attempt_timeout=TimeoutConfig(seconds=5),
    )


def message_consumer_defaults() -> PipelineConfig:
    """For message consumers, which may take longer: 5 attempts in 2 minutes, with growing waits."""
    return PipelineConfig(
        timeout=TimeoutConfig(seconds=120),
        retry=RetryConfig(on=(ConnectionError, TimeoutError), attempts=5),
        attempt_timeout=TimeoutConfig(seconds=30),
    )
