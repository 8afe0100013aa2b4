"""Paced limiter: lets async calls pass one after the other at an even pace, on aiolimiter."""

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

    aiolimiter's leaky bucket keeps the pace. What it lacks is added: a fair line (it lets small
    and late callers overtake), a bound on the wait that is told before waiting, and use from
    several event loops (each paces its own calls).

    Args:
        config: `rate` per `per_seconds`; `burst` units pass without a pause, 1 when not given.
        name: for messages.
    """

    def __init__(self, config: LimitConfig, *, name: str = "paced limit") -> None:
        self.config = config
        self.name = name
        self._burst = config.burst or 1
        self._shadow = Gcra(config.model_copy(update={"burst": self._burst}))
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Paced] = WeakKeyDictionary()

    async def acquire(self, cost: int = 1, *, timeout: float | None = None) -> None:
        """Wait for the caller's turn.

        Args:
            cost: units; at most the burst.
            timeout: seconds to wait at most; the `deadline` in force counts as well.

        Raises:
            RateLimitedError: the turn did not come in time; nothing was taken.
            InvalidValueError: `cost` is below 1 or above the burst.
        """
        if not 1 <= cost <= self._burst:
            raise InvalidValueError("cost", cost, f"from 1 to the burst, {self._burst}")
        if is_testing():
            return
        left = deadline.remaining()
        allowed = min((t for t in (timeout, left) if t is not None), default=None)
        paced = self._paced()
        wait = paced.predicted_wait(cost)
        if allowed is not None and wait > allowed:
            raise self._refusal(wait)
        try:
            async with asyncio.timeout(allowed):
                await paced.acquire(cost)
        except TimeoutError:
            raise self._refusal(paced.predicted_wait(cost)) from None

    def snapshot(self) -> dict[str, object]:
        """The pace."""
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
        """Leaving the block gives nothing back: what passed has passed."""

    def _refusal(self, wait: float) -> RateLimitedError:
        return RateLimitedError(self.name, self.config.rate, self.config.per_seconds, wait)

    def _paced(self) -> _Paced:
        loop = asyncio.get_running_loop()
        paced = self._loops.get(loop)
        if paced is None:
            # A bucket of size b that drains at b per (b / rate): burst b at that rate.
            seconds = self._burst * self.config.per_seconds / self.config.rate
            paced = self._loops[loop] = _Paced(AsyncLimiter(self._burst, seconds), self._shadow)
        return paced


class _Paced:
    """One loop's bucket behind one fair line.

    The bucket does not tell how long a turn takes to come: GCRA, told the same, does.
    """

    __slots__ = ("__weakref__", "_arrival", "_bucket", "_rule", "_turn", "_waiting_cost")

    def __init__(self, bucket: AsyncLimiter, rule: Gcra) -> None:
        self._bucket = bucket
        self._rule = rule
        self._turn = asyncio.Lock()
        self._arrival = 0
        self._waiting_cost = 0

    def predicted_wait(self, cost: int) -> float:
        """Seconds until the turn of one who comes now."""
        return self._rule.wait(self._arrival, self._now(), self._waiting_cost + cost)

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
