"""What a call by name can end with; every error says who was tried and what happened there.

```
ServiceCallError (MicroserviceError, httpx.TransportError)
├── NoInstanceCallError (NoInstanceAvailableError)   nobody could be asked
├── CallTimeoutError (httpx.TimeoutException)         the time for the call is over
└── CallFailedError                                   everyone who was asked failed

ClientClosedError (MicroserviceError, RuntimeError)   the client is not open
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from microservice_core import MicroserviceError, NoInstanceAvailableError

__all__ = (
    "Attempt",
    "CallFailedError",
    "CallTimeoutError",
    "ClientClosedError",
    "NoInstanceCallError",
    "ServiceCallError",
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a call on one instance.

    Attributes:
        outcome: a status such as `503`, or the error's name such as `ConnectError`.
    """

    instance_id: str
    outcome: str
    duration_seconds: float

    def __str__(self) -> str:
        return f"{self.instance_id} {self.outcome} after {self.duration_seconds * 1000:.0f} ms"


class ServiceCallError(MicroserviceError, httpx.TransportError):
    """A call by name did not bring a response.

    Attributes:
        service: the service that was called.
        attempts: who was tried, in order.
    """

    def __init__(
        self, service: str, problem: str, attempts: Sequence[Attempt], advice: str
    ) -> None:
        tried = "; ".join(str(attempt) for attempt in attempts)
        message = f"{service}: {problem}{f' ({tried})' if tried else ''}; {advice}"
        httpx.TransportError.__init__(self, message)
        self.service = service
        self.attempts = tuple(attempts)


class NoInstanceCallError(ServiceCallError, NoInstanceAvailableError):
    """Nobody could be asked: none is registered, all were filtered out, or all are tried or open."""

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


class ClientClosedError(MicroserviceError, RuntimeError):
    """The client was not opened, or is closed already."""

    def __init__(self) -> None:
        super().__init__("this client is not open; use it in an `async with` block")
