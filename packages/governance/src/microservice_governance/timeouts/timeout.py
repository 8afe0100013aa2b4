"""Timeout: cancels an async call that takes too long, and sets the deadline of everything inside.

Two of them make a total and an attempt limit: `pipeline(Timeout(10), retry, Timeout(2))`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from microservice_core import InvalidValueError
from microservice_governance.deferred_results import FINAL_TYPES, refuse_deferred
from microservice_governance.errors import DeadlineExceededError, TimeoutExceededError
from microservice_governance.events import CallTimedOut
from microservice_governance.policy import Policy

from .deadline import current_deadline, deadline

if TYPE_CHECKING:
    from asyncio import Task

__all__ = ("Timeout",)

P = ParamSpec("P")
R = TypeVar("R")

# The deadline that a running timer enforces, and the task that it cancels. A timer cancels only the
# task that armed it, so a new task needs a timer even for the same deadline.
_armed: ContextVar[tuple[float, Task[object] | None] | None] = ContextVar(
    "microservice_armed", default=None
)


class Timeout(Policy):
    """Limits a call to `seconds`, or to the time until the current deadline if that is less.

    An async call is cancelled when its time is over. A plain function cannot be interrupted: it
    runs with the deadline set, for the functions it calls, and its result is returned however late.
    No timer is started where an outer one of the same task ends earlier anyway.

    Args:
        seconds: time limit, above 0.
        name: for messages and events.
        clock: the deadline's clock, monotonic seconds.

    Raises:
        InvalidValueError: `seconds` is not a number above 0, or more than a day.
    """

    kind = "timeout"

    def __init__(
        self,
        seconds: float,
        *,
        name: str = "timeout",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = _validate(seconds)
        self.name = name
        self._clock = clock

    def reconfigure(self, seconds: float) -> None:
        """Use another limit for calls that begin from now on.

        Raises:
            InvalidValueError: as for the constructor; nothing has changed.
        """
        self.seconds = _validate(seconds)

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` with `deadline` set; it is not interrupted.

        Raises:
            DeadlineExceededError: the deadline has passed already; `fn` was not called.
            TypeError: the result of `fn` is to be awaited or iterated; use `arun`.
        """
        deadline.check(self._clock)
        with deadline(self.seconds, clock=self._clock):
            result = fn(*args, **kwargs)
        if type(result) not in FINAL_TYPES:
            refuse_deferred(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn`, and cancel it when its time is over.

        Raises:
            TimeoutExceededError: it took too long and was cancelled.
            DeadlineExceededError: the deadline has passed already; `fn` was not called.
        """
        now = self._clock()
        ends_at = now + self.seconds
        outer = current_deadline.get()
        task = asyncio.current_task()
        if outer is not None and outer <= ends_at:
            if now >= outer:
                raise DeadlineExceededError(
                    "the deadline passed before the call; give the whole call more time"
                )
            if _armed.get() == (outer, task):
                return await fn(*args, **kwargs)
            ends_at = outer
        deadline_token, armed_token = current_deadline.set(ends_at), _armed.set((ends_at, task))
        scope = asyncio.timeout(ends_at - now)
        try:
            async with scope:
                return await fn(*args, **kwargs)
        except TimeoutError as error:
            if scope.expired():
                raise self._notify_timeout(ends_at - now) from error
            raise
        finally:
            _reset(deadline_token, armed_token)

    def snapshot(self) -> dict[str, object]:
        """The time limit."""
        return {**super().snapshot(), "seconds": self.seconds}

    def __repr__(self) -> str:
        return f"Timeout({self.seconds:g}, name={self.name!r})"

    def _notify_timeout(self, seconds: float) -> TimeoutExceededError:
        """Report the timeout to the listeners; returns the error so that the caller raises it."""
        if self._subscribers:
            self._notify(CallTimedOut(self.kind, self.name, seconds))
        return TimeoutExceededError(self.name, seconds)


def _reset(
    deadline_token: Token[float | None],
    armed_token: Token[tuple[float, Task[object] | None] | None],
) -> None:
    current_deadline.reset(deadline_token)
    _armed.reset(armed_token)


def _validate(seconds: float) -> float:
    if not 0 < seconds <= 86_400:
        raise InvalidValueError("seconds", seconds, "a number above 0, at most 86400")
    return seconds
