"""Smooth weighted round robin: turns in proportion to the weights, spread as evenly as possible."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Unpack

from microservice_core import call_after_fork

from .balancer import CommonOptions, Key, SelectingBalancer
from .node import E, Node
from .schedule import EarliestDeadline, short_cycle, whole_weights
from .weighted_random import weighted_choice

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ("SmoothWeightedRoundRobin",)

_MAX_STEPS = 100_000  # about 10 ms of work in an update
_CHUNK = 256
_MAX_FLOAT_PERIOD = 1 << 53


class SmoothWeightedRoundRobin(SelectingBalancer[E]):
    """Give turns in nginx's order, from a precomputed cycle.

    When the period is too long to precompute, or nginx's order would leave a node a whole turn
    behind its share, turns go by earliest deadline instead, which is as exact. After an update that
    changes no weight the rotation continues; after any other it starts again.

    Args:
        random_start: start at a random place of the period; otherwise the first pick of every new
            client is the heaviest endpoint.
    """

    __slots__ = ("_deadline_order", "_next_node", "_schedule", "random_start")

    def __init__(
        self,
        *,
        random_start: bool = True,
        **common: Unpack[CommonOptions],
    ) -> None:
        self.random_start = random_start
        self._schedule: list[tuple[Node[E], float]] = []
        self._deadline_order: tuple[list[Node[E]], EarliestDeadline] = ([], EarliestDeadline([]))
        self._next_node: Callable[[], Node[E]] = self._raise_unavailable
        super().__init__(**common)
        if random_start:
            call_after_fork(self._start_anywhere)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        if exclude:
            return self._retry_draw(exclude) or self._pick_excluding(exclude)
        try:
            return self._next_node().endpoint
        except StopIteration:
            return self._start_new_chunk().endpoint

    def _repr_options(self) -> dict[str, object]:
        return {"random_start": self.random_start}

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        schedule = [(node, node.weight) for node in nodes]
        if not nodes:
            self._next_node = self._raise_unavailable
        elif schedule != self._schedule:
            self._start_period(nodes)
        self._schedule = schedule

    def _start_period(self, nodes: list[Node[E]]) -> None:
        weights = whole_weights([node.weight for node in nodes])
        start = self._random_turn(sum(weights)) if self.random_start else 0
        turns = short_cycle(weights, max_steps=_MAX_STEPS)
        if turns is not None:
            self._next_node = cycle([nodes[i] for i in turns[start:] + turns[:start]]).__next__
            return
        self._deadline_order = nodes, EarliestDeadline(weights, start)
        self._next_node = self._make_chunk()

    def _start_anywhere(self) -> None:
        """Forked children would otherwise all go on with the same endpoint."""
        nodes = [node for node, _ in self._schedule]
        if nodes:
            self._start_period(nodes)

    def _random_turn(self, period: int) -> int:
        """A turn of the period, which may be beyond all floats."""
        if period < _MAX_FLOAT_PERIOD:
            return int(self._random() * period)
        return int(self._random() * _MAX_FLOAT_PERIOD) * period // _MAX_FLOAT_PERIOD

    def _start_new_chunk(self) -> Node[E]:
        # An update or another thread holds the lock: a pick by weight is better than a wait.
        if not self._lock.acquire(blocking=False):
            return weighted_choice(self._filter_excluded(()), self._random)
        try:
            return self._next_node()  # another thread has already made the chunk
        except StopIteration:
            self._next_node = self._make_chunk()
            return self._next_node()
        finally:
            self._lock.release()

    def _make_chunk(self) -> Callable[[], Node[E]]:
        nodes, order = self._deadline_order
        return iter([nodes[index] for index in order.take(_CHUNK)]).__next__

    def _pick_excluding(self, exclude: Collection[str]) -> E:
        remaining = self._filter_excluded(exclude)
        allowed = {id(node) for node in remaining}
        for _ in remaining:
            endpoint = self.pick()
            if id(self._find_node(endpoint)) in allowed:
                return endpoint
        return weighted_choice(remaining, self._random).endpoint
