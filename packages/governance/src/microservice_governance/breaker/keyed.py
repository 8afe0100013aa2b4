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
_STATES_BY_HAND = {BreakerState.FORCED_OPEN, BreakerState.DISABLED, BreakerState.METRICS_ONLY}


class KeyedCircuitBreakers:
    """Creates a breaker when its key is first used, and drops it when the key is idle.

    Idle is a key whose breaker was not asked for and has counted no outcome for `idle_seconds`; a
    breaker that a decorator holds is in use as long as it is called. One that was moved to
    forced-open, disabled or metrics-only by hand is never dropped.

    At most `max_keys` breakers exist. When there would be more, one of the least recently used is
    evicted: a closed one if possible, because it loses the least. Where all of them were moved by
    hand, a further key's breaker works but is not kept. Also an `OutcomeObserver`: an
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
        self._breakers: BoundedMap[Hashable, _Entry] = BoundedMap(max_keys)
        self._listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._breakers)

    def __iter__(self) -> Iterator[CircuitBreaker]:
        with self._lock:
            breakers = [entry.breaker for entry in self._breakers.values()]
        return iter(breakers)

    def get(self, key: Hashable) -> CircuitBreaker:
        """The breaker of `key`, created if necessary."""
        now = self._clock()
        with self._lock:
            entry = self._breakers.get(key)
            if entry is None:
                entry = _Entry(self._create(key), now)
                if len(self._breakers) >= self._breakers.max_keys and not self._make_room():
                    return entry.breaker
            entry.used_at = now
            self._breakers.set(key, entry)
            self._drop_idle(now)
        return entry.breaker

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
            for entry in self._breakers.values():
                entry.breaker.subscribe(listener)
        return functools.partial(self.unsubscribe, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Stop calling `listener`."""
        with self._lock:
            self._listeners = tuple(other for other in self._listeners if other != listener)
            for entry in self._breakers.values():
                entry.breaker.unsubscribe(listener)

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
        breaker = CircuitBreaker(f"{self.name} {key}".strip(), self.config, clock=self._clock)
        for listener in self._listeners:
            breaker.subscribe(listener)
        return breaker

    def _make_room(self) -> bool:
        """Drop a closed breaker of the oldest few, else the oldest; false if none may be dropped."""
        droppable = (key for key in self._breakers if not self._is_kept(key))
        oldest = list(islice(droppable, _EVICTION_CANDIDATES))
        closed = [key for key in oldest if self._state_of(key) is BreakerState.CLOSED]
        for key in (closed or oldest)[:1]:
            self._breakers.pop(key)
        return bool(oldest)

    def _state_of(self, key: Hashable) -> BreakerState | None:
        entry = self._breakers.peek(key)
        return None if entry is None else entry.breaker.current_state

    def _is_kept(self, key: Hashable) -> bool:
        """Whether the breaker was moved by hand to a state that only a hand ends."""
        return self._state_of(key) in _STATES_BY_HAND

    def _drop_idle(self, now: float) -> None:
        """Drop up to two idle breakers: enough to keep up, as a call adds one at most."""
        for _ in range(2):
            oldest = self._breakers.oldest()
            if oldest is None or now - oldest[1].used_at < self._idle_seconds:
                return
            key, entry = oldest
            if entry.was_used() or self._is_kept(key):
                entry.used_at = now
                self._breakers.set(key, entry)
            else:
                self._breakers.pop(key)


class _Entry:
    """A breaker, when it was last asked for, and what it had counted when that was looked at last."""

    __slots__ = ("_activity", "breaker", "used_at")

    def __init__(self, breaker: CircuitBreaker, used_at: float) -> None:
        self.breaker = breaker
        self.used_at = used_at
        self._activity = breaker.activity()

    def was_used(self) -> bool:
        """Whether the breaker has counted anything since the last time."""
        before, self._activity = self._activity, self.breaker.activity()
        return self._activity != before
