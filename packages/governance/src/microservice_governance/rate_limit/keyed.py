"""One rate limit per key (caller, service, instance) in bounded memory, also as a policy."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar

from microservice_governance.bounded_map import BoundedMap
from microservice_governance.deferred_results import FINAL_TYPES, refuse_deferred
from microservice_governance.errors import RateLimitedError
from microservice_governance.policy import Policy, is_async

from .config import Decision, LimitConfig
from .gcra import Gcra, nanoseconds
from .keys import LimitKey, check_cost, encode_key

__all__ = ("KeyedLimit", "KeyedRateLimiter", "LimiterByKey")

P = ParamSpec("P")
R = TypeVar("R")


class KeyedRateLimiter:
    """A GCRA limit for each key; a key that has its whole burst again takes no memory.

    At most `max_keys` keys are remembered. When there would be more, the least recently used one
    is forgotten, and has its whole burst again.

    Args:
        config: the limit of each key.
        overrides: other limits for some keys (`LimitKey`).
        max_keys: number of keys that are remembered.
        name: for messages.
        clock: monotonic seconds.

    Raises:
        InvalidValueError: `max_keys` is below 1, or a key of `overrides` is none.
    """

    def __init__(
        self,
        config: LimitConfig,
        *,
        overrides: Mapping[Any, LimitConfig] | None = None,
        max_keys: int = 10_000,
        name: str = "keyed rate limit",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.name = name
        self._rule = Gcra(config)
        self._override_rules = _rules(overrides)
        self._arrivals: BoundedMap[str, int] = BoundedMap(max_keys)
        self._now = nanoseconds(clock)
        self._lock = threading.Lock()

    @property
    def limits(self) -> tuple[LimitConfig, ...]:
        """The limit of each key that has no override."""
        return (self.config,)

    def __len__(self) -> int:
        """The number of keys that are remembered now."""
        return len(self._arrivals)

    def try_acquire(self, key: LimitKey, cost: int = 1) -> Decision:
        """Take `cost` units of the key's limit if they are free now.

        Args:
            key: a text, a whole number, bytes, or a tuple of these.
            cost: units; 0 only looks.

        Raises:
            InvalidValueError: `cost` is negative or not a whole number, or `key` of another type.
        """
        if type(cost) is not int or cost < 0:
            check_cost(cost)
        name = encode_key(key)
        now = self._now()
        with self._lock:
            rule = self._override_rules.get(name, self._rule)
            arrival, decision = rule.decide(self._arrivals.get(name) or 0, now, cost)
            if arrival > now:
                self._arrivals.set(name, arrival)
            self._forget_unused(now)
        return decision

    def reconfigure(
        self, config: LimitConfig, overrides: Mapping[Any, LimitConfig] | None = None
    ) -> None:
        """Use other limits at once.

        Units taken before still count, as one burst of the key's new limit at most.
        """
        rule, override_rules, now = Gcra(config), _rules(overrides), self._now()
        with self._lock:
            for name in list(self._arrivals):  # in their order, which storing keeps
                new = override_rules.get(name, rule)
                old = self._override_rules.get(name, self._rule)
                self._arrivals.set(name, new.adopt(self._arrivals.peek(name) or 0, now, old))
            self.config, self._rule, self._override_rules = config, rule, override_rules

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
    def try_acquire(self) -> Callable[[LimitKey], Decision | Awaitable[Decision]]:
        """Take one unit of the key's limit if it is free now."""
        ...


class KeyedLimit(Policy):
    """Refuses a call when the limit of its key is exhausted; a call costs one unit.

    Args:
        limiter: holds the limits. One for asyncio guards async functions only.
        key: the key of every call, or a function of a call's arguments that returns its key.
    """

    kind = "rate_limiter"

    def __init__(self, limiter: LimiterByKey, *, key: LimitKey | Callable[..., LimitKey]) -> None:
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
            refuse_deferred(decision)
            raise TypeError(f"limiter {self.name!r} must return a Decision; give another limiter")
        self._raise_if_refused(decision)
        result = fn(*args, **kwargs)
        if type(result) not in FINAL_TYPES:
            refuse_deferred(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` if a unit is free.

        Raises:
            RateLimitedError: none is free.
        """
        decision = self._limiter.try_acquire(self._key_of(*args, **kwargs))
        self._raise_if_refused(await decision if inspect.isawaitable(decision) else decision)
        return await fn(*args, **kwargs)

    def _key_of(self, *args: object, **kwargs: object) -> LimitKey:
        return self._key(*args, **kwargs) if callable(self._key) else self._key

    def _raise_if_refused(self, decision: Decision) -> None:
        if decision.allowed:
            return
        limit = self._limiter.limits[0]
        raise self._notify_rejection(
            RateLimitedError(self.name, limit.rate, limit.per_seconds, decision.retry_after)
        )


def _rules(overrides: Mapping[Any, LimitConfig] | None) -> dict[str, Gcra]:
    return {encode_key(key): Gcra(limit) for key, limit in (overrides or {}).items()}
