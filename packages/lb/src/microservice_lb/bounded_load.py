"""Bounded load: hashing that passes to the next endpoint what would overload the first."""

from __future__ import annotations

from math import ceil, isfinite
from typing import TYPE_CHECKING

from microservice_core import InvalidValueError

from .balancer import Balancer, E, Key
from .explanation import Explanation
from .lease import Lease, ObservedLease

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from .consistent_hash import ConsistentHash

__all__ = ("BoundedLoad",)


class BoundedLoad(Balancer[E]):
    """Consistent hashing where nobody has more than `factor` times its share of the active calls.

    A key goes to the first endpoint of its order that has room, so that a hot key spreads and the
    others stay where they are. Only calls made through `acquire` count.

    Source: V. Mirrokni, M. Thorup, M. Zadimoghaddam, Consistent hashing with bounded loads (2018).

    Args:
        inner: the ring, Maglev or rendezvous balancer that orders the endpoints.
        factor: above 1; 1.25 keeps nearly every key at home.

    Raises:
        InvalidValueError: `factor` is not a number above 1.
    """

    __slots__ = ("_held", "_inner", "_weights", "factor")

    def __init__(self, inner: ConsistentHash[E], *, factor: float = 1.25) -> None:
        if not (factor > 1 and isfinite(factor)):
            raise InvalidValueError("factor", factor, "a finite number above 1")
        self.factor = factor
        self._inner = inner
        self._held = 0
        self._weigh()

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        self._inner.update(endpoints, weights=weights)
        self._weigh()

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        weights, total_weight = self._weights
        room = self.factor * (self._held + 1) / total_weight
        for endpoint in self._inner.candidates(key):
            instance_id = endpoint.instance_id
            if instance_id in exclude or instance_id not in weights:
                continue
            if self._inner.active(instance_id) < ceil(room * weights[instance_id]):
                return endpoint
        # Those with room are excluded: the order of the key decides among the others.
        return self._inner.pick(key, exclude)

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        lease = self._inner.lease(self.pick(key, exclude))
        self._held += 1
        return ObservedLease(lease, self._let_go)

    def explain(self, key: Key = None, exclude: Collection[str] = ()) -> Explanation[E]:
        endpoint = self.pick(key, exclude)
        home = next(self._inner.candidates(key))
        weights, total_weight = self._weights
        room = self.factor * (self._held + 1) / total_weight
        why = (
            f"{self!r}: at home with {home.instance_id!r}, which has "
            f"{self._inner.active(home.instance_id)} active and room for "
            f"{ceil(room * weights.get(home.instance_id, 0.0))}; went to {endpoint.instance_id!r}"
        )
        return Explanation(endpoint, (why,))

    @property
    def endpoints(self) -> Sequence[E]:
        return self._inner.endpoints

    def active(self, instance_id: str) -> int:
        return self._inner.active(instance_id)

    def __repr__(self) -> str:
        return f"BoundedLoad(factor={self.factor}) > {self._inner!r}"

    def _weigh(self) -> None:
        weights = self._inner.weights()
        self._weights = weights, sum(weights.values()) or 1.0

    def _let_go(self, endpoint: E, error: BaseException | None) -> None:
        self._held -= 1
