"""Rate limits that every process of a service shares, through the Redis of the open module."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from microservice_governance import LimitConfig, RateLimitedError, rate_limit_headers

from .current import current_module

if TYPE_CHECKING:
    from microservice_governance import AsyncRedisRateLimiter, Decision

__all__ = ("RequestLimitedError", "SharedRateLimit", "redis_rate_limited")

FunctionT = TypeVar("FunctionT", bound=Callable[..., Awaitable[Any]])

_ONE_KEY = "all"


class RequestLimitedError(RateLimitedError):
    """A shared limit is exhausted; as a response it is a 429 with these headers.

    Attributes:
        headers: `RateLimit-*`, and `Retry-After` where waiting helps.
    """

    def __init__(self, name: str, limit: LimitConfig, decision: Decision) -> None:
        wait = decision.retry_after if decision.retry_after >= 0 else None
        super().__init__(name, limit.rate, limit.per_seconds, wait)
        self.headers = rate_limit_headers(decision, limit)


class SharedRateLimit:
    """One limit by name, whose counts are kept in the Redis of the module that is current.

    While Redis does not respond each process limits by itself.

    Args:
        name: the same in every process that shares it.
    """

    def __init__(self, name: str, limit: LimitConfig) -> None:
        self.name = name
        self.limit = limit

    async def take(self, key: str) -> Decision:
        """Take one unit of a key's limit.

        Raises:
            RequestLimitedError: none is free.
            NotEnabledError: the module has no `redis_url`.
            MissingDependencyError: the extra `redis` is not installed.
        """
        decision = await self._get_limiter().try_acquire(key)
        if not decision.allowed:
            raise RequestLimitedError(self.name, self.limit, decision)
        return decision

    def _get_limiter(self) -> AsyncRedisRateLimiter:
        module = current_module()
        limiter = module.parts.limiters.get(self.name)
        if limiter is None:
            from microservice_governance import AsyncRedisRateLimiter

            client = cast("Any", module.redis)  # redis-py's types are not imported here
            limiter = AsyncRedisRateLimiter(client, self.limit, name=self.name)
            module.parts.limiters[self.name] = limiter
        return cast("AsyncRedisRateLimiter", limiter)


def redis_rate_limited(
    name: str, limit: LimitConfig, *, key: Callable[..., str] | None = None
) -> Callable[[FunctionT], FunctionT]:
    """Limit an async function in all processes together: `@redis_rate_limited("search", limit)`.

    Needs `redis_url` and the extra `redis`. A refused call raises `RequestLimitedError`.

    Args:
        name: the same in every process that shares the limit; functions of one name share it.
        key: returns what is limited, such as a user's id, from the call's arguments; by default
            all calls together.
    """
    shared_limit = SharedRateLimit(name, limit)

    def mark(function: FunctionT) -> FunctionT:
        @wraps(function)
        async def call(*arguments: object, **named: object) -> object:
            await shared_limit.take(_ONE_KEY if key is None else key(*arguments, **named))
            return await function(*arguments, **named)

        return cast("FunctionT", call)

    return mark
