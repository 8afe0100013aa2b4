"""Least active: the endpoint with the fewest calls in flight; ties are broken at random."""

from __future__ import annotations

import threading
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Generic, Unpack

from .balancer import CommonOptions, Key, NodeBalancer
from .node import E, Node
from .weighted_random import weighted_choice

if TYPE_CHECKING:
    from collections.abc import Collection

    from .lease import Lease

__all__ = ("LeastActive",)

_MAX_DRAWS = 16


class _BucketNode(Node[E]):
    """A node and its place in the buckets.

    Attributes:
        buckets: the buckets that hold it.
        level: the load by which it is filed, active calls per weight.
        place: its index in the bucket of that level.
    """

    __slots__ = ("buckets", "level", "place")

    def __init__(self, endpoint: E) -> None:
        super().__init__(endpoint)
        self.buckets: _Buckets[E] | None = None
        self.level = 0.0
        self.place = 0


class _Buckets(Generic[E]):
    """Nodes by load: the least loaded are found in O(1), and moving a node costs O(log levels)."""

    __slots__ = ("_by_level", "_levels", "heaviest", "lowest")

    def __init__(self, nodes: list[_BucketNode[E]]) -> None:
        self._by_level: dict[float, list[_BucketNode[E]]] = {}
        self._levels: list[float] = []
        self.heaviest = max((node.weight for node in nodes), default=1.0)
        self.lowest: list[_BucketNode[E]] = []
        for node in nodes:
            node.buckets = self
            self._append(node)
        self._find_lowest()

    def move(self, node: _BucketNode[E]) -> None:
        """Move the node to the bucket of its present load."""
        if node.buckets is not self or node.level == node.active / node.weight:
            return
        bucket = self._by_level[node.level]
        last = bucket.pop()
        if last is not node:
            bucket[node.place] = last
            last.place = node.place
        self._append(node)
        self._find_lowest()

    def _append(self, node: _BucketNode[E]) -> None:
        node.level = level = node.active / node.weight
        bucket = self._by_level.get(level)
        if bucket is None:
            bucket = self._by_level[level] = []
            heappush(self._levels, level)
        node.place = len(bucket)
        bucket.append(node)

    def _find_lowest(self) -> None:
        while self._levels and not self._by_level[self._levels[0]]:
            del self._by_level[heappop(self._levels)]
        self.lowest = self._by_level[self._levels[0]] if self._levels else []


class LeastActive(NodeBalancer[E, _BucketNode[E]]):
    """The endpoint with the fewest active leases per weight; ties at random, by weight.

    Only calls of this client made through `acquire` count. A pick is O(1). Nodes whose load changed
    are queued, and one thread at a time moves all that are queued, so no call waits for a lock.
    """

    __slots__ = ("_buckets", "_changed", "_filing_lock")

    def __init__(
        self,
        **common: Unpack[CommonOptions],
    ) -> None:
        self._filing_lock = threading.Lock()
        self._changed: deque[_BucketNode[E]] = deque()
        self._buckets: _Buckets[E] = _Buckets([])
        super().__init__(**common)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        buckets = self._buckets
        bucket = buckets.lowest
        if exclude or not bucket:
            return self._retry_draw(exclude) or self._pick_by_scan(exclude)
        try:
            for _ in range(_MAX_DRAWS):
                node = bucket[int(self._random() * len(bucket))]
                # Accept in proportion to the weight. Usually all weights are equal and the first
                # draw is accepted.
                if node.weight == buckets.heaviest or (
                    self._random() * buckets.heaviest < node.weight
                ):
                    return node.endpoint
        except IndexError:  # another thread took the last one out of the bucket
            pass
        return self._pick_by_scan(exclude)

    def _start_lease(self, node: _BucketNode[E]) -> Lease[E]:
        lease = super()._start_lease(node)
        self._file(node)
        return lease

    def _release(self, node: _BucketNode[E], started: float, error: BaseException | None) -> None:
        super()._release(node, started, error)
        self._file(node)

    def _make_node(self, endpoint: E) -> _BucketNode[E]:
        return _BucketNode(endpoint)

    def _rebuild(self, nodes: list[_BucketNode[E]]) -> None:
        with self._filing_lock:
            self._buckets = _Buckets(nodes)

    def _file(self, node: _BucketNode[E]) -> None:
        # A queue, because the garbage collector may release a lease in the middle of a move in this
        # very thread: waiting for the lock would then never end. The loop checks the queue again
        # after the lock is free, so that a node queued in between is not forgotten.
        self._changed.append(node)
        while self._changed and self._filing_lock.acquire(blocking=False):
            try:
                while self._changed:
                    self._buckets.move(self._changed.popleft())
            finally:
                self._filing_lock.release()

    def _pick_by_scan(self, exclude: Collection[str]) -> E:
        nodes = self._filter_excluded(exclude)
        loads = [node.active / node.weight for node in nodes]
        least = min(loads)
        tied = [node for node, load in zip(nodes, loads, strict=True) if load == least]
        return weighted_choice(tied, self._random).endpoint
