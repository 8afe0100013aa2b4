"""Resilience policies that are correct under concurrency: breaker, limits, retry, hedge, pipeline."""

from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from microservice_core import MissingDependencyError

from .breaker.circuit_breaker import CircuitBreaker
from .breaker.config import BreakerConfig, BreakerState
from .breaker.keyed import KeyedCircuitBreakers
from .breaker.outcome_report import OutcomeReport
from .breaker.permit import Permit
from .concurrency.adaptive_limit import AdaptiveLimit
from .concurrency.bulkhead import Bulkhead, BulkheadConfig
from .concurrency.load_shedding import LoadShedding, Priority, priority
from .errors import (
    BulkheadFullError,
    CircuitOpenError,
    DeadlineExceededError,
    GovernanceError,
    IllegalTransitionError,
    InjectedFaultError,
    InvalidSettingsError,
    LimitReachedError,
    LoadShedError,
    PipelineOrderError,
    RateLimitedError,
    RejectedError,
    TimeoutExceededError,
)
from .events import (
    CallHedged,
    CallRejected,
    CallRetried,
    CallTimedOut,
    FallbackUsed,
    FaultInjected,
    LimitChanged,
    PolicyEvent,
    StateChanged,
)
from .fallback import Fallback
from .fault_injection import FaultInjection, FaultInjectionConfig
from .metrics import record_metrics
from .pipelines.build import ConfiguredPipeline, build_pipeline
from .pipelines.config import (
    AdaptiveLimitConfig,
    HedgeConfig,
    PipelineConfig,
    RetryBudgetConfig,
    TimeoutConfig,
    database_defaults,
    http_client_defaults,
    message_consumer_defaults,
)
from .pipelines.pipeline import Pipeline, pipeline
from .pipelines.registry import Registry
from .policy import Policy
from .rate_limit.config import Decision, LimitConfig
from .rate_limit.headers import rate_limit_headers, retry_after_seconds
from .rate_limit.keyed import KeyedLimit, KeyedRateLimiter
from .rate_limit.keys import LimitKey
from .rate_limit.limiter import RateLimiter
from .rate_limit.paced import PacedLimiter
from .rate_limit.sliding_window import SlidingWindowLimiter
from .retry.backoff import Backoff, DecorrelatedBackoff, ExponentialBackoff, FixedBackoff, Jitter
from .retry.budget import RetryBudget
from .retry.config import RetryConfig
from .retry.hedge import Hedge
from .retry.latency import LatencyPercentile
from .retry.retry import Attempt, Retry, RetryBlock
from .testing_mode import testing
from .timeouts.deadline import deadline
from .timeouts.timeout import Timeout

if TYPE_CHECKING:
    from .breaker.sharing import AsyncRedisBreakerSharing, RedisBreakerSharing
    from .rate_limit.async_redis_limiter import AsyncRedisRateLimiter
    from .rate_limit.redis_limiter import RedisRateLimiter

__all__ = (
    "AdaptiveLimit",
    "AdaptiveLimitConfig",
    "AsyncRedisBreakerSharing",
    "AsyncRedisRateLimiter",
    "Attempt",
    "Backoff",
    "BreakerConfig",
    "BreakerState",
    "Bulkhead",
    "BulkheadConfig",
    "BulkheadFullError",
    "CallHedged",
    "CallRejected",
    "CallRetried",
    "CallTimedOut",
    "CircuitBreaker",
    "CircuitOpenError",
    "ConfiguredPipeline",
    "DeadlineExceededError",
    "Decision",
    "DecorrelatedBackoff",
    "ExponentialBackoff",
    "Fallback",
    "FallbackUsed",
    "FaultInjected",
    "FaultInjection",
    "FaultInjectionConfig",
    "FixedBackoff",
    "GovernanceError",
    "Hedge",
    "HedgeConfig",
    "IllegalTransitionError",
    "InjectedFaultError",
    "InvalidSettingsError",
    "Jitter",
    "KeyedCircuitBreakers",
    "KeyedLimit",
    "KeyedRateLimiter",
    "LatencyPercentile",
    "LimitChanged",
    "LimitConfig",
    "LimitKey",
    "LimitReachedError",
    "LoadShedError",
    "LoadShedding",
    "OutcomeReport",
    "PacedLimiter",
    "Permit",
    "Pipeline",
    "PipelineConfig",
    "PipelineOrderError",
    "Policy",
    "PolicyEvent",
    "Priority",
    "RateLimitedError",
    "RateLimiter",
    "RedisBreakerSharing",
    "RedisRateLimiter",
    "Registry",
    "RejectedError",
    "Retry",
    "RetryBlock",
    "RetryBudget",
    "RetryBudgetConfig",
    "RetryConfig",
    "SlidingWindowLimiter",
    "StateChanged",
    "Timeout",
    "TimeoutConfig",
    "TimeoutExceededError",
    "build_pipeline",
    "database_defaults",
    "deadline",
    "http_client_defaults",
    "message_consumer_defaults",
    "pipeline",
    "priority",
    "rate_limit_headers",
    "record_metrics",
    "retry_after_seconds",
    "testing",
)

_LAZY = {
    "AsyncRedisBreakerSharing": ".breaker.sharing",
    "AsyncRedisRateLimiter": ".rate_limit.async_redis_limiter",
    "RedisBreakerSharing": ".breaker.sharing",
    "RedisRateLimiter": ".rate_limit.redis_limiter",
}


def _unavailable(name: str, error: MissingDependencyError) -> type:
    """A class whose construction raises `error`, so that importing its name does not fail."""

    def refuse(_cls: type, *_args: object, **_kwargs: object) -> NoReturn:
        raise error

    return type(name, (), {"__new__": refuse, "__doc__": str(error)})


def __getattr__(name: str) -> object:
    """Import a name that needs an extra when it is first used."""
    if name in _LAZY:
        try:
            return getattr(import_module(_LAZY[name], __name__), name)
        except MissingDependencyError as error:
            return _unavailable(name, error)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
