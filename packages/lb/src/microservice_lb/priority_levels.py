"""Priority levels: the next level helps out as far as the one before lacks healthy endpoints."""

from __future__ import annotations

import random
import zlib
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from microservice_core import InvalidValueError, NoInstanceAvailableError

from .balancer import Balancer, E, Key, checked_weights
from .explanation import Explanation
from .health_filter import checked_share, is_healthy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from .lease import Lease
    from .observer import BalancerObserver
    from .stage import Listed

T = TypeVar("T")

__all__ = ("PriorityLevels", "ZonePreference", "level_loads")


def level_loads(healthy_percents: Sequence[float], *, overprovisioning: float = 1.4) -> list[int]:
    """How many percent of the calls each level gets, by how many percent of it are healthy.

    A level counts as whole while its healthy part times `overprovisioning` reaches 100 %; what it
    lacks goes to the next. If all together lack, they share in proportion.

    Source: Envoy, "Priority levels".
    """
    capacities = _capacities(healthy_percents, overprovisioning)
    total = min(100, sum(capacities))
    if total == 0:
        return [100 if level == 0 else 0 for level in range(len(capacities))]
    loads, left = [], 100
    for capacity in capacities:
        loads.append(min(left, int(capacity * 100 / total + 0.5)))
        left -= loads[-1]
    # What rounding left over goes to the first level that serves at all.
    loads[next(level for level, capacity in enumerate(capacities) if capacity)] += left
    return loads


def _capacities(healthy_percents: Sequence[float], overprovisioning: float) -> list[int]:
    return [min(100, int(percent * overprovisioning + 1e-9)) for percent in healthy_percents]


class PriorityLevels(Balancer[E]):
    """A balancer for each level, and the calls divided among the levels as Envoy does.

    A level in which fewer than `panic_threshold` are healthy ignores health while the levels
    together lack capacity. With a key, the key decides on the level too.

    Args:
        make: makes the balancer of a level.
        priority: the level of an endpoint, from 0; by default its attribute `priority`, or 0.
        health: tells whether an endpoint is healthy; by default its attribute `healthy`.
        overprovisioning: how much more than its share a healthy endpoint can bear.
        panic_threshold: share of healthy endpoints.
        rng: draws the level; by default the `random` module's generator.
        observer: told when a first level panics, and when none does any more.

    Raises:
        InvalidValueError: `overprovisioning` is below 1, or `panic_threshold` not from 0 to 1.
    """

    __slots__ = (
        "_given",
        "_health",
        "_levels",
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
        self.panic_threshold = checked_share("panic_threshold", panic_threshold)
        self.panicking: tuple[int, ...] = ()
        self._make = make
        self._priority = priority
        self._health = health
        self._random = random.random if rng is None else rng.random
        self._observer = observer
        self._levels: dict[int, Balancer[E]] = {0: make()}
        self._loads: list[tuple[int, Balancer[E], int]] = [(0, self._levels[0], 100)]
        self._given: tuple[E, ...] = ()

    @property
    def loads(self) -> dict[int, int]:
        """Percent of the calls by level."""
        return {level: load for level, _, load in self._loads}

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        listed = list(endpoints)
        by_level: dict[int, Listed[E]] = {level: [] for level in self._levels}
        for endpoint, weight in zip(listed, checked_weights(listed, weights), strict=True):
            by_level.setdefault(self._priority(endpoint), []).append((endpoint, weight))
        levels = sorted(by_level)
        healthy = [[one for one in by_level[n] if self._health(one[0])] for n in levels]
        percents = [
            100 * len(well) / max(1, len(by_level[n]))
            for n, well in zip(levels, healthy, strict=True)
        ]
        panicking = self._find_panic(levels, percents)
        for n, well in zip(levels, healthy, strict=True):
            chosen = by_level[n] if n in panicking else well
            inner = self._levels.get(n) or self._levels.setdefault(n, self._make())
            inner.update([e for e, _ in chosen], weights=[w for _, w in chosen])
        loads = level_loads(percents, overprovisioning=self.overprovisioning)
        self._given = tuple(listed)
        self._loads = [(n, self._levels[n], load) for n, load in zip(levels, loads, strict=True)]
        self._tell_panic(panicking)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        return self._first_that_can(lambda level: level.pick(key, exclude), key)[1]

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        return self._first_that_can(lambda level: level.acquire(key, exclude), key)[1]

    def explain(self, key: Key = None, exclude: Collection[str] = ()) -> Explanation[E]:
        n, inner = self._first_that_can(lambda level: level.explain(key, exclude), key)
        return Explanation(inner.endpoint, (f"{self._what()}: level {n}", *inner.steps))

    @property
    def endpoints(self) -> Sequence[E]:
        return self._given

    def active(self, instance_id: str) -> int:
        return sum(inner.active(instance_id) for inner in self._levels.values())

    def __repr__(self) -> str:
        return f"{self._what()} > {self._levels[0]!r}"

    def _what(self) -> str:
        shown = ", ".join(f"{n}: {load}%" for n, _, load in self._loads)
        panic = f", panicking={self.panicking}" if self.panicking else ""
        return f"{type(self).__name__}({{{shown}}}{panic})"

    def _find_panic(self, levels: list[int], percents: list[float]) -> tuple[int, ...]:
        if sum(_capacities(percents, self.overprovisioning)) >= 100:
            return ()
        few = 100 * self.panic_threshold
        return tuple(n for n, percent in zip(levels, percents, strict=True) if percent < few)

    def _tell_panic(self, panicking: tuple[int, ...]) -> None:
        if bool(panicking) != bool(self.panicking) and self._observer is not None:
            self._observer.panicked(bool(panicking))
        self.panicking = panicking

    def _first_that_can(self, choose: Callable[[Balancer[E]], T], key: Key) -> tuple[int, T]:
        """What the drawn level chooses, or the next one if all it has are excluded."""
        loads = self._loads
        point = self._random() * 100 if key is None else _percent(key)
        drawn = next(
            (
                at
                for at, bound in enumerate(accumulate(load for _, _, load in loads))
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
    """The own zone first; other zones help out as far as it lacks healthy endpoints.

    Args:
        make: makes the balancer of the own zone, and that of all others.
        zone: the own zone.
        zone_of: the zone of an endpoint; by default its attribute `zone`.

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


def _percent(key: str | bytes) -> int:
    return zlib.crc32(key.encode() if isinstance(key, str) else key) % 100
