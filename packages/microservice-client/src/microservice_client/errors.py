"""What a call by name can end with; every error says who was tried and what happened there.

```
ServiceCallError (MicroserviceError, httpx.TransportError)
├── NoInstanceCallError (NoInstanceAvailableError)   nobody could be asked
├── CallTimeoutError (httpx.TimeoutException)         the time for the call is over
├── CallFailedError                                   everyone who was asked failed
├── CallRejectedError                                 an own policy refused it; nothing was sent
├── CallStatusError (httpx.HTTPStatusError)           the answer is an error, where policy says so
├── BodyBrokenError (httpx.ReadError)                 the answer began, and broke off
└── AnswerFormatError (ValueError)                    the answer is not of the declared type

ClientClosedError (MicroserviceError, RuntimeError)   the client is not open
DeclarationError (MicroserviceError, TypeError)       a declarative client is not well-formed
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from microservice_core import MicroserviceError, NoInstanceAvailableError

from .problem import ProblemDocument

__all__ = (
    "AnswerFormatError",
    "Attempt",
    "BodyBrokenError",
    "CallFailedError",
    "CallRejectedError",
    "CallStatusError",
    "CallTimeoutError",
    "ClientClosedError",
    "DeclarationError",
    "NoInstanceCallError",
    "ServiceCallError",
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a call on one instance.

    Attributes:
        outcome: a status such as `503`, or the error's name such as `ConnectError`.
        duration_seconds: until the response's headers were there, or the attempt had failed.
    """

    instance_id: str
    outcome: str
    duration_seconds: float

    def __str__(self) -> str:
        return f"{self.instance_id} {self.outcome} after {self.duration_seconds * 1000:.0f} ms"


class ServiceCallError(MicroserviceError, httpx.TransportError):
    """A call by name did not bring what it was made for.

    Attributes:
        service: the service that was called.
        attempts: who was tried, in order.
        instance: the id of the instance that was asked last, empty when nobody was.
        suggestion: what to do about it.
    """

    def __init__(
        self, service: str, problem: str, attempts: Sequence[Attempt], suggestion: str
    ) -> None:
        tried = "; ".join(str(attempt) for attempt in attempts)
        message = f"{service}: {problem}{f' ({tried})' if tried else ''}; {suggestion}"
        # Not through the line of parents: one of CallStatusError's wants more arguments.
        httpx.HTTPError.__init__(self, message)
        self.service = service
        self.attempts = tuple(attempts)
        self.instance = attempts[-1].instance_id if attempts else ""
        self.suggestion = suggestion

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    kind: type[ServiceCallError], arguments: tuple[object, ...], attributes: dict[str, object]
) -> ServiceCallError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments  # an OSError, which a TimeoutError is, does not take them here
    error.__dict__.update(attributes)
    return error


class NoInstanceCallError(ServiceCallError, NoInstanceAvailableError):
    """Nobody could be asked: none is registered, all were filtered out, or all are tried or open.

    Attributes:
        reason: which of these, with numbers.
    """

    def __init__(self, service: str, reason: str, attempts: Sequence[Attempt] = ()) -> None:
        ServiceCallError.__init__(
            self,
            service,
            f"no instance is available: {reason}",
            attempts,
            "start one, or check the service name, its health and the filters in force",
        )
        self.service_name = service
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:  # type: ignore[override] # the two parents differ
        return ServiceCallError.__reduce__(self)


class CallTimeoutError(ServiceCallError, httpx.TimeoutException, TimeoutError):
    """The time for the whole call is over."""

    def __init__(self, service: str, total_seconds: float, attempts: Sequence[Attempt]) -> None:
        super().__init__(
            service,
            f"not answered within {total_seconds:g} s",
            attempts,
            "look at the slow instances, or give the call more time",
        )


class CallFailedError(ServiceCallError):
    """Everyone who was asked failed, or the call may not be sent twice."""

    def __init__(self, service: str, attempts: Sequence[Attempt]) -> None:
        super().__init__(
            service, "no instance answered", attempts, "look at the instances that were tried"
        )


class CallRejectedError(ServiceCallError):
    """A policy of this client refused the call: it would have been too many.

    Attributes:
        policy: which kind, e.g. `bulkhead` or `rate_limiter`.
        retry_after: seconds until another try may pass; None if nobody knows.
    """

    def __init__(
        self,
        service: str,
        policy: str,
        reason: str,
        *,
        retry_after: float | None = None,
        attempts: Sequence[Attempt] = (),
    ) -> None:
        super().__init__(service, f"refused by its {policy}", attempts, reason)
        self.policy = policy
        self.retry_after = retry_after


class CallStatusError(ServiceCallError, httpx.HTTPStatusError):
    """The answer is an HTTP error, and the policy says that this is one for the caller.

    Attributes:
        response: the answer, read.
        problem: its problem document (RFC 9457), if it is one.
    """

    def __init__(self, service: str, response: httpx.Response, attempts: Sequence[Attempt]) -> None:
        self.problem = ProblemDocument.of(response)
        said = f" ({self.problem})" if self.problem else ""
        ServiceCallError.__init__(
            self,
            service,
            f"answered {response.status_code}{said}",
            attempts,
            "look at `response`, or let such answers through with raise_on='never'",
        )
        self.request = response.request
        self.response = response

    def __reduce__(self) -> tuple[object, ...]:
        return CallStatusError, (self.service, self.response, self.attempts)


class BodyBrokenError(ServiceCallError, httpx.ReadError):
    """The answer began and broke off; what was read so far is not all."""

    def __init__(self, service: str, attempts: Sequence[Attempt]) -> None:
        super().__init__(
            service,
            "the response's body broke off",
            attempts,
            "ask again if the call is idempotent, and look at the instance",
        )


class AnswerFormatError(ServiceCallError, ValueError):
    """The answer cannot be read as the type its method declares."""

    def __init__(self, service: str, expected: str, reason: str) -> None:
        super().__init__(
            service,
            f"the answer is no {expected}: {reason}",
            (),
            "compare the declared type with what the service sends",
        )


class ClientClosedError(MicroserviceError, RuntimeError):
    """The client was not opened, or is closed already."""

    def __init__(self) -> None:
        super().__init__("this client is not open; use it in an `async with` block")


class DeclarationError(MicroserviceError, TypeError):
    """A declarative client's class or method breaks a rule; told when it is defined."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
