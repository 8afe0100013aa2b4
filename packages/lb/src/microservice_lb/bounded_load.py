"""Bounded load: consistent hashing that avoids overloaded endpoints."""

from __future__ import annotations

from math import ceil, isfinite
from typing import TYPE_CHECKING

from microservice_core import InvalidValueError

from .balancer import Balancer, Key, check_exclude
from .explanation import Explanation
from .lease import Lease, ObservedLease
from .node import E

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from .consistent_hash import ConsistentHash

__all__ = ("BoundedLoad",)


class BoundedLoad(Balancer[E]):
    """Consistent hashing in which no endpoint exceeds `factor` times its share of active calls.

    A key goes to the first endpoint of its order that has room, so that a hot key spreads and the
    other keys do not move. Only calls made through `acquire` count.

    Source: V. Mirrokni, M. Thorup, M. Zadimoghaddam, Consistent hashing with bounded loads (2018).

    Args:
        inner: the ring, Maglev or rendezvous balancer that orders the endpoints.
        factor: above 1; with 1.25 nearly every key stays at its first endpoint.

    Raises:
        InvalidValueError: `factor` is not a number above 1.
    """

    __slots__ = ("_active_total", "_inner", "_weights", "factor")

    def __init__(self, inner: ConsistentHash[E], *, factor: float = 1.25) -> None:
        if not (factor > 1 and isfinite(factor)):
            raise InvalidValueError("factor", factor, "a finite number above 1")
        self.factor = factor
        self._inner = inner
        self._active_total = 0
        self._refresh_weights()

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        self._inner.update(endpoints, weights=weights)
        self._refresh_weights()

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        check_exclude(exclude)
        weights, total_weight = self._weights
        room = self.factor * (self._active_total + 1) / total_weight
        for endpoint in self._inner.candidates(key):
            instance_id = endpoint.instance_id
            if instance_id in exclude or instance_id not in weights:
                continue
            if self._inner.active(instance_id) < ceil(room * weights[instance_id]):
                return endpoint
        # Every endpoint with room is excluded: the key's order decides among the others.
        return self._inner.pick(key, exclude)

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        lease = self._inner.lease(self.pick(key, exclude))
        self._active_total += 1
        return ObservedLease(lease, self._count_release)

    def explain(self, key: Key = None, exclude: Collection[str] = ()) -> Explanation[E]:
        endpoint = self.pick(key, exclude)
        preferred = next(self._inner.candidates(key), endpoint)
        weights, total_weight = self._weights
        room = self.factor * (self._active_total + 1) / total_weight
        reason = (
            f"{self!r}: the key prefers {preferred.instance_id!r}, which has "
            f"{self._inner.active(preferred.instance_id)} active and room for "
            f"{ceil(room * weights.get(preferred.instance_id, 0.0))}; "
            f"picked {endpoint.instance_id!r}"
        )
        return Explanation(endpoint, (reason,))

    @property
    def endpoints(self) -> Sequence[E]:
        return self._inner.endpoints

    def active(self, instance_id: str) -> int:
        return self._inner.active(instance_id)

    def __repr__(self) -> str:
        return f"BoundedLoad(factor={self.factor}) > {self._inner!r}"

    def _refresh_weights(self) -> None:
        weights = self._inner.weights()
        largest = max(weights.values(), default=1.0)  # first, so that the sum cannot overflow
        weights = {instance_id: weight / largest for instance_id, weight in weights.items()}
        self._weights = weights, sum(weights.values()) or 1.0

    def _count_release(self, endpoint: E, error: BaseException | None) -> None:
        self._active_total -= 1
