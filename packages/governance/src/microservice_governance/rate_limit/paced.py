"""Paced limiter: lets async calls pass one by one at an even pace, built on aiolimiter."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

from aiolimiter import AsyncLimiter

from microservice_core import InvalidValueError
from microservice_governance.errors import RateLimitedError
from microservice_governance.testing_mode import is_testing
from microservice_governance.timeouts.deadline import deadline

from .config import NANOSECONDS, LimitConfig
from .gcra import Gcra

__all__ = ("PacedLimiter",)


class PacedLimiter:
    """Smooths a stream of calls: `async with limiter:` waits for the caller's turn.

    aiolimiter's leaky bucket keeps the pace. This class adds what it lacks: first come, first
    served (in the bucket, small and late callers overtake), a refusal before the wait if it would
    be too long, and use from several event loops (each paces its own calls).

    Args:
        config: `rate` per `per_seconds`; `burst` units, by default 1, pass without a pause.
        name: for messages.
    """

    def __init__(self, config: LimitConfig, *, name: str = "paced limit") -> None:
        self.config = config
        self.name = name
        self._burst = config.burst or 1
        self._rule = Gcra(config.model_copy(update={"burst": self._burst}))
        self._pacers: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopPacer] = WeakKeyDictionary()

    async def acquire(self, cost: int = 1, *, timeout: float | None = None) -> None:
        """Wait for the caller's turn.

        Args:
            cost: units; at most the burst.
            timeout: longest wait in seconds; the current `deadline` can make it shorter.

        Raises:
            RateLimitedError: the turn did not come in time; no units were taken.
            InvalidValueError: `cost` is below 1 or above the burst.
        """
        if not 1 <= cost <= self._burst:
            raise InvalidValueError("cost", cost, f"from 1 to the burst, {self._burst}")
        if is_testing():
            return
        bounds = (timeout, deadline.remaining())
        max_wait = min((bound for bound in bounds if bound is not None), default=None)
        pacer = self._pacer()
        wait = pacer.predicted_wait(cost)
        if max_wait is not None and wait > max_wait:
            raise self._rate_limited(wait)
        try:
            async with asyncio.timeout(max_wait):
                await pacer.acquire(cost)
        except TimeoutError:
            raise self._rate_limited(pacer.predicted_wait(cost)) from None

    def snapshot(self) -> dict[str, object]:
        """The configured pace."""
        return {
            "policy": "paced_limiter",
            "name": self.name,
            "rate": self.config.rate,
            "per_seconds": self.config.per_seconds,
            "burst": self._burst,
        }

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Do nothing: units that have passed are not returned."""

    def _rate_limited(self, wait: float) -> RateLimitedError:
        return RateLimitedError(self.name, self.config.rate, self.config.per_seconds, wait)

    def _pacer(self) -> _LoopPacer:
        loop = asyncio.get_running_loop()
        pacer = self._pacers.get(loop)
        if pacer is None:
            # AsyncLimiter(size, period) lets `size` units per `period` pass, and `size` at once.
            # With the period of one burst that is a burst of `size` at the configured rate.
            seconds = self._burst * self.config.per_seconds / self.config.rate
            pacer = self._pacers[loop] = _LoopPacer(AsyncLimiter(self._burst, seconds), self._rule)
        return pacer


class _LoopPacer:
    """The bucket of one event loop, behind a first-come, first-served lock.

    The bucket cannot predict a wait. A GCRA arrival time that is advanced alongside it can.
    """

    __slots__ = ("__weakref__", "_arrival", "_bucket", "_rule", "_turn", "_waiting_cost")

    def __init__(self, bucket: AsyncLimiter, rule: Gcra) -> None:
        self._bucket = bucket
        self._rule = rule
        self._turn = asyncio.Lock()
        self._arrival = 0
        self._waiting_cost = 0

    def predicted_wait(self, cost: int) -> float:
        """Seconds until the turn of a caller that arrives now."""
        return self._rule.wait_seconds(self._arrival, self._now(), self._waiting_cost + cost)

    async def acquire(self, cost: int) -> None:
        self._waiting_cost += cost
        try:
            async with self._turn:
                await self._bucket.acquire(cost)
                now = self._now()
                self._arrival = max(self._arrival, now) + cost * self._rule.emission
        finally:
            self._waiting_cost -= cost

    def _now(self) -> int:
        return int(asyncio.get_running_loop().time() * NANOSECONDS)
