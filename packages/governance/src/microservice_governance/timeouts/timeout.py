"""Timeout: cancels an async call that takes too long, and tells everything inside how long it has.

Two of them make a total and an attempt limit: `pipeline(Timeout(10), retry, Timeout(2))`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from types import CoroutineType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from microservice_core import InvalidValueError
from microservice_governance.errors import DeadlineExceededError, TimeoutExceededError
from microservice_governance.events import CallTimedOut
from microservice_governance.policy import Policy, refuse_coroutine

from .deadline import _current, deadline

if TYPE_CHECKING:
    from asyncio import Task

__all__ = ("Timeout",)

P = ParamSpec("P")
R = TypeVar("R")

# The deadline that a timer enforces already, and the task which that timer cancels.
_armed: ContextVar[tuple[float, Task[object] | None] | None] = ContextVar(
    "microservice_armed", default=None
)


class Timeout(Policy):
    """Gives a call `seconds`, or what is left of the deadline in force if that is less.

    An async call is cancelled when they are over. A plain function cannot be interrupted: it runs
    under the deadline, which what it calls can respect, and its result is kept however late.
    No timer is started where an outer one of the same task ends earlier anyway.

    Args:
        seconds: above 0.
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
        self.seconds = _checked(seconds)
        self.name = name
        self._clock = clock

    def reconfigure(self, seconds: float) -> None:
        """Give calls that begin from now on another limit.

        Raises:
            InvalidValueError: as for the constructor; nothing was changed.
        """
        self.seconds = _checked(seconds)

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` with `deadline` set; it is not interrupted.

        Raises:
            DeadlineExceededError: the deadline had passed; nothing was called.
            TypeError: `fn` is a coroutine function, which `arun` takes.
        """
        deadline.check(self._clock)
        with deadline(self.seconds, clock=self._clock):
            result = fn(*args, **kwargs)
        if isinstance(result, CoroutineType):
            refuse_coroutine(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` for so long.

        Raises:
            TimeoutExceededError: it took longer and was cancelled.
            DeadlineExceededError: the deadline had passed; nothing was called.
        """
        now = self._clock()
        at = now + self.seconds
        outer = _current.get()
        task = asyncio.current_task()
        if outer is not None and outer <= at:
            if now >= outer:
                raise DeadlineExceededError(
                    "the deadline passed before the call; give the whole call more time"
                )
            if _armed.get() == (outer, task):
                return await fn(*args, **kwargs)
            at = outer
        deadline_token, armed_token = _current.set(at), _armed.set((at, task))
        scope = asyncio.timeout(at - now)
        try:
            async with scope:
                return await fn(*args, **kwargs)
        except TimeoutError as error:
            if scope.expired():
                raise self._timed_out(at - now) from error
            raise
        finally:
            _reset(deadline_token, armed_token)

    def snapshot(self) -> dict[str, object]:
        """The limit in force."""
        return {**super().snapshot(), "seconds": self.seconds}

    def __repr__(self) -> str:
        return f"Timeout({self.seconds:g}, name={self.name!r})"

    def _timed_out(self, seconds: float) -> TimeoutExceededError:
        if self._subscribers:
            self._emit(CallTimedOut(self.kind, self.name, seconds))
        return TimeoutExceededError(self.name, seconds)


def _reset(
    deadline_token: Token[float | None],
    armed_token: Token[tuple[float, Task[object] | None] | None],
) -> None:
    _current.reset(deadline_token)
    _armed.reset(armed_token)


def _checked(seconds: float) -> float:
    if not 0 < seconds <= 86_400:
        raise InvalidValueError("seconds", seconds, "a number above 0, at most 86400")
    return seconds
