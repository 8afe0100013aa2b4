"""Weighted random: each endpoint with a chance in proportion to its weight, in O(1)."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from .balancer import E, Key, Node, SelectingBalancer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ("AliasTable", "WeightedRandom", "alias_table", "draw", "weighted_choice")

AliasTable = list[tuple[float, Node[E], Node[E]]]
"""Per place: the chance to keep the first node once the place is drawn, and the one otherwise."""


class WeightedRandom(SelectingBalancer[E]):
    """Pick by Walker's alias method: one random number, one comparison, whatever n is."""

    __slots__ = ("_table",)

    _table: AliasTable[E]

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:  # noqa: ARG002
        table = self._table
        if exclude or not table:
            return weighted_choice(self._admitted(exclude), self._random).endpoint
        place = self._random() * len(table)
        index = int(place)
        threshold, node, alias = table[index]
        return node.endpoint if place - index < threshold else alias.endpoint

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        self._table = alias_table(nodes)


def draw(table: AliasTable[E], random: Callable[[], float]) -> Node[E]:
    """One node by weight, in O(1)."""
    place = random() * len(table)
    index = int(place)
    threshold, node, alias = table[index]
    return node if place - index < threshold else alias


def alias_table(nodes: Sequence[Node[E]]) -> AliasTable[E]:
    """The table that `draw` reads, in O(n).

    Source: M. D. Vose, A linear algorithm for generating random numbers with a given distribution
    (1991).
    """
    table = [(1.0, node, node) for node in nodes]
    chances = _relative_to_mean([node.weight for node in nodes])
    light = [i for i, chance in enumerate(chances) if chance < 1]
    heavy = [i for i, chance in enumerate(chances) if chance >= 1]
    while light and heavy:
        index, donor = light.pop(), heavy[-1]
        table[index] = (chances[index], nodes[index], nodes[donor])
        chances[donor] -= 1 - chances[index]
        if chances[donor] < 1:
            light.append(heavy.pop())
    return table


def _relative_to_mean(weights: Sequence[float]) -> list[float]:
    # Scaled by the largest first, so that no sum overflows.
    largest = max(weights, default=1.0)
    scaled = [weight / largest for weight in weights]
    mean = sum(scaled) / len(scaled) if scaled else 1.0
    return [weight / mean for weight in scaled]


def weighted_choice(nodes: Sequence[Node[E]], random: Callable[[], float]) -> Node[E]:
    """One of them by weight, in O(n): for the few picks that no table serves."""
    largest = max(node.weight for node in nodes)
    bounds = list(accumulate(node.weight / largest for node in nodes))
    point = random() * bounds[-1]
    return next((n for n, bound in zip(nodes, bounds, strict=True) if point < bound), nodes[-1])
