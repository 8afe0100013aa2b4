"""Paced limiter: lets async calls pass one by one at an even pace, built on aiolimiter."""

from __future__ import annotations

import asyncio
from contextlib import suppress
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
from .keys import check_cost

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
        self.name = name
        self._use(config)
        self._pacers: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopPacer] = WeakKeyDictionary()

    def reconfigure(self, config: LimitConfig) -> None:
        """Use another pace at once, for callers that wait as well.

        Units that have passed still count, as one burst of the new limit at most.
        """
        self._use(config)
        for loop, pacer in list(self._pacers.items()):
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(pacer.reconfigure, self._rule)

    async def acquire(self, cost: int = 1, *, timeout: float | None = None) -> None:
        """Wait for the caller's turn.

        Args:
            cost: units; at most the burst.
            timeout: longest wait in seconds; the current `deadline` can make it shorter.

        Raises:
            RateLimitedError: the turn did not come in time; no units were taken.
            InvalidValueError: `cost` is not a whole number from 1 to the burst.
        """
        check_cost(cost)
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
                has_passed = await pacer.acquire(cost)
        except TimeoutError:
            raise self._rate_limited(pacer.predicted_wait(cost)) from None
        if not has_passed:
            raise self._rate_limited(-1.0)

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
            pacer = self._pacers[loop] = _LoopPacer(self._rule)
        return pacer

    def _use(self, config: LimitConfig) -> None:
        self.config = config
        self._burst = config.burst or 1
        self._rule = Gcra(config.model_copy(update={"burst": self._burst}))


class _LoopPacer:
    """The bucket of one event loop, behind a first-come, first-served lock.

    The bucket cannot predict a wait. A GCRA arrival time that is advanced alongside it can.
    """

    __slots__ = (
        "__weakref__",
        "_arrival",
        "_bucket",
        "_is_bucket_new",
        "_rule",
        "_turn",
        "_waiting",
        "_waiting_cost",
    )

    def __init__(self, rule: Gcra) -> None:
        self._rule = rule
        self._bucket = _make_bucket(rule)
        self._is_bucket_new = False
        self._turn = asyncio.Lock()
        self._arrival = 0
        self._waiting: asyncio.Future[None] | None = None
        self._waiting_cost = 0

    def predicted_wait(self, cost: int) -> float:
        """Seconds until the turn of a caller that arrives now."""
        return self._rule.wait_seconds(self._arrival, self._now(), self._waiting_cost + cost)

    def reconfigure(self, rule: Gcra) -> None:
        """Use another rule, for the caller that waits as well; called in the loop."""
        self._arrival = rule.adopt(self._arrival, self._now(), self._rule)
        self._rule, self._bucket, self._is_bucket_new = rule, _make_bucket(rule), True
        if self._waiting is not None:
            self._waiting.cancel()

    async def acquire(self, cost: int) -> bool:
        """Wait for the caller's turn; false if the burst became too small for it."""
        self._waiting_cost += cost
        try:
            async with self._turn:
                while not await self._pass_bucket(cost):
                    if cost > self._bucket.max_rate:
                        return False
                now = self._now()
                self._arrival = max(self._arrival, now) + cost * self._rule.emission
                return True
        finally:
            self._waiting_cost -= cost

    async def _pass_bucket(self, cost: int) -> bool:
        """Wait until the bucket has room; false if another has taken its place meanwhile."""
        bucket = self._bucket
        if self._is_bucket_new:  # it begins empty: fill in what has passed already
            self._is_bucket_new = False
            used = max(0, self._arrival - self._now()) / self._rule.emission
            await bucket.acquire(min(used, bucket.max_rate))
        if cost > bucket.max_rate:
            return False
        if bucket.has_capacity(cost):
            await bucket.acquire(cost)
            return True
        waiting = self._waiting = asyncio.ensure_future(bucket.acquire(cost))
        try:
            await asyncio.wait({waiting})
            return not waiting.cancelled()
        finally:
            self._waiting = None
            waiting.cancel()

    def _now(self) -> int:
        return int(asyncio.get_running_loop().time() * NANOSECONDS)


def _make_bucket(rule: Gcra) -> AsyncLimiter:
    """A bucket of the rule's burst and pace.

    AsyncLimiter(size, period) lets `size` units per `period` pass, and `size` at once. With the
    period of one burst that is a burst of `size` at the configured rate.
    """
    return AsyncLimiter(rule.tolerance // rule.emission, rule.tolerance / NANOSECONDS)
