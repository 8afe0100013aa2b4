"""Events that policies publish to their listeners: small frozen values, after the fact, in order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = (
    "CallHedged",
    "CallRejected",
    "CallRetried",
    "CallTimedOut",
    "FallbackUsed",
    "FaultInjected",
    "LimitChanged",
    "Listener",
    "PolicyEvent",
    "StateChanged",
    "notify",
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    """Something a policy did.

    Attributes:
        policy: the kind of policy, e.g. `circuit_breaker`.
        name: the policy's name.
    """

    policy: str
    name: str


@dataclass(frozen=True, slots=True)
class CallRejected(PolicyEvent):
    """A call was refused.

    Attributes:
        retry_after: seconds until another call may be let in; None if unknown.
    """

    retry_after: float | None


@dataclass(frozen=True, slots=True)
class StateChanged(PolicyEvent):
    """A circuit moved from one state to another."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class CallRetried(PolicyEvent):
    """An attempt failed and will be repeated.

    Attributes:
        attempt: number of the attempt that failed, from 1.
        wait_seconds: pause before the next attempt.
        error: why the attempt failed; None if its result is retried.
    """

    attempt: int
    wait_seconds: float
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class CallHedged(PolicyEvent):
    """Another attempt was started beside those still running.

    Attributes:
        attempt: number of the new attempt, from 2.
    """

    attempt: int


@dataclass(frozen=True, slots=True)
class CallTimedOut(PolicyEvent):
    """A call was cancelled because its time was up.

    Attributes:
        seconds: the time it had.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class FallbackUsed(PolicyEvent):
    """A fallback replaced an error by its own result.

    Attributes:
        error: the error that was replaced.
    """

    error: BaseException


@dataclass(frozen=True, slots=True)
class LimitChanged(PolicyEvent):
    """An adaptive limit changed.

    Attributes:
        old, new: calls at once, before and after.
    """

    old: int
    new: int


@dataclass(frozen=True, slots=True)
class FaultInjected(PolicyEvent):
    """Fault injection affected a call.

    Attributes:
        fault: `error` or `delay`.
    """

    fault: str


Listener = Callable[[PolicyEvent], object]
"""Receives events. It is called in the thread of the call, so it must not block."""


def notify(listeners: Iterable[Listener], event: PolicyEvent) -> None:
    """Call every listener with `event`; an exception of one is logged and does not stop the others."""
    for listener in listeners:
        try:
            listener(event)
        except Exception:
            logger.exception("a listener of %s %r failed", event.policy, event.name)
