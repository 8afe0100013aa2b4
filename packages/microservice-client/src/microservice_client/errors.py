"""The errors of calls by name; each lists the attempts that were made and their outcomes.

```
ServiceCallError (MicroserviceError, httpx.TransportError)
├── NoInstanceCallError (NoInstanceAvailableError)   no instance can be called
├── CallTimeoutError (httpx.TimeoutException)         the time for the call is over
├── NoFreeConnectionError (httpx.PoolTimeout)         all connections to the instance are in use
├── CallFailedError                                   every attempt failed
├── CallRejectedError                                 a policy of this client refused the call
├── CallStatusError (httpx.HTTPStatusError)           an HTTP error that the policy raises
├── BodyBrokenError (httpx.ReadError)                 the response broke off in its body
├── BodyTooLargeError                                 the response's body is too long to be read
└── ResponseFormatError (ValueError)                  the response is not of the declared type

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
    "Attempt",
    "BodyBrokenError",
    "BodyTooLargeError",
    "CallFailedError",
    "CallRejectedError",
    "CallStatusError",
    "CallTimeoutError",
    "ClientClosedError",
    "DeclarationError",
    "NoFreeConnectionError",
    "NoInstanceCallError",
    "ResponseFormatError",
    "ServiceCallError",
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a call on one instance.

    Attributes:
        instance_id: the instance.
        outcome: a status such as `503`, or the error's name such as `ConnectError`.
        duration_seconds: until the response's headers had arrived, or the attempt had failed.
    """

    instance_id: str
    outcome: str
    duration_seconds: float

    def __str__(self) -> str:
        return f"{self.instance_id} {self.outcome} after {self.duration_seconds * 1000:.0f} ms"


class ServiceCallError(MicroserviceError, httpx.TransportError):
    """A call by name failed.

    Attributes:
        service: the service that was called.
        attempts: the attempts that were made, in order.
        instance: the id of the instance of the last attempt; empty without an attempt.
        suggestion: what to do about it.
    """

    def __init__(
        self, service: str, problem: str, attempts: Sequence[Attempt], suggestion: str
    ) -> None:
        tries = "; ".join(str(attempt) for attempt in attempts)
        message = f"{service}: {problem}{f' ({tries})' if tries else ''}; {suggestion}"
        # Not super(): the next class for CallStatusError is httpx's, which needs more arguments.
        httpx.HTTPError.__init__(self, message)
        self.service = service
        self.attempts = tuple(attempts)
        self.instance = attempts[-1].instance_id if attempts else ""
        self.suggestion = suggestion

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickle, (type(self), self.args, self.__dict__)


def _unpickle(
    kind: type[ServiceCallError], arguments: tuple[object, ...], attributes: dict[str, object]
) -> ServiceCallError:
    error = kind.__new__(kind, *arguments)
    # Set by hand: `__new__` of an OSError, which TimeoutError is, does not set them.
    error.args = arguments
    error.__dict__.update(attributes)
    return error


class NoInstanceCallError(ServiceCallError, NoInstanceAvailableError):
    """No instance can be called: none is registered, or all are filtered out, open or draining.

    Attributes:
        service_name: the service that was called.
        reason: which of these, with numbers.
    """

    def __init__(self, service: str, reason: str, attempts: Sequence[Attempt] = ()) -> None:
        ServiceCallError.__init__(
            self,
            service,
            f"no instance is available: {reason}",
            attempts,
            "start one, or check the service name, its health and the filters that apply",
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
            f"no response within {total_seconds:g} s",
            attempts,
            "check the slow instances, or raise the time limit",
        )


class NoFreeConnectionError(ServiceCallError, httpx.PoolTimeout, TimeoutError):
    """No connection to the instance became free in time; the request was not sent.

    It is a state of this client, not of the instance: the instance's circuit breaker does not count
    it.

    Attributes:
        limit: most connections to the instance, `max_connections_per_instance`; None if the
            connections belong to a `transport` that was passed to the client.
        waited_seconds: how long the call waited for a connection.
    """

    def __init__(
        self,
        service: str,
        instance_id: str,
        *,
        limit: int | None,
        waited_seconds: float,
        attempts: Sequence[Attempt] = (),
    ) -> None:
        in_use = "" if limit is None else f" ({limit} in use, `max_connections_per_instance`)"
        super().__init__(
            service,
            f"no free connection{in_use} to {instance_id} within {waited_seconds:g} s",
            attempts,
            "make fewer calls at once, or raise the limit",
        )
        self.instance = instance_id
        self.limit = limit
        self.waited_seconds = waited_seconds


class CallFailedError(ServiceCallError):
    """Every attempt failed, or one failed and the call may not be repeated."""

    def __init__(
        self,
        service: str,
        attempts: Sequence[Attempt],
        *,
        suggestion: str = "check the instances that were called",
    ) -> None:
        super().__init__(service, "every attempt failed", attempts, suggestion)


class CallRejectedError(ServiceCallError):
    """A policy of this client refused the call, because there are too many already.

    Attributes:
        policy: the kind of policy, e.g. `bulkhead` or `rate_limiter`.
        retry_after: seconds until another call may be admitted; None if unknown.
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
    """The response is an HTTP error status that `raise_on` turns into an exception.

    Attributes:
        response: the response, its body read.
        problem: its problem document (RFC 9457); None if the body is no such document.
    """

    def __init__(self, service: str, response: httpx.Response, attempts: Sequence[Attempt]) -> None:
        self.problem = ProblemDocument.from_response(response)
        details = f" ({self.problem})" if self.problem else ""
        ServiceCallError.__init__(
            self,
            service,
            f"responded {response.status_code}{details}",
            attempts,
            "check `response`, or return such responses with raise_on='never'",
        )
        self.request = response.request
        self.response = response

    def __reduce__(self) -> tuple[object, ...]:
        return CallStatusError, (self.service, self.response, self.attempts)


class BodyBrokenError(ServiceCallError, httpx.ReadError):
    """The response broke off in its body; what was read so far is incomplete."""

    def __init__(self, service: str, attempts: Sequence[Attempt]) -> None:
        super().__init__(
            service,
            "the response's body broke off",
            attempts,
            "repeat the call if it is idempotent, and check the instance",
        )


class BodyTooLargeError(ServiceCallError):
    """The response's body is longer than the policy allows for one that is read as a whole.

    Attributes:
        limit: the policy's `max_body_bytes`, which counts decoded bytes.
    """

    def __init__(self, service: str, limit: int, attempts: Sequence[Attempt]) -> None:
        super().__init__(
            service,
            f"the response's body is longer than {limit} bytes (`max_body_bytes`)",
            attempts,
            "read it with `stream`, or raise the limit in the service's policy",
        )
        self.limit = limit


class ResponseFormatError(ServiceCallError, ValueError):
    """The response cannot be decoded, or is not of the type its method declares."""

    def __init__(self, service: str, expected: str, reason: str) -> None:
        super().__init__(
            service,
            f"the response is no {expected}: {reason}",
            (),
            "compare the declared type with what the service sends",
        )


class ClientClosedError(MicroserviceError, RuntimeError):
    """The client has not been opened, or is closed, or its event loop has ended."""

    def __init__(
        self, problem: str = "this client is not open; use it in an `async with` block"
    ) -> None:
        super().__init__(problem)


class DeclarationError(MicroserviceError, TypeError):
    """A declarative client's class or method breaks a rule; raised when the class is defined."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
