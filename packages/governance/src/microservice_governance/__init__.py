"""Resilience policies that are right under concurrency: breaker, limiters, retry, deadline."""

from .backoff import Backoff, ExponentialBackoff, FixedBackoff, Jitter
from .breaker import CircuitBreaker, Permit
from .breaker_config import BreakerConfig, BreakerState
from .deadline import deadline
from .errors import (
    CircuitOpenError,
    DeadlineExceededError,
    GovernanceError,
    IllegalTransitionError,
    RateLimitedError,
    RejectedError,
)
from .limit_config import Decision, LimitConfig
from .limiter import RateLimiter
from .paced_limiter import PacedLimiter
from .policy import Policy
from .retry import Retry, RetryConfig
from .retry_budget import RetryBudget

__all__ = (
    "Backoff",
    "BreakerConfig",
    "BreakerState",
    "CircuitBreaker",
    "CircuitOpenError",
    "DeadlineExceededError",
    "Decision",
    "ExponentialBackoff",
    "FixedBackoff",
    "GovernanceError",
    "IllegalTransitionError",
    "Jitter",
    "LimitConfig",
    "PacedLimiter",
    "Permit",
    "Policy",
    "RateLimitedError",
    "RateLimiter",
    "RejectedError",
    "Retry",
    "RetryBudget",
    "RetryConfig",
    "deadline",
)
