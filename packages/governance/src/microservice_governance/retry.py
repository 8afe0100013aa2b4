"""Retry: call again what failed and may succeed, with growing, spread-out waits and in time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .backoff import Backoff, ExponentialBackoff, Jitter, jittered
from .deadline import deadline
from .policy import Policy, refuse_coroutine

if TYPE_CHECKING:
    from .retry_budget import RetryBudget

__all__ = ("Retry", "RetryConfig")

P = ParamSpec("P")
R = TypeVar("R")

Sleep = Callable[[float], "Awaitable[None] | None"]

_SPREAD = 0.1  # those told the same Retry-After come back within a tenth of it


class RetryConfig(BaseModel):
    """What to retry, how often and how far apart.

    Attributes:
        on: exception types to retry. There is no default: only the caller knows what is safe.
        attempts: calls in all, the first included.
        backoff: seconds to wait after the n-th failure.
        jitter: how much of each wait is random; see `jittered`.
        max_retry_after_seconds: an error that asks for a longer pause (`error.retry_after`) is not
            retried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    on: tuple[type[Exception], ...] = Field(min_length=1)
    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    backoff: Backoff = ExponentialBackoff()
    jitter: Jitter = "full"
    max_retry_after_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30.0

    @field_validator("on", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, type) else value


class Retry(Policy):
    """Retry what failed with one of `config.on`; what else is raised comes out at once.

    The last error comes out unchanged. A cancellation is never retried, and no retry begins that
    would have to wait past the `deadline` in force.

    Args:
        budget: shared by all calls to a service; when it is spent, the error comes out.
        sleep: takes seconds; may be plain or async (then only `arun` works). By default
            `time.sleep` and `asyncio.sleep`.
        rng: where jitter comes from; by default the `random` module's generator.
        clock: the deadline's clock.
    """

    def __init__(
        self,
        config: RetryConfig,
        *,
        budget: RetryBudget | None = None,
        sleep: Sleep | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.budget = budget
        self._sleep: Sleep = sleep or time.sleep
        self._async_sleep: Sleep = sleep or asyncio.sleep
        self._random = random.random if rng is None else rng.random
        self._clock = clock

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` until it succeeds or may not be retried any more.

        Raises:
            TypeError: `fn` is a coroutine function, which `arun` takes.
        """
        if self.budget is not None:
            self.budget.record_call()
        attempt = 1
        while True:
            try:
                result = fn(*args, **kwargs)
            except self.config.on as error:
                wait = self.wait_after(error, attempt)
                if wait is None:
                    raise
            else:
                if isinstance(result, CoroutineType):
                    refuse_coroutine(result)
                return result
            self._pause(wait)
            attempt += 1

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` until it succeeds or may not be retried any more."""
        if self.budget is not None:
            self.budget.record_call()
        attempt = 1
        while True:
            try:
                return await fn(*args, **kwargs)
            except self.config.on as error:
                wait = self.wait_after(error, attempt)
                if wait is None:
                    raise
            await self._async_pause(wait)
            attempt += 1

    def wait_after(self, error: Exception, attempt: int) -> float | None:
        """Seconds to wait before the next attempt, or None if there may be none.

        For those who make the attempts themselves. A wait spends one retry of the budget.

        Args:
            error: what the attempt failed with.
            attempt: which one it was, from 1.
        """
        config = self.config
        if attempt >= config.attempts or not isinstance(error, config.on):
            return None
        wait = self._wait(error, attempt)
        if wait is None or self._too_late(wait):
            return None
        if self.budget is not None and not self.budget.try_spend():
            return None
        return wait

    def _wait(self, error: Exception, attempt: int) -> float | None:
        wait = jittered(self.config.backoff(attempt), self.config.jitter, self._random)
        asked = getattr(error, "retry_after", None)
        if not isinstance(asked, int | float) or not asked > 0:
            return wait
        if asked > self.config.max_retry_after_seconds:
            return None
        # Never earlier than asked, and not everybody at the same moment.
        return max(wait, asked * (1 + _SPREAD * self._random()))

    def _too_late(self, wait: float) -> bool:
        left = deadline.remaining(self._clock)
        return left is not None and wait >= left

    def _pause(self, seconds: float) -> None:
        slept = self._sleep(seconds)
        if isinstance(slept, CoroutineType):
            refuse_coroutine(slept)

    async def _async_pause(self, seconds: float) -> None:
        slept = self._async_sleep(seconds)
        if slept is not None:
            await slept
