"""Rate limiter of this process: decides at once, or lets callers wait their turn."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from microservice_core import InvalidValueError
from microservice_governance.deferred_results import FINAL_TYPES, refuse_deferred
from microservice_governance.errors import RateLimitedError
from microservice_governance.policy import Policy
from microservice_governance.testing_mode import async_sleep, is_testing
from microservice_governance.timeouts.deadline import deadline

from .config import Decision, LimitConfig
from .gcra import Gcra, nanoseconds
from .keys import check_cost

__all__ = ("RateLimiter",)

P = ParamSpec("P")
R = TypeVar("R")


class RateLimiter(Policy):
    """Lets `config.rate` units pass per period; refuses or delays what exceeds it.

    `try_acquire` decides at once, in any thread. `acquire` waits its turn, first come, first
    served. As a policy (`run`, `arun`, decorator) it refuses calls; a call costs one unit.

    Args:
        config: the limit.
        name: for messages.
        thread_safe: false saves the lock if all callers run on one event loop.
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
        self._waiting_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _WaitingLine] = (
            WeakKeyDictionary()
        )

    def try_acquire(self, cost: int = 1) -> Decision:
        """Take `cost` units if they are free now; nothing is taken otherwise.

        Args:
            cost: units; 0 only looks.

        Raises:
            InvalidValueError: `cost` is negative or not a whole number.
        """
        if type(cost) is not int or cost < 0:
            check_cost(cost)
        now = self._now()
        if self._lock is None:
            self._arrival, decision = self._gcra.decide(self._arrival, now, cost)
            return decision
        self._lock.acquire()  # takes half the time of a `with` statement
        try:
            self._arrival, decision = self._gcra.decide(self._arrival, now, cost)
        finally:
            self._lock.release()
        return decision

    def reconfigure(self, config: LimitConfig) -> None:
        """Use another limit at once, for callers that wait as well.

        Units taken before still count, as one burst of the new limit at most.
        """
        with self._lock or nullcontext():
            previous, self.config, self._gcra = self._gcra, config, Gcra(config)
            self._arrival = self._gcra.adopt(self._arrival, self._now(), previous)
        for line in list(self._waiting_lines.values()):
            line.wake()

    async def acquire(self, cost: int = 1, *, timeout: float | None = None) -> None:
        """Wait until `cost` units are free and take them; first come, first served.

        Args:
            timeout: longest wait in seconds; the current `deadline` can make it shorter.

        Raises:
            RateLimitedError: the wait would be too long; raised at once, without waiting.
            InvalidValueError: `cost` is no number of units, or above the burst and so never free.
        """
        check_cost(cost)
        if cost > self.config.capacity:
            raise InvalidValueError("cost", cost, f"at most the burst, {self.config.capacity}")
        line = self._waiting_line()
        ends_at = self._clock() + _max_wait_seconds(timeout, self._clock)
        self._check_wait(self._predicted_wait(line.waiting_cost + cost), ends_at)
        line.waiting_cost += cost
        try:
            async with line.turn:
                while not (decision := self.try_acquire(cost)).allowed and not is_testing():
                    self._check_wait(decision.retry_after, ends_at)
                    await line.sleep(self._sleep(decision.retry_after))
        finally:
            line.waiting_cost -= cost

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` if a unit is free.

        Raises:
            RateLimitedError: none is free.
            TypeError: the result of `fn` is to be awaited or iterated; use `arun`.
        """
        self._take_one()
        result = fn(*args, **kwargs)
        if type(result) not in FINAL_TYPES:
            refuse_deferred(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` if a unit is free.

        Raises:
            RateLimitedError: none is free.
        """
        self._take_one()
        return await fn(*args, **kwargs)

    def guard_async(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """Wrap an async function; as `arun`, without its frame."""

        @functools.wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            self._take_one()
            return await fn(*args, **kwargs)

        return guarded

    def snapshot(self) -> dict[str, object]:
        """The limit, and the units that are free now."""
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
            new_arrival = self._gcra.take_one(self._arrival, now)
            if new_arrival:
                self._arrival = new_arrival
                return
        finally:
            if lock is not None:
                lock.release()
        wait = self._gcra.wait_seconds(self._arrival, now, 1)
        raise self._notify_rejection(self._rate_limited(wait))

    def _check_wait(self, wait: float, ends_at: float) -> None:
        if wait < 0 or self._clock() + wait > ends_at:  # below 0: the burst was made too small
            raise self._notify_rejection(self._rate_limited(wait))

    def _rate_limited(self, retry_after: float) -> RateLimitedError:
        return RateLimitedError(self.name, self.config.rate, self.config.per_seconds, retry_after)

    def _predicted_wait(self, cost: int) -> float:
        return self._gcra.wait_seconds(self._arrival, self._now(), cost)

    def _waiting_line(self) -> _WaitingLine:
        loop = asyncio.get_running_loop()
        line = self._waiting_lines.get(loop)
        if line is None:
            line = self._waiting_lines[loop] = _WaitingLine()
        return line


class _WaitingLine:
    """The waiting callers of one event loop; asyncio's lock is first come, first served."""

    __slots__ = ("__weakref__", "_nap", "turn", "waiting_cost")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting_cost = 0
        self._nap: asyncio.Future[None] | None = None

    async def sleep(self, sleeping: Awaitable[None]) -> None:
        """Wait for `sleeping`, or until `wake` is called."""
        nap = self._nap = asyncio.ensure_future(sleeping)
        try:
            await asyncio.wait({nap})
            if not nap.cancelled():
                nap.result()
        finally:
            self._nap = None
            nap.cancel()

    def wake(self) -> None:
        """End the wait under way; may be called in any thread."""
        nap = self._nap
        if nap is not None:
            with suppress(RuntimeError):  # its loop is closed
                nap.get_loop().call_soon_threadsafe(nap.cancel)


def _max_wait_seconds(timeout: float | None, clock: Callable[[], float]) -> float:
    remaining = deadline.remaining(clock)
    seconds = float("inf") if timeout is None else timeout
    return seconds if remaining is None else min(seconds, remaining)
