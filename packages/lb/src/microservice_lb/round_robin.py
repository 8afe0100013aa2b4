"""Round robin: one after the other, from a random start."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Unpack

from .balancer import CommonOptions, E, Key, Node, SelectingBalancer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ("RoundRobin",)


class RoundRobin(SelectingBalancer[E]):
    """Pick one endpoint after the other, whatever their weights.

    It starts at a random one, or all clients would march in step. An update goes on where the last
    pick left off.
    """

    __slots__ = ("_length", "_next")

    def __init__(
        self,
        **common: Unpack[CommonOptions],
    ) -> None:
        self._next: Callable[[], Node[E]] = self._refuse
        self._length = 0
        super().__init__(**common)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        if exclude:
            return self._pick_excluding(exclude)
        return self._next().endpoint

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        if not nodes:
            self._next = self._refuse
            return
        start = self._resume_at(nodes)
        self._next = cycle(nodes[start:] + nodes[:start]).__next__
        self._length = len(nodes)

    def _resume_at(self, nodes: Sequence[Node[E]]) -> int:
        """Where the next in turn stands now, or the first after it that is still there."""
        places = {id(node): place for place, node in enumerate(nodes)}
        if self._next != self._refuse:
            for _ in range(self._length):
                place = places.get(id(self._next()))
                if place is not None:
                    return place
        return int(self._random() * len(nodes))

    def _pick_excluding(self, exclude: Collection[str]) -> E:
        admitted = self._admitted(exclude)
        allowed = {id(node) for node in admitted}
        upcoming = self._next
        for _ in range(len(self._eligible)):
            node = upcoming()
            if id(node) in allowed:
                return node.endpoint
        return admitted[0].endpoint
