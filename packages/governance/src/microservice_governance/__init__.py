"""Resilience policies that are right under concurrency: breaker, limits, retry, hedge, pipeline."""

from .backoff import Backoff, DecorrelatedBackoff, ExponentialBackoff, FixedBackoff, Jitter
from .breaker import CircuitBreaker, Permit
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
from .hedge import Hedge
from .latency import LatencyPercentile
from .limit_config import Decision, LimitConfig
from .limiter import RateLimiter
from .paced_limiter import PacedLimiter
from .pipeline import Pipeline, pipeline
from .policy import Policy
from .retry import Retry
from .retry_block import Attempt, RetryBlock
from .retry_budget import RetryBudget
from .retry_config import RetryConfig
from .testing_mode import testing
from .timeout import Timeout

__all__ = (
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
    "DeadlineExceededError",
    "Decision",
    "DecorrelatedBackoff",
    "ExponentialBackoff",
    "Fallback",
    "FallbackUsed",
    "FaultInjected",
    "FixedBackoff",
    "GovernanceError",
    "Hedge",
    "IllegalTransitionError",
    "InjectedFaultError",
    "Jitter",
    "LatencyPercentile",
    "LimitChanged",
    "LimitConfig",
    "LimitReachedError",
    "LoadShedError",
    "PacedLimiter",
    "Permit",
    "Pipeline",
    "PipelineOrderError",
    "Policy",
    "PolicyEvent",
    "RateLimitedError",
    "RateLimiter",
    "RejectedError",
    "Retry",
    "RetryBlock",
    "RetryBudget",
    "RetryConfig",
    "StateChanged",
    "Timeout",
    "TimeoutExceededError",
    "deadline",
    "pipeline",
    "testing",
)
