"""Everything the policies raise on purpose.

GovernanceError
├── RejectedError: a policy refused the call; nothing was called
│   ├── CircuitOpenError (also a pybreaker.CircuitBreakerError)
│   ├── RateLimitedError
│   ├── BulkheadFullError
│   ├── LimitReachedError: an adaptive limit
│   └── LoadShedError
├── DeadlineExceededError (also a TimeoutError): too late to begin; nothing was called
├── TimeoutExceededError (also a TimeoutError): the call was cancelled
├── InjectedFaultError: a drill
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
    """Root of every error a policy raises on purpose."""


class RejectedError(GovernanceError):
    """A policy refused the call; nothing was called. Breakers count it as no outcome.

    Attributes:
        policy: the kind of policy, e.g. `circuit_breaker`.
        name: which one.
        retry_after: seconds after which another try may be let in; None if nobody knows.
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
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    kind: type[RejectedError], arguments: tuple[object, ...], attributes: dict[str, object]
) -> RejectedError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class CircuitOpenError(RejectedError, pybreaker.CircuitBreakerError):
    """The circuit is open, or half-open with every trial call taken."""

    policy = "circuit_breaker"

    # A refusal has to cost little: its parts are the arguments that every exception keeps anyway,
    # and it is put into words only when somebody reads it.
    if TYPE_CHECKING:

        def __init__(self, name: str, state: str, retry_after: float | None) -> None: ...
    else:
        __init__ = Exception.__init__

    @property
    def name(self) -> str:  # type: ignore[override] # nobody sets it
        return str(self.args[0])

    @property
    def state(self) -> str:
        return str(self.args[1])

    @property
    def retry_after(self) -> float | None:  # type: ignore[override] # nobody sets it
        return cast("float | None", self.args[2])

    def __str__(self) -> str:
        if self.retry_after is None:
            advice = "it stays so until somebody moves it to another state"
        else:
            advice = f"try again in {self.retry_after:.3f} s or call another instance"
        return f"circuit {self.name!r} is {self.state}: {advice}"


class RateLimitedError(RejectedError):
    """The limit is reached; nothing was taken."""

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
        advice = "ask for less" if never else f"try again in {wait:.3f} s"
        return (
            f"{self.name!r} lets {self.rate:g} pass per {self.per_seconds:g} s "
            f"and is used up: {advice}"
        )


class BulkheadFullError(RejectedError):
    """Every place is taken and the line is full, or nobody left in time; nothing was called.

    Attributes:
        limit: how many calls the bulkhead lets in at once.
    """

    def __init__(self, name: str, limit: int, waited: float | None = None) -> None:
        why = "no room to wait" if waited is None else f"none ended within {waited:g} s"
        super().__init__(
            f"bulkhead {name!r} is full: {limit} calls in flight and {why}; "
            "retry later, raise `limit`, or give it a longer `queue`",
            policy="bulkhead",
            name=name,
        )
        self.limit = limit


class LimitReachedError(RejectedError):
    """As many calls are in flight as the service bears now; nothing was called.

    Attributes:
        limit: how many that are.
    """

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(
            f"{name!r} bears {limit} calls at once now, and they are in flight; retry later",
            policy="adaptive_limit",
            name=name,
        )
        self.limit = limit


class LoadShedError(RejectedError):
    """There is too much to do for calls of this priority; nothing was called.

    Attributes:
        priority: what the call had.
        load: how much there is to do; 1 is all that can be done.
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

    Nothing was called, so breakers count it as no outcome.
    """


class TimeoutExceededError(GovernanceError, TimeoutError):
    """The call took too long and was cancelled; give it more time, or see why it is slow.

    Attributes:
        name: the timeout's name.
        seconds: what it allowed.
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
    """A drill made this call fail; turn the fault injection off if there is none on today."""


class PipelineOrderError(GovernanceError, ValueError):
    """The policies of a pipeline stand in an order that cannot work; the message says why."""


class InvalidSettingsError(GovernanceError, ValueError):
    """Settings break a rule; nothing was changed.

    Attributes:
        where: the place in the settings, e.g. `services.payments.retry.attempts`.
        why: the rule.
    """

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}; correct it and send the settings again")
        self.where = where
        self.why = why

    def __reduce__(self) -> tuple[type[InvalidSettingsError], tuple[str, str]]:
        return type(self), (self.where, self.why)

    @classmethod
    def from_pydantic(cls, where: str, error: ValidationError) -> InvalidSettingsError:
        """The first thing that pydantic found wrong; no value is repeated but plain ones."""
        first = error.errors(include_url=False)[0]
        place = ".".join([where, *map(str, first["loc"])])
        given = first["input"]
        shown = f", not {given!r}" if isinstance(given, int | float | bool | None) else ""
        return cls(place, f"{first['msg']}{shown}")


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
