"""One rate limit per key (caller, service, instance) in bounded memory, also as a policy."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from types import CoroutineType
from typing import ParamSpec, Protocol, TypeVar

from microservice_core import InvalidValueError
from microservice_governance.bounded_map import BoundedMap
from microservice_governance.errors import RateLimitedError
from microservice_governance.policy import Policy, is_async, refuse_coroutine

from .config import Decision, LimitConfig
from .gcra import Gcra, nanoseconds

__all__ = ("KeyedLimit", "KeyedRateLimiter", "LimiterByKey")

P = ParamSpec("P")
R = TypeVar("R")


class KeyedRateLimiter:
    """A GCRA limit for each key; a key that has its whole burst again takes no memory.

    At most `max_keys` keys are remembered. When there would be more, the least recently used one
    is forgotten, and has its whole burst again.

    Args:
        config: the limit of each key.
        overrides: other limits for some keys.
        max_keys: number of keys that are remembered.
        name: for messages.
        clock: monotonic seconds.

    Raises:
        InvalidValueError: `max_keys` is below 1.
    """

    def __init__(
        self,
        config: LimitConfig,
        *,
        overrides: Mapping[Hashable, LimitConfig] | None = None,
        max_keys: int = 10_000,
        name: str = "keyed rate limit",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.name = name
        self._rule = Gcra(config)
        self._override_rules = {key: Gcra(limit) for key, limit in (overrides or {}).items()}
        self._arrivals: BoundedMap[Hashable, int] = BoundedMap(max_keys)
        self._now = nanoseconds(clock)
        self._lock = threading.Lock()

    @property
    def limits(self) -> tuple[LimitConfig, ...]:
        """The limit of each key that has no override."""
        return (self.config,)

    def __len__(self) -> int:
        """The number of keys that are remembered now."""
        return len(self._arrivals)

    def try_acquire(self, key: Hashable, cost: int = 1) -> Decision:
        """Take `cost` units of the key's limit if they are free now.

        Args:
            cost: units; 0 only looks.

        Raises:
            InvalidValueError: `cost` is negative.
        """
        if cost < 0:
            raise InvalidValueError("cost", cost, "at least 0")
        rule = self._override_rules.get(key, self._rule)
        now = self._now()
        with self._lock:
            arrival, decision = rule.decide(self._arrivals.get(key) or 0, now, cost)
            if arrival > now:
                self._arrivals.set(key, arrival)
            self._forget_unused(now)
        return decision

    def reconfigure(
        self, config: LimitConfig, overrides: Mapping[Hashable, LimitConfig] | None = None
    ) -> None:
        """Use other limits; units taken before still count, as the time they took to emit."""
        self.config, self._rule = config, Gcra(config)
        self._override_rules = {key: Gcra(limit) for key, limit in (overrides or {}).items()}

    def snapshot(self) -> dict[str, object]:
        """The limit, and the number of keys that are remembered."""
        return {
            "policy": "keyed_rate_limiter",
            "name": self.name,
            "rate": self.config.rate,
            "per_seconds": self.config.per_seconds,
            "burst": self.config.capacity,
            "keys": len(self),
        }

    def _forget_unused(self, now: int) -> None:
        """Forget up to two keys that have their whole burst: a call adds one key at most."""
        for _ in range(2):
            oldest = self._arrivals.oldest()
            if oldest is None or oldest[1] > now:
                return
            self._arrivals.pop(oldest[0])


class LimiterByKey(Protocol):
    """What `KeyedLimit` needs: `KeyedRateLimiter` and both limiters on Redis have it."""

    name: str

    @property
    def limits(self) -> Sequence[LimitConfig]:
        """The limits of each key."""
        ...

    @property
    def try_acquire(self) -> Callable[[str], Decision | Awaitable[Decision]]:
        """Take one unit of the key's limit if it is free now."""
        ...


class KeyedLimit(Policy):
    """Refuses a call when the limit of its key is exhausted; a call costs one unit.

    Args:
        limiter: holds the limits. One for asyncio guards async functions only.
        key: the key of every call, or a function of a call's arguments that returns its key.
    """

    kind = "rate_limiter"

    def __init__(self, limiter: LimiterByKey, *, key: str | Callable[..., str]) -> None:
        self.name = limiter.name
        self._limiter = limiter
        self._key = key

    def check_sync(self, fn: Callable[..., object]) -> None:
        """Check that the limiter works in a plain function.

        Raises:
            TypeError: it is one for asyncio.
        """
        if is_async(self._limiter.try_acquire):
            raise TypeError(
                f"the limiter {self.name!r} is for asyncio, which a plain function cannot await; "
                "give it the plain one"
            )

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` if a unit is free.

        Raises:
            RateLimitedError: none is free.
            TypeError: `fn` is a coroutine function or the limiter is for asyncio; use `arun`.
        """
        decision = self._limiter.try_acquire(self._key_of(*args, **kwargs))
        if not isinstance(decision, Decision):
            refuse_coroutine(decision)
        self._raise_if_refused(decision)
        result = fn(*args, **kwargs)
        if isinstance(result, CoroutineType):
            refuse_coroutine(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` if a unit is free.

        Raises:
            RateLimitedError: none is free.
        """
        decision = self._limiter.try_acquire(self._key_of(*args, **kwargs))
        self._raise_if_refused(await decision if inspect.isawaitable(decision) else decision)
        return await fn(*args, **kwargs)

    def _key_of(self, *args: object, **kwargs: object) -> str:
        return self._key if isinstance(self._key, str) else self._key(*args, **kwargs)

    def _raise_if_refused(self, decision: Decision) -> None:
        if decision.allowed:
            return
        limit = self._limiter.limits[0]
        raise self._notify_rejection(
            RateLimitedError(self.name, limit.rate, limit.per_seconds, decision.retry_after)
        )
