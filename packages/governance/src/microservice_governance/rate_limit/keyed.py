"""One limit for each key: per caller, per service, per instance, in bounded memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping

from microservice_core import InvalidValueError
from microservice_governance.bounded_map import BoundedMap

from .config import Decision, LimitConfig
from .gcra import Gcra, nanoseconds

__all__ = ("KeyedRateLimiter",)


class KeyedRateLimiter:
    """A GCRA limit for each key; a key that is not limited any more costs nothing.

    At most `max_keys` keys are remembered. When there are more, the one that was used longest ago
    is forgotten and has its whole burst again.

    Args:
        config: what holds for each key.
        overrides: other limits for some keys.
        max_keys: how many keys are remembered.
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
        self._rules = {key: Gcra(limit) for key, limit in (overrides or {}).items()}
        self._arrivals: BoundedMap[Hashable, int] = BoundedMap(max_keys)
        self._now = nanoseconds(clock)
        self._lock = threading.Lock()

    @property
    def limits(self) -> tuple[LimitConfig, ...]:
        """What holds for each key that has no other limit."""
        return (self.config,)

    def __len__(self) -> int:
        """Keys that are remembered now."""
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
        rule = self._rules.get(key, self._rule)
        now = self._now()
        with self._lock:
            arrival, decision = rule.decide(self._arrivals.get(key) or 0, now, cost)
            if arrival > now:
                self._arrivals.put(key, arrival)
            self._forget_unlimited(now)
        return decision

    def reconfigure(
        self, config: LimitConfig, overrides: Mapping[Hashable, LimitConfig] | None = None
    ) -> None:
        """Take other limits; what was let through before still counts, as time."""
        self.config, self._rule = config, Gcra(config)
        self._rules = {key: Gcra(limit) for key, limit in (overrides or {}).items()}

    def snapshot(self) -> dict[str, object]:
        """The limit and how many keys are remembered."""
        return {
            "policy": "keyed_rate_limiter",
            "name": self.name,
            "rate": self.config.rate,
            "per_seconds": self.config.per_seconds,
            "burst": self.config.capacity,
            "keys": len(self),
        }

    def _forget_unlimited(self, now: int) -> None:
        """Two at each turn is enough to keep up, as each turn adds one at most."""
        for _ in range(2):
            oldest = self._arrivals.oldest()
            if oldest is None or oldest[1] > now:
                return
            self._arrivals.pop(oldest[0])
