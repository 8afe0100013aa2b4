"""Weighted random: each endpoint with a chance in proportion to its weight, in O(1)."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from .balancer import E, Key, Node, SelectingBalancer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ("WeightedRandom", "alias_table", "weighted_choice")


class WeightedRandom(SelectingBalancer[E]):
    """Pick by Walker's alias method: one random number, one comparison, whatever n is."""

    __slots__ = ("_table",)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        table = self._table
        if exclude or not table:
            return weighted_choice(self._admitted(exclude), self._random).endpoint
        place = self._random() * len(table)
        index = int(place)
        threshold, node, alias = table[index]
        return node.endpoint if place - index < threshold else alias.endpoint

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        rows = alias_table([node.weight for node in nodes])
        self._table = [
            (t, node, nodes[alias]) for node, (t, alias) in zip(nodes, rows, strict=True)
        ]


def alias_table(weights: Sequence[float]) -> list[tuple[float, int]]:
    """Per index the chance to keep it once drawn uniformly, and what to take otherwise.

    Source: M. D. Vose, A linear algorithm for generating random numbers with a given distribution
    (1991).
    """
    if not weights:
        return []
    # Scaled by the largest first, so that no sum overflows.
    largest = max(weights)
    scaled = [w / largest for w in weights]
    mean = sum(scaled) / len(scaled)
    chances = [w / mean for w in scaled]
    rows = [(1.0, index) for index in range(len(chances))]
    light = [i for i, chance in enumerate(chances) if chance < 1]
    heavy = [i for i, chance in enumerate(chances) if chance >= 1]
    while light and heavy:
        index, donor = light.pop(), heavy[-1]
        rows[index] = (chances[index], donor)
        chances[donor] -= 1 - chances[index]
        if chances[donor] < 1:
            light.append(heavy.pop())
    return rows


def weighted_choice(nodes: Sequence[Node[E]], random: Callable[[], float]) -> Node[E]:
    """One of them by weight, in O(n): for the few picks that no table serves."""
    bounds = list(accumulate(node.weight for node in nodes))
    point = random() * bounds[-1]
    return next((n for n, bound in zip(nodes, bounds, strict=True) if point < bound), nodes[-1])
