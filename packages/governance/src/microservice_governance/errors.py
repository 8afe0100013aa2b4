"""The errors that policies raise.

GovernanceError
├── RejectedError: a policy refused the call; the function was not called
│   ├── CircuitOpenError (also a pybreaker.CircuitBreakerError)
│   ├── RateLimitedError
│   ├── BulkheadFullError
│   ├── LimitReachedError: an adaptive limit
│   └── LoadShedError
├── DeadlineExceededError (also a TimeoutError): the deadline passed before the call began
├── TimeoutExceededError (also a TimeoutError): the call was cancelled
├── InjectedFaultError: raised by fault injection
├── PipelineOrderError (also a ValueError)
├── InvalidSettingsError (also a ValueError): settings of a registry
└── IllegalTransitionError
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pybreaker
from pydantic import ValidationError

from microservice_core import MicroserviceError

__all__ = (
    "BulkheadFullError",
    "CircuitOpenError",
    "DeadlineExceededError",
    "GovernanceError",
    "IllegalTransitionError",
    "InjectedFaultError",
    "InvalidSettingsError",
    "LimitReachedError",
    "LoadShedError",
    "PipelineOrderError",
    "RateLimitedError",
    "RejectedError",
    "TimeoutExceededError",
)


class GovernanceError(MicroserviceError):
    """Root of every error a policy raises."""


class RejectedError(GovernanceError):
    """A policy refused the call; the function was not called. Breakers do not count it.

    Attributes:
        policy: the kind of policy, e.g. `circuit_breaker`.
        name: the policy's name.
        retry_after: seconds until another call may be let in; None if unknown.
    """

    policy: str
    name: str
    retry_after: float | None

    def __init__(
        self, message: str, *, policy: str, name: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.policy = policy
        self.name = name
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return _restore_error, (type(self), self.args, self.__dict__)


def _restore_error(
    kind: type[RejectedError], arguments: tuple[object, ...], attributes: dict[str, object]
) -> RejectedError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class CircuitOpenError(RejectedError, pybreaker.CircuitBreakerError):
    """The circuit is open, or half-open with every trial call taken."""

    policy = "circuit_breaker"

    # An open circuit refuses thousands of calls a second, so a refusal must be cheap: the three
    # values are kept as `args`, which C code fills without a Python frame, and the message is
    # built only in `__str__`.
    if TYPE_CHECKING:

        def __init__(self, name: str, state: str, retry_after: float | None) -> None: ...
    else:
        __init__ = Exception.__init__

    @property
    def name(self) -> str:  # type: ignore[override] # read-only here
        return str(self.args[0])

    @property
    def state(self) -> str:
        return str(self.args[1])

    @property
    def retry_after(self) -> float | None:  # type: ignore[override] # read-only here
        return cast("float | None", self.args[2])

    def __str__(self) -> str:
        if self.retry_after is None:
            advice = "it stays so until it is moved to another state"
        else:
            advice = f"try again in {self.retry_after:.3f} s or call another instance"
        return f"circuit {self.name!r} is {self.state}: {advice}"


class RateLimitedError(RejectedError):
    """A rate limit is exhausted; no units were taken.

    Attributes:
        rate: units that the limit lets through per period.
        per_seconds: length of the period.
    """

    policy = "rate_limiter"

    def __init__(
        self, name: str, rate: float, per_seconds: float, retry_after: float | None
    ) -> None:
        self.name = name
        self.rate = rate
        self.per_seconds = per_seconds
        self.retry_after = retry_after

    def __str__(self) -> str:
        wait = self.retry_after
        never = wait is None or wait < 0
        advice = "request fewer units" if never else f"try again in {wait:.3f} s"
        return (
            f"rate limit {self.name!r} ({self.rate:g} per {self.per_seconds:g} s) "
            f"is exhausted: {advice}"
        )


class BulkheadFullError(RejectedError):
    """The bulkhead and its queue are full, or no permit came free in time.

    Attributes:
        limit: calls that the bulkhead lets run at once.
    """

    def __init__(self, name: str, limit: int, waited: float | None = None) -> None:
        reason = "no room to wait" if waited is None else f"none ended within {waited:g} s"
        super().__init__(
            f"bulkhead {name!r} is full: {limit} calls in flight and {reason}; "
            "retry later, raise `limit`, or give it a longer `queue`",
            policy="bulkhead",
            name=name,
        )
        self.limit = limit


class LimitReachedError(RejectedError):
    """An adaptive limit is reached: as many calls run as the service can handle now.

    Attributes:
        limit: that number of calls.
    """

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(
            f"{name!r} allows {limit} calls at once now, and all are in flight; retry later",
            policy="adaptive_limit",
            name=name,
        )
        self.limit = limit


class LoadShedError(RejectedError):
    """The load is too high for calls of this priority.

    Attributes:
        priority: the priority of the call.
        load: the measured load; 1 is full load.
    """

    def __init__(self, name: str, priority: str, load: float) -> None:
        super().__init__(
            f"{name!r} sheds calls of priority {priority} at a load of {load:.2f}; "
            "retry later, or call with a higher priority",
            policy="load_shedding",
            name=name,
        )
        self.priority = priority
        self.load = load


class DeadlineExceededError(GovernanceError, TimeoutError):
    """The deadline had passed before the call was made: give the whole call more time.

    The function was not called, so breakers do not count it.
    """


class TimeoutExceededError(GovernanceError, TimeoutError):
    """The call took too long and was cancelled; give it more time, or find out why it is slow.

    Attributes:
        name: the name of the timeout.
        seconds: the time the call had.
    """

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(
            f"{name!r} cancelled the call after {seconds:.3f} s; "
            "give it more time, or find out why it is slow"
        )
        self.name = name
        self.seconds = seconds

    def __reduce__(self) -> tuple[type[TimeoutExceededError], tuple[str, float]]:
        return type(self), (self.name, self.seconds)


class InjectedFaultError(GovernanceError):
    """Fault injection failed this call; turn it off if no drill is running."""


class PipelineOrderError(GovernanceError, ValueError):
    """The policies of a pipeline are in an order that cannot work; the message explains it."""


class InvalidSettingsError(GovernanceError, ValueError):
    """Settings break a rule; the previous ones still apply.

    Attributes:
        location: where in the settings, e.g. `services.payments.retry.attempts`.
        rule: the rule that is broken.
    """

    def __init__(self, location: str, rule: str) -> None:
        super().__init__(f"{location}: {rule}; correct it and send the settings again")
        self.location = location
        self.rule = rule

    def __reduce__(self) -> tuple[type[InvalidSettingsError], tuple[str, str]]:
        return type(self), (self.location, self.rule)

    @classmethod
    def from_pydantic(cls, location: str, error: ValidationError) -> InvalidSettingsError:
        """The first problem that pydantic reports, in the settings at `location`.

        Only numbers, booleans and None are quoted: a text may hold a secret.
        """
        first = error.errors(include_url=False)[0]
        path = ".".join([location, *map(str, first["loc"])])
        value = first["input"]
        suffix = f", not {value!r}" if isinstance(value, int | float | bool | None) else ""
        return cls(path, f"{first['msg']}{suffix}")


class IllegalTransitionError(GovernanceError):
    """A breaker cannot move from its state to the requested one; move it to `closed` first."""

    def __init__(self, name: str, old: str, new: str) -> None:
        super().__init__(
            f"circuit {name!r} may not go from {old} to {new}; move it to 'closed' first"
        )
        self.name = name
        self.old = old
        self.new = new

    def __reduce__(self) -> tuple[type[IllegalTransitionError], tuple[str, str, str]]:
        return type(self), (self.name, self.old, self.new)
