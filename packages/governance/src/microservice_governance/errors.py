"""Everything the policies raise on purpose.

GovernanceError
├── RejectedError: a policy refused the call; nothing was called
│   ├── CircuitOpenError (also a pybreaker.CircuitBreakerError)
│   └── RateLimitedError
├── DeadlineExceededError (also a TimeoutError)
└── IllegalTransitionError
"""

from __future__ import annotations

import pybreaker

from microservice_core import MicroserviceError

__all__ = (
    "CircuitOpenError",
    "DeadlineExceededError",
    "GovernanceError",
    "IllegalTransitionError",
    "RateLimitedError",
    "RejectedError",
)


class GovernanceError(MicroserviceError):
    """Root of every error a policy raises on purpose."""


class RejectedError(GovernanceError):
    """A policy refused the call; nothing was called. Breakers count it as no outcome.

    Attributes:
        policy: the kind of policy, e.g. `circuit_breaker`.
        name: which one.
        retry_after: seconds after which another try may be let in; None if nobody knows.
    """

    def __init__(
        self, message: str, *, policy: str, name: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.policy = policy
        self.name = name
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    kind: type[RejectedError], arguments: tuple[object, ...], attributes: dict[str, object]
) -> RejectedError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class CircuitOpenError(RejectedError, pybreaker.CircuitBreakerError):
    """The circuit is open, or half-open with every trial call taken."""

    def __init__(self, name: str, state: str, retry_after: float | None) -> None:
        if retry_after is None:
            advice = "it stays so until somebody moves it to another state"
        else:
            advice = f"try again in {retry_after:.3f} s or call another instance"
        super().__init__(
            f"circuit {name!r} is {state}: {advice}",
            policy="circuit_breaker",
            name=name,
            retry_after=retry_after,
        )
        self.state = state


class RateLimitedError(RejectedError):
    """The limit is reached; nothing was taken."""

    def __init__(self, name: str, rate: int, per_seconds: float, retry_after: float | None) -> None:
        advice = "ask for less" if retry_after is None else f"try again in {retry_after:.3f} s"
        super().__init__(
            f"{name!r} lets {rate} pass per {per_seconds:g} s and is used up: {advice}",
            policy="rate_limiter",
            name=name,
            retry_after=retry_after,
        )


class DeadlineExceededError(GovernanceError, TimeoutError):
    """The deadline in force has passed; give the whole call more time or do less in it."""


class IllegalTransitionError(GovernanceError):
    """The breaker may not move from its state to that one; go through `closed` first."""

    def __init__(self, name: str, old: str, new: str) -> None:
        super().__init__(
            f"circuit {name!r} may not go from {old} to {new}; move it to 'closed' first"
        )
        self.name = name
        self.old = old
        self.new = new

    def __reduce__(self) -> tuple[type[IllegalTransitionError], tuple[str, str, str]]:
        return type(self), (self.name, self.old, self.new)
