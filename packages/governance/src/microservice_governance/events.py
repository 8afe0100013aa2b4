"""What policies tell those who subscribed: small frozen values, after the fact, in order."""

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
    "deliver",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    """Something a policy did.

    Attributes:
        policy: the kind of policy, e.g. `circuit_breaker`.
        name: which one.
    """

    policy: str
    name: str


@dataclass(frozen=True, slots=True)
class CallRejected(PolicyEvent):
    """A call was refused; `retry_after` seconds later another may pass, None if nobody knows."""

    retry_after: float | None


@dataclass(frozen=True, slots=True)
class StateChanged(PolicyEvent):
    """A circuit moved from one state to another."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class CallRetried(PolicyEvent):
    """Attempt number `attempt` failed; the next one follows after `wait_seconds`."""

    attempt: int
    wait_seconds: float
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class CallHedged(PolicyEvent):
    """Attempt number `attempt` was started beside those that have not answered yet."""

    attempt: int


@dataclass(frozen=True, slots=True)
class CallTimedOut(PolicyEvent):
    """A call was cancelled after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class FallbackUsed(PolicyEvent):
    """The fallback answered in place of `error`."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class LimitChanged(PolicyEvent):
    """An adaptive limit moved."""

    old: int
    new: int


@dataclass(frozen=True, slots=True)
class FaultInjected(PolicyEvent):
    """A drill touched a call; `fault` is `error`, `delay` or `result`."""

    fault: str


Listener = Callable[[PolicyEvent], object]


def deliver(event: PolicyEvent, listeners: Iterable[Listener]) -> None:
    """Tell them all; one that raises is logged and harms nobody."""
    for listener in listeners:
        try:
            listener(event)
        except Exception:  # noqa: BLE001 - whatever a listener does, the others hear
            _log.exception("a listener of %s %r failed", event.policy, event.name)
