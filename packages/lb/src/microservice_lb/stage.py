"""Stages: balancers around a balancer, which filter or weigh the endpoints it chooses from."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from .balancer import Balancer, Key, validate_weights
from .explanation import Explanation
from .node import E

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from .lease import Lease

__all__ = ("NarrowingStage", "Stage", "WeightedEndpoints")

WeightedEndpoints = list[tuple[E, float]]
"""Pairs of an endpoint and the weight to use for it."""


class Stage(Balancer[E]):
    """Forwards every call to the inner balancer; a subclass overrides what it changes."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Balancer[E]) -> None:
        self._inner = inner

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        self._inner.update(endpoints, weights=weights)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        return self._inner.pick(key, exclude)

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        return self._inner.acquire(key, exclude)

    def explain(self, key: Key = None, exclude: Collection[str] = ()) -> Explanation[E]:
        inner = self._inner.explain(key, exclude)
        return Explanation(inner.endpoint, (self._describe(), *inner.steps))

    @property
    def endpoints(self) -> Sequence[E]:
        return self._inner.endpoints

    def active(self, instance_id: str) -> int:
        return self._inner.active(instance_id)

    def __repr__(self) -> str:
        return f"{self._describe()} > {self._inner!r}"

    def _describe(self) -> str:
        """This stage without its inner balancer, as the repr shows it."""
        return f"{type(self).__name__}()"


class NarrowingStage(Stage[E]):
    """A stage that decides at each update which endpoints the inner balancer gets, how weighted.

    Its `endpoints` are all those of the last update; the inner balancer has the remaining ones.
    """

    __slots__ = ("_listed",)

    def __init__(self, inner: Balancer[E]) -> None:
        super().__init__(inner)
        self._listed: WeightedEndpoints[E] = []

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        endpoints = list(endpoints)
        listed = list(zip(endpoints, validate_weights(endpoints, weights), strict=True))
        self._update_inner(listed)
        self._listed = listed

    @property
    def endpoints(self) -> Sequence[E]:
        return tuple(endpoint for endpoint, _ in self._listed)

    @abstractmethod
    def _narrow(self, listed: WeightedEndpoints[E]) -> WeightedEndpoints[E]:
        """Return the endpoints and weights for the inner balancer."""

    def _update_inner(self, listed: WeightedEndpoints[E]) -> None:
        narrowed = self._narrow(listed)
        self._inner.update([e for e, _ in narrowed], weights=[w for _, w in narrowed])
