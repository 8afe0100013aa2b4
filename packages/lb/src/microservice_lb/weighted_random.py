"""Weighted random: each endpoint with a chance in proportion to its weight, in O(1)."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from .balancer import E, Key, Node, SelectingBalancer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ("AliasTable", "WeightedRandom", "alias_table", "weighted_choice")

T = TypeVar("T")

AliasTable = tuple[list[float], list[T], list[T]]
"""Per place: below which point to take the first item there, and what to take otherwise."""


class WeightedRandom(SelectingBalancer[E]):
    """Pick by Walker's alias method: one random number, one comparison, whatever n is."""

    __slots__ = ("_table",)

    _table: AliasTable[E]

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        bounds, kept, aliases = self._table
        if exclude or not bounds:
            return self._redraw(exclude) or self._pick_by_scan(exclude)
        point = self._random() * len(bounds)
        place = int(point)
        return kept[place] if point < bounds[place] else aliases[place]

    def _pick_by_scan(self, exclude: Collection[str]) -> E:
        return weighted_choice(self._admitted(exclude), self._random).endpoint

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        self._table = alias_table(
            [node.endpoint for node in nodes], [node.weight for node in nodes]
        )


def alias_table(items: list[T], weights: Sequence[float]) -> AliasTable[T]:
    """What to draw from: a point below n, its place, and the bound there decide; built in O(n).

    Source: M. D. Vose, A linear algorithm for generating random numbers with a given distribution
    (1991).
    """
    chances = _relative_to_mean(weights)
    bounds, aliases = [place + 1.0 for place in range(len(items))], list(items)
    light = [i for i, chance in enumerate(chances) if chance < 1]
    heavy = [i for i, chance in enumerate(chances) if chance >= 1]
    while light and heavy:
        place, donor = light.pop(), heavy[-1]
        bounds[place], aliases[place] = place + chances[place], items[donor]
        chances[donor] -= 1 - chances[place]
        if chances[donor] < 1:
            light.append(heavy.pop())
    return bounds, items, aliases


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
