"""Least active: whoever has the fewest calls in flight; ties are settled at random."""

from __future__ import annotations

import threading
from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Generic, Unpack

from .balancer import CommonOptions, E, Key, Node, SelectingBalancer
from .weighted_random import weighted_choice

if TYPE_CHECKING:
    from collections.abc import Collection

    from .lease import Lease

__all__ = ("LeastActive",)

_REDRAWS = 16


class _LeastNode(Node[E]):
    """A node that knows in which bucket it lies, and where."""

    __slots__ = ("buckets", "level", "place")

    def __init__(self, endpoint: E) -> None:
        super().__init__(endpoint)
        self.buckets: _Buckets[E] | None = None
        self.level = 0.0
        self.place = 0


class _Buckets(Generic[E]):
    """The nodes by load, so that those of least load are at hand and a move costs O(log levels)."""

    __slots__ = ("_by_level", "_levels", "heaviest", "lowest")

    def __init__(self, nodes: list[_LeastNode[E]]) -> None:
        self._by_level: dict[float, list[_LeastNode[E]]] = {}
        self._levels: list[float] = []
        self.heaviest = max((node.weight for node in nodes), default=1.0)
        self.lowest: list[_LeastNode[E]] = []
        for node in nodes:
            node.buckets = self
            self._put(node)
        heapify(self._levels)
        self._find_lowest()

    def move(self, node: _LeastNode[E]) -> None:
        """File the node by the load it has now."""
        if node.buckets is not self or node.level == node.active / node.weight:
            return
        bucket = self._by_level[node.level]
        last = bucket.pop()
        if last is not node:
            bucket[node.place] = last
            last.place = node.place
        self._put(node)
        self._find_lowest()

    def _put(self, node: _LeastNode[E]) -> None:
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


class LeastActive(SelectingBalancer[E]):
    """The endpoint with the fewest active leases per weight; ties at random, by weight.

    Sees only the calls of this client, and only those made through `acquire`. A pick is O(1); what
    acquire and release move is filed by whichever thread comes first, so nobody waits for a lock.
    """

    __slots__ = ("_buckets", "_filing", "_moved")

    def __init__(
        self,
        **common: Unpack[CommonOptions],
    ) -> None:
        self._filing = threading.Lock()
        self._moved: deque[_LeastNode[E]] = deque()
        self._buckets: _Buckets[E] = _Buckets([])
        super().__init__(**common)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        buckets = self._buckets
        bucket = buckets.lowest
        if exclude or not bucket:
            return self._pick_by_scan(exclude)
        try:
            for _ in range(_REDRAWS):
                node = bucket[int(self._random() * len(bucket))]
                # Usually all weigh the same, and the first one drawn is it.
                if node.weight == buckets.heaviest or (
                    self._random() * buckets.heaviest < node.weight
                ):
                    return node.endpoint
        except IndexError:  # another thread took the last one out of the bucket
            pass
        return self._pick_by_scan(exclude)

    def lease(self, endpoint: E) -> Lease[E]:
        lease = super().lease(endpoint)
        self._file(self._counted(endpoint))
        return lease

    def _release(self, node: Node[E], started: float, error: BaseException | None) -> None:
        super()._release(node, started, error)
        self._file(node)

    def _new_node(self, endpoint: E) -> Node[E]:
        return _LeastNode(endpoint)

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        with self._filing:
            self._buckets = _Buckets(nodes)  # type: ignore[arg-type] # made by _new_node

    def _file(self, node: Node[E]) -> None:
        # A lease may be collected in the middle of a move: its node waits in the line like others.
        self._moved.append(node)  # type: ignore[arg-type] # made by _new_node
        while self._moved and self._filing.acquire(blocking=False):
            try:
                while self._moved:
                    self._buckets.move(self._moved.popleft())
            finally:
                self._filing.release()

    def _pick_by_scan(self, exclude: Collection[str]) -> E:
        left = self._admitted(exclude)
        loads = [node.active / node.weight for node in left]
        least = min(loads)
        tied = [node for node, load in zip(left, loads, strict=True) if load == least]
        return weighted_choice(tied, self._random).endpoint
