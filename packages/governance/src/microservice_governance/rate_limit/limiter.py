"""Rate limiter in this process: decides at once, or lets callers wait their turn."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from microservice_core import InvalidValueError
from microservice_governance.errors import RateLimitedError
from microservice_governance.policy import Policy, refuse_coroutine
from microservice_governance.testing_mode import async_sleep, is_testing
from microservice_governance.timeouts.deadline import deadline

from .config import Decision, LimitConfig
from .gcra import Gcra, nanoseconds

__all__ = ("RateLimiter",)

P = ParamSpec("P")
R = TypeVar("R")


class RateLimiter(Policy):
    """Lets `config.rate` units pass per period and refuses, or holds up, what is above.

    `try_acquire` decides at once, in any thread. `acquire` waits its turn, first come first
    served. As a policy (`run`, `arun`, decorator) it refuses: a call costs one unit.

    Args:
        name: for messages.
        thread_safe: false saves the lock where all callers run on one event loop.
        clock: monotonic seconds.
        sleep: waits that many seconds.
    """

    kind = "rate_limiter"

    def __init__(
        self,
        config: LimitConfig,
        *,
        name: str = "rate limit",
        thread_safe: bool = True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = async_sleep,
    ) -> None:
        self.config = config
        self.name = name
        self._clock = clock
        self._now = nanoseconds(clock)
        self._sleep = sleep
        self._gcra = Gcra(config)
        self._arrival = 0
        self._lock = threading.Lock() if thread_safe else None
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()

    def try_acquire(self, cost: int = 1) -> Decision:
        """Take `cost` units if they are free now; nothing is taken otherwise.

        Args:
            cost: units; 0 only looks.

        Raises:
            InvalidValueError: `cost` is negative.
        """
        if cost < 0:
            raise InvalidValueError("cost", cost, "at least 0")
        now = self._now()
        if self._lock is None:
            self._arrival, decision = self._gcra.decide(self._arrival, now, cost)
            return decision
        self._lock.acquire()  # half the time that `with` takes
        try:
            self._arrival, decision = self._gcra.decide(self._arrival, now, cost)
        finally:
            self._lock.release()
        return decision

    def reconfigure(self, config: LimitConfig) -> None:
        """Take another limit; what was let through before still counts, as time."""
        self.config, self._gcra = config, Gcra(config)

    async def acquire(self, cost: int = 1, *, timeout: float | None = None) -> None:
        """Wait until `cost` units are free and take them; those who came first go first.

        Args:
            timeout: seconds to wait at most; the `deadline` in force counts as well.

        Raises:
            RateLimitedError: the wait would be longer than allowed; told at once, without waiting.
            InvalidValueError: `cost` is negative, or above the burst and so never free.
        """
        if cost > self.config.capacity:
            raise InvalidValueError("cost", cost, f"at most the burst, {self.config.capacity}")
        line = self._line()
        ends_at = self._clock() + _time_allowed(timeout, self._clock)
        self._check_wait(self._predicted_wait(line.waiting_cost + cost), ends_at)
        line.waiting_cost += cost
        try:
            async with line.turn:
                while not (decision := self.try_acquire(cost)).allowed and not is_testing():
                    self._check_wait(decision.retry_after, ends_at)
                    await self._sleep(decision.retry_after)
        finally:
            line.waiting_cost -= cost

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` if a unit is free.

        Raises:
            RateLimitedError: none is; nothing was called.
            TypeError: `fn` is a coroutine function, which `arun` takes.
        """
        self._take_one()
        result = fn(*args, **kwargs)
        if isinstance(result, CoroutineType):
            refuse_coroutine(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` if a unit is free.

        Raises:
            RateLimitedError: none is; nothing was called.
        """
        self._take_one()
        return await fn(*args, **kwargs)

    def guard_async(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """`fn` under the limit."""

        @functools.wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            self._take_one()
            return await fn(*args, **kwargs)

        return guarded

    def snapshot(self) -> dict[str, object]:
        """The limit and what is left of it."""
        config, now = self.config, self.try_acquire(0)
        return {
            **super().snapshot(),
            "rate": config.rate,
            "per_seconds": config.per_seconds,
            "burst": config.capacity,
            "remaining": now.remaining,
            "reset_after": now.reset_after,
        }

    def __repr__(self) -> str:
        config = self.config
        return f"RateLimiter({self.name!r}, {config.rate} per {config.per_seconds:g} s)"

    def _take_one(self) -> None:
        now, lock = self._now(), self._lock
        if lock is not None:
            lock.acquire()
        try:
            later = self._gcra.later(self._arrival, now)
            if later:
                self._arrival = later
                return
        finally:
            if lock is not None:
                lock.release()
        wait = self._gcra.wait(self._arrival, now, 1)
        raise self._rejected(self._refusal(wait))

    def _check_wait(self, wait: float, ends_at: float) -> None:
        if self._clock() + wait > ends_at:
            raise self._rejected(self._refusal(wait))

    def _refusal(self, retry_after: float) -> RateLimitedError:
        return RateLimitedError(self.name, self.config.rate, self.config.per_seconds, retry_after)

    def _predicted_wait(self, cost: int) -> float:
        return self._gcra.wait(self._arrival, self._now(), cost)

    def _line(self) -> _Line:
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines[loop] = _Line()
        return line


class _Line:
    """Those of one event loop who wait for their turn; asyncio's lock is fair."""

    __slots__ = ("__weakref__", "turn", "waiting_cost")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting_cost = 0


def _time_allowed(timeout: float | None, clock: Callable[[], float]) -> float:
    left = deadline.remaining(clock)
    allowed = float("inf") if timeout is None else timeout
    return allowed if left is None else min(allowed, left)
