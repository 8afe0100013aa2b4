"""Round robin: the endpoints one after the other, from a random start."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Unpack

from microservice_core import call_after_fork

from .balancer import CommonOptions, Key, SelectingBalancer
from .node import E, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ("RoundRobin",)


class RoundRobin(SelectingBalancer[E]):
    """Pick one endpoint after the other, whatever their weights.

    The start is random, or all clients would send to the same endpoint at the same time. After an
    update the rotation continues where the last pick ended.
    """

    __slots__ = ("_length", "_next_node")

    def __init__(
        self,
        **common: Unpack[CommonOptions],
    ) -> None:
        self._next_node: Callable[[], Node[E]] = self._raise_unavailable
        self._length = 0
        super().__init__(**common)
        call_after_fork(self._start_anywhere)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        if exclude:
            return self._retry_draw(exclude) or self._pick_excluding(exclude)
        return self._next_node().endpoint

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        if not nodes:
            self._next_node = self._raise_unavailable
            return
        start = self._find_resume_place(nodes)
        self._next_node = cycle(nodes[start:] + nodes[:start]).__next__
        self._length = len(nodes)

    def _start_anywhere(self) -> None:
        """Forked children would otherwise all go on with the same endpoint."""
        nodes = self._eligible
        if nodes:
            start = int(self._random() * len(nodes))
            self._next_node = cycle(nodes[start:] + nodes[:start]).__next__

    def _find_resume_place(self, nodes: Sequence[Node[E]]) -> int:
        """The place in `nodes` of the endpoint whose turn is next, or of its first survivor."""
        places = {id(node): place for place, node in enumerate(nodes)}
        if self._next_node != self._raise_unavailable:
            for _ in range(self._length):
                place = places.get(id(self._next_node()))
                if place is not None:
                    return place
        return int(self._random() * len(nodes))

    def _pick_excluding(self, exclude: Collection[str]) -> E:
        remaining = self._filter_excluded(exclude)
        allowed = {id(node) for node in remaining}
        next_node = self._next_node
        for _ in range(len(self._eligible)):
            node = next_node()
            if id(node) in allowed:
                return node.endpoint
        return remaining[0].endpoint
