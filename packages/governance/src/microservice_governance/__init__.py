"""Resilience policies that are right under concurrency: breaker, retry with budget, deadline."""

from .backoff import Backoff, ExponentialBackoff, FixedBackoff, Jitter
from .breaker import CircuitBreaker, Permit
from .breaker_config import BreakerConfig, BreakerState
from .deadline import deadline
from .errors import (
    CircuitOpenError,
    DeadlineExceededError,
    GovernanceError,
    IllegalTransitionError,
    RejectedError,
)
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
    "ExponentialBackoff",
    "FixedBackoff",
    "GovernanceError",
    "IllegalTransitionError",
    "Jitter",
    "Permit",
    "Policy",
    "RejectedError",
    "Retry",
    "RetryBudget",
    "RetryConfig",
    "deadline",
)
