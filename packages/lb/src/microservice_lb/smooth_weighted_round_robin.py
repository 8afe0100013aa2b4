"""Smooth weighted round robin: turns in proportion to the weights, spread as evenly as can be."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Unpack

from .balancer import CommonOptions, E, Key, Node, SelectingBalancer
from .schedule import EarliestDeadline, short_cycle, whole_weights
from .weighted_random import weighted_choice

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ("SmoothWeightedRoundRobin",)

_MOST_STEPS = 100_000  # about 10 ms of work in an update
_CHUNK = 256


class SmoothWeightedRoundRobin(SelectingBalancer[E]):
    """Give turns in nginx's order, from a precomputed cycle.

    When the period is too long to precompute, or nginx's order would leave a node a whole turn
    behind its share, turns go by earliest deadline instead, which is as exact. An update that
    changes no weight goes on where the last pick left off; another begins anew.

    Args:
        random_start: begin somewhere in the period; otherwise the first pick of every new client
            falls on the heaviest endpoint.
    """

    __slots__ = ("_next", "_order", "_schedule", "random_start")

    def __init__(
        self,
        *,
        random_start: bool = True,
        **common: Unpack[CommonOptions],
    ) -> None:
        self.random_start = random_start
        self._schedule: list[tuple[Node[E], float]] = []
        self._order: tuple[list[Node[E]], EarliestDeadline] = ([], EarliestDeadline([]))
        self._next: Callable[[], Node[E]] = self._refuse
        super().__init__(**common)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        if exclude:
            return self._pick_excluding(exclude)
        try:
            return self._next().endpoint
        except StopIteration:
            return self._next_of_new_chunk().endpoint

    def _options(self) -> dict[str, object]:
        return {"random_start": self.random_start}

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        schedule = [(node, node.weight) for node in nodes]
        if not nodes:
            self._next = self._refuse
        elif schedule != self._schedule:
            self._begin(nodes)
        self._schedule = schedule

    def _begin(self, nodes: list[Node[E]]) -> None:
        weights = whole_weights([node.weight for node in nodes])
        start = int(self._random() * sum(weights)) if self.random_start else 0
        turns = short_cycle(weights, most_steps=_MOST_STEPS)
        if turns is not None:
            self._next = cycle([nodes[i] for i in turns[start:] + turns[:start]]).__next__
            return
        self._order = nodes, EarliestDeadline(weights, start)
        self._next = self._new_chunk()

    def _next_of_new_chunk(self) -> Node[E]:
        # An update or another thread is at it: a pick by weight is better than a wait.
        if not self._lock.acquire(blocking=False):
            return weighted_choice(self._admitted(()), self._random)
        try:
            return self._next()  # another thread was here first
        except StopIteration:
            self._next = self._new_chunk()
            return self._next()
        finally:
            self._lock.release()

    def _new_chunk(self) -> Callable[[], Node[E]]:
        nodes, order = self._order
        return iter([nodes[index] for index in order.take(_CHUNK)]).__next__

    def _pick_excluding(self, exclude: Collection[str]) -> E:
        left = self._admitted(exclude)
        allowed = {id(node) for node in left}
        for _ in left:
            endpoint = self.pick()
            if id(self._counted(endpoint)) in allowed:
                return endpoint
        return weighted_choice(left, self._random).endpoint
