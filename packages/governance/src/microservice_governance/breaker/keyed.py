"""A circuit breaker per key (instance, host, route) in bounded memory."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from itertools import islice

from microservice_core import Endpoint, InvalidValueError
from microservice_governance.bounded_map import BoundedMap
from microservice_governance.events import Listener

from .circuit_breaker import CircuitBreaker
from .config import BreakerConfig, BreakerState

__all__ = ("KeyedCircuitBreakers",)

_EVICTION_CANDIDATES = 8


class KeyedCircuitBreakers:
    """Creates a breaker when its key is first used, and drops it when the key is idle.

    At most `max_keys` breakers exist. When there would be more, one of the least recently used is
    evicted: a closed one if possible, because it loses the least. Also an `OutcomeObserver`: an
    outcome is counted by the breaker whose key is the endpoint's `instance_id`.

    Args:
        config: settings of each breaker.
        name: prefix of the breakers' names; the key follows it.
        max_keys: number of breakers that are kept.
        idle_seconds: a breaker that is not used for so long is dropped.

    Raises:
        InvalidValueError: a number is out of its range.
    """

    def __init__(
        self,
        config: BreakerConfig | None = None,
        *,
        name: str = "",
        max_keys: int = 10_000,
        idle_seconds: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not idle_seconds > 0:
            raise InvalidValueError("idle_seconds", idle_seconds, "above 0")
        self.config = config or BreakerConfig()
        self.name = name
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._breakers: BoundedMap[Hashable, tuple[CircuitBreaker, float]] = BoundedMap(max_keys)
        self._listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._breakers)

    def __iter__(self) -> Iterator[CircuitBreaker]:
        with self._lock:
            breakers = [breaker for breaker, _ in self._breakers.values()]
        return iter(breakers)

    def get(self, key: Hashable) -> CircuitBreaker:
        """The breaker of `key`, created if necessary."""
        now = self._clock()
        with self._lock:
            entry = self._breakers.get(key)
            breaker = self._create(key) if entry is None else entry[0]
            self._breakers.set(key, (breaker, now))
            self._drop_idle(now)
        return breaker

    def forget(self, key: Hashable) -> None:
        """Drop the breaker of a key that will not be used any more."""
        with self._lock:
            self._breakers.pop(key)

    def on_outcome(
        self, endpoint: Endpoint, duration_seconds: float, error: BaseException | None
    ) -> None:
        """Count an attempt on `endpoint` that was made without a permit."""
        self.get(endpoint.instance_id).note(error, duration=duration_seconds)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with the events of all breakers, present and future.

        Returns a function that ends this.
        """
        with self._lock:
            self._listeners = (*self._listeners, listener)
            for breaker, _ in self._breakers.values():
                breaker.subscribe(listener)
        return functools.partial(self.unsubscribe, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Stop calling `listener`."""
        with self._lock:
            self._listeners = tuple(other for other in self._listeners if other != listener)
            for breaker, _ in self._breakers.values():
                breaker.unsubscribe(listener)

    def snapshot(self) -> dict[str, object]:
        """The number of breakers, and the snapshots of those that are not closed."""
        breakers = list(self)
        not_closed = [
            breaker for breaker in breakers if breaker.current_state is not BreakerState.CLOSED
        ]
        return {
            "policy": "keyed_circuit_breakers",
            "name": self.name,
            "keys": len(breakers),
            "not_closed": [breaker.snapshot() for breaker in not_closed],
        }

    def _create(self, key: Hashable) -> CircuitBreaker:
        if len(self._breakers) >= self._breakers.max_keys:
            self._evict_closed()
        breaker = CircuitBreaker(f"{self.name} {key}".strip(), self.config, clock=self._clock)
        for listener in self._listeners:
            breaker.subscribe(listener)
        return breaker

    def _evict_closed(self) -> None:
        """Make room by dropping a closed breaker, if one of the oldest few is closed."""
        for key in list(islice(self._breakers, _EVICTION_CANDIDATES)):
            entry = self._breakers.peek(key)
            if entry is not None and entry[0].current_state is BreakerState.CLOSED:
                self._breakers.pop(key)
                return

    def _drop_idle(self, now: float) -> None:
        """Drop up to two idle breakers: enough to keep up, as a call adds one at most."""
        for _ in range(2):
            oldest = self._breakers.oldest()
            if oldest is None or now - oldest[1][1] < self._idle_seconds:
                return
            self._breakers.pop(oldest[0])
