"""Priority levels: a level takes the calls that the levels before it lack healthy endpoints for."""

from __future__ import annotations

import random
import zlib
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from microservice_core import InvalidValueError, NoInstanceAvailableError

from .balancer import Balancer, Key, validate_weights
from .explanation import Explanation
from .health_filter import is_healthy, validate_share
from .node import E

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from .lease import Lease
    from .observer import BalancerObserver
    from .stage import WeightedEndpoints

T = TypeVar("T")

__all__ = ("PriorityLevels", "ZonePreference", "level_loads")


def level_loads(healthy_percents: Sequence[float], *, overprovisioning: float = 1.4) -> list[int]:
    """Divide the calls among priority levels.

    A level has full capacity while its healthy percentage times `overprovisioning` reaches 100;
    what it lacks goes to the next level. If all levels together lack capacity, they share the calls
    in proportion to it.

    Source: Envoy, "Priority levels".

    Args:
        healthy_percents: by level, the percentage of its endpoints that are healthy.
        overprovisioning: how many times its share of the calls a healthy endpoint can take.

    Returns:
        By level, the percentage of the calls it gets; the sum is 100.
    """
    capacities = _capacities(healthy_percents, overprovisioning)
    total = min(100, sum(capacities))
    if total == 0:
        return [100 if level == 0 else 0 for level in range(len(capacities))]
    loads, remaining = [], 100
    for capacity in capacities:
        loads.append(min(remaining, int(capacity * 100 / total + 0.5)))
        remaining -= loads[-1]
    # The rest from rounding goes to the first level with any capacity, as in Envoy.
    loads[next(level for level, capacity in enumerate(capacities) if capacity)] += remaining
    return loads


def _capacities(healthy_percents: Sequence[float], overprovisioning: float) -> list[int]:
    # At least 1 where anything is healthy: rounded down to 0, the one healthy endpoint of 200 would
    # get nothing, and a level without any would get it all.
    return [
        min(100, max(1, int(percent * overprovisioning + 1e-9))) if percent > 0 else 0
        for percent in healthy_percents
    ]


class PriorityLevels(Balancer[E]):
    """One balancer per level, and the calls divided among the levels as Envoy does.

    While the levels together lack capacity, a level with a smaller share of healthy endpoints than
    `panic_threshold` ignores health. With a key, the key also decides on the level.

    Args:
        make: makes the balancer of a level.
        priority: returns the level of an endpoint, from 0; by default its attribute `priority`,
            or 0.
        health: returns whether an endpoint is healthy; by default its attribute `healthy`.
        overprovisioning: how many times its share of the calls a healthy endpoint can take.
        panic_threshold: share of healthy endpoints, from 0 to 1.
        rng: draws the level; by default the `random` module's generator.
        observer: notified when the first level panics, and when no level does any more.

    Raises:
        InvalidValueError: `overprovisioning` is below 1, or `panic_threshold` not from 0 to 1.
    """

    __slots__ = (
        "_health",
        "_levels",
        "_listed",
        "_loads",
        "_make",
        "_observer",
        "_priority",
        "_random",
        "overprovisioning",
        "panic_threshold",
        "panicking",
    )

    def __init__(
        self,
        make: Callable[[], Balancer[E]],
        *,
        priority: Callable[[E], int] = lambda endpoint: getattr(endpoint, "priority", 0),
        health: Callable[[E], bool] = is_healthy,
        overprovisioning: float = 1.4,
        panic_threshold: float = 0.5,
        rng: random.Random | None = None,
        observer: BalancerObserver | None = None,
    ) -> None:
        if not 1 <= overprovisioning <= 100:
            raise InvalidValueError("overprovisioning", overprovisioning, "from 1 to 100")
        self.overprovisioning = overprovisioning
        self.panic_threshold = validate_share("panic_threshold", panic_threshold)
        self.panicking: tuple[int, ...] = ()
        self._make = make
        self._priority = priority
        self._health = health
        self._random = random.random if rng is None else rng.random
        self._observer = observer
        self._levels: dict[int, Balancer[E]] = {0: make()}
        self._loads: list[tuple[int, Balancer[E], int]] = [(0, self._levels[0], 100)]
        self._listed: tuple[E, ...] = ()

    @property
    def loads(self) -> dict[int, int]:
        """Percentage of the calls by level."""
        return {level: load for level, _, load in self._loads}

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        listed = list(endpoints)
        by_level: dict[int, WeightedEndpoints[E]] = {level: [] for level in self._levels}
        for endpoint, weight in zip(listed, validate_weights(listed, weights), strict=True):
            by_level.setdefault(self._priority(endpoint), []).append((endpoint, weight))
        levels = sorted(by_level)
        healthy_by_level = [
            [(endpoint, weight) for endpoint, weight in by_level[n] if self._health(endpoint)]
            for n in levels
        ]
        percents = [
            100 * len(healthy) / max(1, len(by_level[n]))
            for n, healthy in zip(levels, healthy_by_level, strict=True)
        ]
        panicking = self._find_panic(levels, percents)
        for n, healthy in zip(levels, healthy_by_level, strict=True):
            chosen = by_level[n] if n in panicking else healthy
            inner = self._levels.get(n) or self._levels.setdefault(n, self._make())
            inner.update([e for e, _ in chosen], weights=[w for _, w in chosen])
        loads = level_loads(percents, overprovisioning=self.overprovisioning)
        self._listed = tuple(listed)
        self._loads = [(n, self._levels[n], load) for n, load in zip(levels, loads, strict=True)]
        self._update_panic(panicking)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        return self._choose_from_levels(lambda level: level.pick(key, exclude), key)[1]

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        return self._choose_from_levels(lambda level: level.acquire(key, exclude), key)[1]

    def explain(self, key: Key = None, exclude: Collection[str] = ()) -> Explanation[E]:
        n, inner = self._choose_from_levels(lambda level: level.explain(key, exclude), key)
        return Explanation(inner.endpoint, (f"{self._describe()}: level {n}", *inner.steps))

    @property
    def endpoints(self) -> Sequence[E]:
        return self._listed

    def active(self, instance_id: str) -> int:
        return sum(inner.active(instance_id) for inner in self._levels.values())

    def __repr__(self) -> str:
        return f"{self._describe()} > {self._levels[0]!r}"

    def _describe(self) -> str:
        shown = ", ".join(f"{n}: {load}%" for n, _, load in self._loads)
        panic = f", panicking={self.panicking}" if self.panicking else ""
        return f"{type(self).__name__}({{{shown}}}{panic})"

    def _find_panic(self, levels: list[int], percents: list[float]) -> tuple[int, ...]:
        if sum(_capacities(percents, self.overprovisioning)) >= 100:
            return ()
        few = 100 * self.panic_threshold
        return tuple(n for n, percent in zip(levels, percents, strict=True) if percent < few)

    def _update_panic(self, panicking: tuple[int, ...]) -> None:
        if bool(panicking) != bool(self.panicking) and self._observer is not None:
            self._observer.on_panic(bool(panicking))
        self.panicking = panicking

    def _choose_from_levels(self, choose: Callable[[Balancer[E]], T], key: Key) -> tuple[int, T]:
        """Let the drawn level choose; if all its endpoints are excluded, each other one in turn.

        The last of them may raise, so that the caller gets its error.
        """
        loads = self._loads
        point = self._random() * 100 if key is None else _key_percent(key)
        drawn = next(
            (
                index
                for index, bound in enumerate(accumulate(load for _, _, load in loads))
                if point < bound
            )
        )
        for n, inner, _ in [loads[drawn], *loads[:drawn], *loads[drawn + 1 : -1]]:
            try:
                return n, choose(inner)
            except NoInstanceAvailableError:
                continue
        n, inner, _ = loads[-1]
        return n, choose(inner)


class ZonePreference(PriorityLevels[E]):
    """Prefer endpoints in the zone of this process; others take what it lacks capacity for.

    Args:
        make: makes the balancer for this zone, and the one for all other zones.
        zone: the zone of this process.
        zone_of: returns the zone of an endpoint; by default its attribute `zone`.

    The other arguments are those of `PriorityLevels`.
    """

    __slots__ = ("zone",)

    def __init__(
        self,
        make: Callable[[], Balancer[E]],
        *,
        zone: str,
        zone_of: Callable[[E], str] = lambda endpoint: getattr(endpoint, "zone", ""),
        health: Callable[[E], bool] = is_healthy,
        overprovisioning: float = 1.4,
        panic_threshold: float = 0.5,
        rng: random.Random | None = None,
        observer: BalancerObserver | None = None,
    ) -> None:
        super().__init__(
            make,
            priority=lambda endpoint: 0 if zone_of(endpoint) == zone else 1,
            health=health,
            overprovisioning=overprovisioning,
            panic_threshold=panic_threshold,
            rng=rng,
            observer=observer,
        )
        self.zone = zone


def _key_percent(key: str | bytes) -> int:
    return zlib.crc32(key.encode() if isinstance(key, str) else key) % 100
