"""Random: every endpoint with the same chance, whatever its weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .balancer import Key, SelectingBalancer
from .node import E, Node

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ("Random",)


class Random(SelectingBalancer[E]):
    """Pick uniformly among the endpoints of weight above 0; for weights see `WeightedRandom`."""

    __slots__ = ("_drawable",)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        endpoints = self._drawable
        if exclude or not endpoints:
            return self._retry_draw(exclude) or self._pick_excluding(exclude)
        return endpoints[int(self._random() * len(endpoints))]

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        self._drawable = [node.endpoint for node in nodes]

    def _pick_excluding(self, exclude: Collection[str]) -> E:
        nodes = self._filter_excluded(exclude)
        return nodes[int(self._random() * len(nodes))].endpoint
