"""Hedge: starts another attempt when the first is late, and returns whichever finishes first.

Sources: Dean and Barroso, The Tail at Scale (2013); gRPC proposal A6 for what ends a hedge.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Generic, NoReturn, ParamSpec, TypeVar

from microservice_core import InvalidValueError
from microservice_governance.errors import RejectedError
from microservice_governance.events import CallHedged
from microservice_governance.exception_types import ExceptionTypes, validate_exception_types
from microservice_governance.policy import Policy
from microservice_governance.timeouts.deadline import deadline

from .budget import RetryBudget
from .latency import LatencyPercentile

__all__ = ("Hedge",)

P = ParamSpec("P")
R = TypeVar("R")


class Hedge(Policy):
    """Starts another attempt each time `delay` passes without a result; the first result wins.

    The other attempts are cancelled, which breakers do not count, and have ended when the result
    is returned. After a failed attempt the next one starts at once. Only for calls that may be
    repeated, and only for async ones: a running plain function cannot be cancelled.

    Args:
        delay: seconds, or a `LatencyPercentile` that learns them; as long as it has none, calls
            are not hedged.
        attempts: number of concurrent attempts, the first included.
        on: failures after which another attempt is made; all others come out at once.
        budget: bounds the additional attempts; by default a tenth of the calls plus one per second.
        name: for messages and events.
        clock: monotonic seconds.

    Raises:
        InvalidValueError: a number is out of its range.
    """

    kind = "hedge"

    def __init__(
        self,
        *,
        delay: float | LatencyPercentile,
        attempts: int = 2,
        on: ExceptionTypes = Exception,
        budget: RetryBudget | None = None,
        name: str = "hedge",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _validate(delay, attempts)
        self.name = name
        self.delay = delay
        self.attempts = attempts
        self.on = validate_exception_types(on)
        self.budget = budget or RetryBudget(0.1, min_per_second=1.0, clock=clock)
        self._clock = clock

    def check_sync(self, fn: Callable[..., object]) -> NoReturn:
        """Only async functions can be hedged.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "a running plain function cannot be cancelled, so it cannot be hedged; "
            "make it async, or leave the hedge out"
        )

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> NoReturn:
        """Only async functions can be hedged.

        Raises:
            TypeError: always.
        """
        self.check_sync(fn)

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of the first attempt that succeeds; the last error if all fail."""

        async def attempt() -> R:
            started = self._clock()
            result = await fn(*args, **kwargs)
            if isinstance(self.delay, LatencyPercentile):
                self.delay.record(self._clock() - started)
            return result

        self.budget.record_call()
        race = _Race(attempt, self.on, self.attempts, self._may_start)
        try:
            return await race.first_result(lambda: self.delay_seconds)
        finally:
            await race.aclose()

    def snapshot(self) -> dict[str, object]:
        """The present delay, and what is left of the budget."""
        return {
            **super().snapshot(),
            "delay_seconds": self.delay_seconds,
            "attempts": self.attempts,
            "budget": self.budget.available,
        }

    def reconfigure(
        self,
        *,
        delay: float | LatencyPercentile,
        attempts: int,
        on: ExceptionTypes | None = None,
    ) -> None:
        """Use other settings for calls that begin from now on; the budget stays.

        Args:
            on: None leaves the failures as they are.

        Raises:
            InvalidValueError: as for the constructor; nothing has changed.
        """
        _validate(delay, attempts)
        self.on = self.on if on is None else validate_exception_types(on)
        self.delay, self.attempts = delay, attempts

    @property
    def delay_seconds(self) -> float | None:
        """Seconds before another attempt; None as long as they are unknown."""
        return self.delay.seconds if isinstance(self.delay, LatencyPercentile) else self.delay

    def __repr__(self) -> str:
        return f"Hedge({self.name!r}, after {self.delay_seconds} s, {self.attempts} attempts)"

    def _may_start(self, attempt: int) -> bool:
        remaining = deadline.remaining(self._clock)
        if (remaining is not None and remaining <= 0) or not self.budget.try_spend():
            return False
        if self._subscribers:
            self._notify(CallHedged(self.kind, self.name, attempt))
        return True


class _Race(Generic[R]):
    """The concurrent attempts of one call.

    Args:
        attempt: makes the coroutine of one attempt.
        on: failures after which another attempt is made.
        max_attempts: number of attempts, the first included.
        may_start: whether the attempt of that number may be started; takes it from the budget.
    """

    def __init__(
        self,
        attempt: Callable[[], Coroutine[object, object, R]],
        on: tuple[type[Exception], ...],
        max_attempts: int,
        may_start: Callable[[int], bool],
    ) -> None:
        self._attempt = attempt
        self._on = on
        self._max_attempts = max_attempts
        self._may_start = may_start
        self._started = 0
        self._running: set[asyncio.Task[R]] = set()

    async def first_result(self, delay_seconds: Callable[[], float | None]) -> R:
        """The result of the first attempt that succeeds.

        Args:
            delay_seconds: the delay before another attempt; None for no further attempt.

        Raises:
            Exception: the last failure, if every attempt fails.
        """
        self._start()
        while True:
            delay = delay_seconds() if self._started < self._max_attempts else None
            done, self._running = await asyncio.wait(
                self._running, timeout=delay, return_when=asyncio.FIRST_COMPLETED
            )
            # The exception of every failed attempt is read: asyncio complains about one that is
            # never retrieved, and a result found first would hide it.
            failed = {task for task in done if task.cancelled() or task.exception() is not None}
            for task in done - failed:
                return task.result()
            for task in failed:
                self._check_failure(task)
            if not done or not self._running:
                self._start_another()
            if not self._running:
                for task in failed:
                    task.result()  # raises

    async def aclose(self) -> None:
        """Cancel the attempts that still run and wait for their end."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self) -> None:
        self._started += 1
        self._running.add(asyncio.create_task(self._attempt()))

    def _start_another(self) -> None:
        if self._started < self._max_attempts and self._may_start(self._started + 1):
            self._start()
        else:
            self._max_attempts = self._started

    def _check_failure(self, task: asyncio.Task[R]) -> None:
        """Raise the failure unless another attempt may follow it.

        Raises:
            BaseException: the failure.
        """
        if task.cancelled() or not isinstance(task.exception(), self._on):
            task.result()  # raises
        if isinstance(task.exception(), RejectedError):
            self._max_attempts = self._started  # refused: further attempts would only add load


def _validate(delay: float | LatencyPercentile, attempts: int) -> None:
    if not isinstance(delay, LatencyPercentile) and not 0 <= delay <= 86_400:
        raise InvalidValueError("delay", delay, "a number of seconds from 0 to 86400")
    if not 2 <= attempts <= 10:
        raise InvalidValueError("attempts", attempts, "a whole number from 2 to 10")
