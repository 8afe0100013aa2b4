"""Keyed limit: a limit by key as a policy, the key taken from the arguments of each call."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from types import CoroutineType
from typing import ParamSpec, Protocol, TypeVar

from microservice_governance.errors import RateLimitedError
from microservice_governance.policy import Policy, is_async, refuse_coroutine

from .config import Decision, LimitConfig

__all__ = ("KeyedLimit", "LimiterByKey")

P = ParamSpec("P")
R = TypeVar("R")


class LimiterByKey(Protocol):
    """`KeyedRateLimiter`, `RedisRateLimiter` and `AsyncRedisRateLimiter` are such."""

    name: str

    @property
    def limits(self) -> Sequence[LimitConfig]:
        """What holds for each key."""
        ...

    @property
    def try_acquire(self) -> Callable[[str], Decision | Awaitable[Decision]]:
        """Take one unit of the key's limit, if it is free now."""
        ...


class KeyedLimit(Policy):
    """Refuses a call when the limit of its key is reached; a call costs one unit.

    Args:
        limiter: whose limits count. One for asyncio guards async functions only.
        key: of a call, by its arguments; or one for all.
    """

    kind = "rate_limiter"

    def __init__(self, limiter: LimiterByKey, *, key: str | Callable[..., str]) -> None:
        self.name = limiter.name
        self._limiter = limiter
        self._key = key

    def check_sync(self, fn: Callable[..., object]) -> None:
        """A limiter for asyncio cannot be asked by a plain function.

        Raises:
            TypeError: it is one.
        """
        if is_async(self._limiter.try_acquire):
            raise TypeError(
                f"the limiter {self.name!r} is for asyncio, which a plain function cannot await; "
                "give it the plain one"
            )

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` if a unit is free.

        Raises:
            RateLimitedError: none is; nothing was called.
            TypeError: `fn` is a coroutine function, which `arun` takes, or the limiter is for
                asyncio.
        """
        decision = self._limiter.try_acquire(self._key_of(*args, **kwargs))
        if not isinstance(decision, Decision):
            refuse_coroutine(decision)
        self._check(decision)
        result = fn(*args, **kwargs)
        if isinstance(result, CoroutineType):
            refuse_coroutine(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` if a unit is free.

        Raises:
            RateLimitedError: none is; nothing was called.
        """
        decision = self._limiter.try_acquire(self._key_of(*args, **kwargs))
        self._check(await decision if inspect.isawaitable(decision) else decision)
        return await fn(*args, **kwargs)

    def _key_of(self, *args: object, **kwargs: object) -> str:
        return self._key if isinstance(self._key, str) else self._key(*args, **kwargs)

    def _check(self, decision: Decision) -> None:
        if decision.allowed:
            return
        limit = self._limiter.limits[0]
        raise self._rejected(
            RateLimitedError(self.name, limit.rate, limit.per_seconds, decision.retry_after)
        )
