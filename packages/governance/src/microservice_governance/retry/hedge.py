"""Hedge: asks a second time when the first answer is late, and takes whichever comes first.

Source: Dean and Barroso, The Tail at Scale (2013); gRPC proposal A6 for what ends a hedge.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Generic, NoReturn, ParamSpec, TypeVar

from microservice_core import InvalidValueError
from microservice_governance.errors import RejectedError
from microservice_governance.events import CallHedged
from microservice_governance.exception_types import ExceptionTypes, exception_types
from microservice_governance.policy import Policy
from microservice_governance.timeouts.deadline import deadline

from .budget import RetryBudget
from .latency import LatencyPercentile

__all__ = ("Hedge",)

P = ParamSpec("P")
R = TypeVar("R")


class Hedge(Policy):
    """Starts another attempt each time `delay` passes without an answer; the first one wins.

    The others are cancelled, which counts as no outcome, and have ended before the answer is
    returned. A failed attempt is followed by the next at once. Only for calls that may be made
    twice, and only for async ones: a running plain function cannot be cancelled.

    Args:
        delay: seconds, or a `LatencyPercentile` that learns them; until it knows, nothing is
            hedged.
        attempts: calls at once, the first included.
        on: which failures another attempt may make good; all others come out at once.
        budget: bounds the additional calls; by default a tenth of the calls and one per second.
        name: for messages and events.

    Raises:
        InvalidValueError: a number outside its range.
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
        _check(delay, attempts)
        self.name = name
        self.delay = delay
        self.attempts = attempts
        self.on = exception_types(on)
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
        """The answer of the first attempt that gives one; the last error when all failed."""

        async def attempt() -> R:
            began = self._clock()
            result = await fn(*args, **kwargs)
            if isinstance(self.delay, LatencyPercentile):
                self.delay.record(self._clock() - began)
            return result

        self.budget.record_call()
        race = _Race(attempt, self, self.attempts)
        try:
            return await race.winner()
        finally:
            await race.end()

    def snapshot(self) -> dict[str, object]:
        """The delay in force."""
        return {
            **super().snapshot(),
            "delay_seconds": self.delay_seconds,
            "attempts": self.attempts,
            "budget": self.budget.available,
        }

    def reconfigure(self, *, delay: float | LatencyPercentile, attempts: int) -> None:
        """Hedge calls that begin from now on otherwise.

        Raises:
            InvalidValueError: as for the constructor; nothing was changed.
        """
        _check(delay, attempts)
        self.delay, self.attempts = delay, attempts

    @property
    def delay_seconds(self) -> float | None:
        """Seconds before another attempt; None as long as they are not known."""
        return self.delay.seconds if isinstance(self.delay, LatencyPercentile) else self.delay

    def __repr__(self) -> str:
        return f"Hedge({self.name!r}, after {self.delay_seconds} s, {self.attempts} attempts)"

    def _may_start(self, attempt: int) -> bool:
        left = deadline.remaining(self._clock)
        if (left is not None and left <= 0) or not self.budget.try_spend():
            return False
        if self._subscribers:
            self._emit(CallHedged(self.kind, self.name, attempt))
        return True


class _Race(Generic[R]):
    """The attempts of one call."""

    def __init__(
        self, attempt: Callable[[], Coroutine[object, object, R]], hedge: Hedge, most: int
    ) -> None:
        self._attempt = attempt
        self._hedge = hedge
        self._most = most
        self._started = 0
        self._running: set[asyncio.Task[R]] = set()

    async def winner(self) -> R:
        """The first answer; the last failure if there is none."""
        failure: Exception | None = None
        self._start()
        while self._running:
            done = await self._wait()
            self._running -= done
            # Every failure is looked at, or asyncio complains of those that nobody saw.
            failed = [task for task in done if task.cancelled() or task.exception() is not None]
            for task in done.difference(failed):
                return task.result()
            for task in failed:
                failure = self._bearable(task)
            if not done or not self._running:
                self._start_another()
        assert failure is not None  # noqa: S101 - the last one to run failed
        raise failure

    async def end(self) -> None:
        """Cancel those that still run and see them end."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self) -> None:
        self._started += 1
        self._running.add(asyncio.create_task(self._attempt()))

    async def _wait(self) -> set[asyncio.Task[R]]:
        pause = self._hedge.delay_seconds if self._started < self._most else None
        done, _ = await asyncio.wait(
            self._running, timeout=pause, return_when=asyncio.FIRST_COMPLETED
        )
        return done

    def _start_another(self) -> None:
        if self._started < self._most and self._hedge._may_start(self._started + 1):  # noqa: SLF001
            self._start()
        else:
            self._most = self._started

    def _bearable(self, task: asyncio.Task[R]) -> Exception:
        """The failure, if another attempt may make it good.

        Raises:
            BaseException: the failure, if not.
        """
        failure = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not isinstance(failure, self._hedge.on):
            assert failure is not None  # noqa: S101 - it did not succeed
            raise failure
        if isinstance(failure, RejectedError):
            self._most = self._started  # who was refused does not press on
        return failure


def _check(delay: float | LatencyPercentile, attempts: int) -> None:
    if not isinstance(delay, LatencyPercentile) and not 0 <= delay <= 86_400:
        raise InvalidValueError("delay", delay, "a number of seconds from 0 to 86400")
    if not 2 <= attempts <= 10:
        raise InvalidValueError("attempts", attempts, "a whole number from 2 to 10")
