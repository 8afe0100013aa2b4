"""A circuit breaker for each key: per instance, per host, per route, in bounded memory."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Hashable, Iterator

from microservice_core import Endpoint, InvalidValueError
from microservice_governance.bounded_map import BoundedMap
from microservice_governance.events import Listener

from .circuit_breaker import CircuitBreaker
from .config import BreakerConfig, BreakerState

__all__ = ("KeyedCircuitBreakers",)

_LOOK_AT = 8


class KeyedCircuitBreakers:
    """Breakers made when they are first asked for, and forgotten when nobody asks any more.

    At most `max_keys` are kept. When there are more, one that was used long ago goes: a closed one
    if there is one among the oldest, as a closed one forgets least. It is an `OutcomeObserver` as
    well: told of an outcome, it lets the breaker of that endpoint's `instance_id` count it.

    Args:
        config: of each breaker.
        name: theirs are `name` and the key.
        max_keys: how many are kept.
        idle_seconds: one that nobody asked for that long is forgotten.

    Raises:
        InvalidValueError: a number outside its range.
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
        self._kept: BoundedMap[Hashable, tuple[CircuitBreaker, float]] = BoundedMap(max_keys)
        self._listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[CircuitBreaker]:
        with self._lock:
            breakers = [breaker for breaker, _ in self._kept.values()]
        return iter(breakers)

    def get(self, key: Hashable) -> CircuitBreaker:
        """The breaker of that key."""
        now = self._clock()
        with self._lock:
            found = self._kept.get(key)
            breaker = self._made(key) if found is None else found[0]
            self._kept.put(key, (breaker, now))
            self._forget_idle(now)
        return breaker

    def forget(self, key: Hashable) -> None:
        """Drop the breaker of a key that is gone for good."""
        with self._lock:
            self._kept.pop(key)

    def on_outcome(
        self, endpoint: Endpoint, duration_seconds: float, error: BaseException | None
    ) -> None:
        """One attempt on `endpoint` ended; the caller needed no permit for it."""
        self.get(endpoint.instance_id).note(error, duration=duration_seconds)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` told of the events of all breakers, also of those to come."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
            for breaker, _ in self._kept.values():
                breaker.subscribe(listener)
        return functools.partial(self.unsubscribe, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Tell that listener no more."""
        with self._lock:
            self._listeners = tuple(one for one in self._listeners if one != listener)
            for breaker, _ in self._kept.values():
                breaker.unsubscribe(listener)

    def snapshot(self) -> dict[str, object]:
        """How many there are, and the snapshots of those that are not closed."""
        breakers = list(self)
        troubled = [one for one in breakers if one.current_state is not BreakerState.CLOSED]
        return {
            "policy": "keyed_circuit_breakers",
            "name": self.name,
            "keys": len(breakers),
            "not_closed": [breaker.snapshot() for breaker in troubled],
        }

    def _made(self, key: Hashable) -> CircuitBreaker:
        if len(self._kept) >= self._kept.max_keys:
            self._make_room()
        breaker = CircuitBreaker(f"{self.name} {key}".strip(), self.config, clock=self._clock)
        for listener in self._listeners:
            breaker.subscribe(listener)
        return breaker

    def _make_room(self) -> None:
        oldest = [entry for _, entry in zip(range(_LOOK_AT), self._kept, strict=False)]
        for key in oldest:
            found = self._kept.peek(key)
            if found is not None and found[0].current_state is BreakerState.CLOSED:
                self._kept.pop(key)
                return

    def _forget_idle(self, now: float) -> None:
        """Two at each turn is enough to keep up, as each turn adds one at most."""
        for _ in range(2):
            oldest = self._kept.oldest()
            if oldest is None or now - oldest[1][1] < self._idle_seconds:
                return
            self._kept.pop(oldest[0])
