"""Resilience policies that are right under concurrency: breaker, limits, retry, hedge, pipeline."""

from importlib import import_module
from typing import TYPE_CHECKING

from .adaptive_limit import AdaptiveLimit
from .backoff import Backoff, DecorrelatedBackoff, ExponentialBackoff, FixedBackoff, Jitter
from .breaker import CircuitBreaker
from .breaker_config import BreakerConfig, BreakerState
from .bulkhead import Bulkhead, BulkheadConfig
from .deadline import deadline
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
from .hedge import Hedge
from .keyed_breakers import KeyedCircuitBreakers
from .keyed_limit import KeyedLimit
from .keyed_limiter import KeyedRateLimiter
from .latency import LatencyPercentile
from .limit_config import Decision, LimitConfig
from .limiter import RateLimiter
from .load_shedding import LoadShedding, Priority, priority
from .metrics import record_metrics
from .outcome_report import OutcomeReport
from .paced_limiter import PacedLimiter
from .permit import Permit
from .pipeline import Pipeline, pipeline
from .pipeline_build import ConfiguredPipeline, build_pipeline
from .pipeline_config import (
    AdaptiveLimitConfig,
    HedgeConfig,
    PipelineConfig,
    RetryBudgetConfig,
    TimeoutConfig,
    database_defaults,
    http_client_defaults,
    message_consumer_defaults,
)
from .policy import Policy
from .rate_limit_headers import rate_limit_headers, retry_after_seconds
from .registry import Registry
from .retry import Retry
from .retry_block import Attempt, RetryBlock
from .retry_budget import RetryBudget
from .retry_config import RetryConfig
from .sliding_window import SlidingWindowLimiter
from .testing_mode import testing
from .timeout import Timeout

if TYPE_CHECKING:
    from .async_redis_limiter import AsyncRedisRateLimiter
    from .breaker_sharing import AsyncRedisBreakerSharing, RedisBreakerSharing
    from .redis_limiter import RedisRateLimiter

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
    "AsyncRedisBreakerSharing": ".breaker_sharing",
    "AsyncRedisRateLimiter": ".async_redis_limiter",
    "RedisBreakerSharing": ".breaker_sharing",
    "RedisRateLimiter": ".redis_limiter",
}


def __getattr__(name: str) -> object:
    """What needs an extra is imported when it is asked for."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
