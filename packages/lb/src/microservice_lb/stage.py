"""Stage: a balancer around a balancer, that narrows or weighs what the inner one chooses from."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from .balancer import Balancer, E, Key, checked_weights
from .explanation import Explanation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from .lease import Lease

__all__ = ("Listed", "NarrowingStage", "Stage")

Listed = list[tuple[E, float]]
"""Endpoints, each with the weight to use."""


class Stage(Balancer[E]):
    """Passes everything on to the balancer within; a subclass changes what it is there for."""

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
        return Explanation(inner.endpoint, (self._what(), *inner.steps))

    @property
    def endpoints(self) -> Sequence[E]:
        return self._inner.endpoints

    def active(self, instance_id: str) -> int:
        return self._inner.active(instance_id)

    def __repr__(self) -> str:
        return f"{self._what()} > {self._inner!r}"

    def _what(self) -> str:
        """This stage alone, as the repr shows it."""
        return f"{type(self).__name__}()"


class NarrowingStage(Stage[E]):
    """A stage that decides at each update who goes on to the inner balancer, and with what weight.

    `endpoints` are those it was given; the inner balancer has those that went on.
    """

    __slots__ = ("_given",)

    def __init__(self, inner: Balancer[E]) -> None:
        super().__init__(inner)
        self._given: Listed[E] = []

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        listed = list(endpoints)
        given = list(zip(listed, checked_weights(listed, weights), strict=True))
        self._pass_on(given)
        self._given = given

    @property
    def endpoints(self) -> Sequence[E]:
        return tuple(endpoint for endpoint, _ in self._given)

    @abstractmethod
    def _narrow(self, given: Listed[E]) -> Listed[E]:
        """Those that go on."""

    def _pass_on(self, given: Listed[E]) -> None:
        narrowed = self._narrow(given)
        self._inner.update([e for e, _ in narrowed], weights=[w for _, w in narrowed])
