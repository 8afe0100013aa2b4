"""Weighted random: each endpoint with a chance in proportion to its weight, in O(1)."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

from .balancer import Key, SelectingBalancer
from .node import E, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ("AliasTable", "WeightedRandom", "alias_table", "weighted_choice")

N = TypeVar("N", bound=Node[Any])
T = TypeVar("T")

AliasTable = tuple[list[float], list[T], list[T]]
"""Three lists with one entry per place: the bound, the item below it, the item from it on."""


class WeightedRandom(SelectingBalancer[E]):
    """Pick by Walker's alias method: one random number and one comparison for any fleet size."""

    __slots__ = ("_table",)

    _table: AliasTable[E]

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        bounds, items, aliases = self._table
        if exclude or not bounds:
            return self._retry_draw(exclude) or self._pick_by_scan(exclude)
        point = self._random() * len(bounds)
        place = int(point)
        return items[place] if point < bounds[place] else aliases[place]

    def _pick_by_scan(self, exclude: Collection[str]) -> E:
        return weighted_choice(self._filter_excluded(exclude), self._random).endpoint

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        self._table = alias_table(
            [node.endpoint for node in nodes], [node.weight for node in nodes]
        )


def alias_table(items: list[T], weights: Sequence[float]) -> AliasTable[T]:
    """Build the table for drawing in proportion to `weights`, in O(n).

    To draw: a random point below n gives a place (its whole part); below the bound there take the
    item, otherwise the alias.

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
    # Scaled by the largest first, so that the sum cannot overflow.
    largest = max(weights, default=1.0)
    scaled = [weight / largest for weight in weights]
    mean = sum(scaled) / len(scaled) if scaled else 1.0
    return [weight / mean for weight in scaled]


def weighted_choice(nodes: Sequence[N], random: Callable[[], float]) -> N:
    """Choose one node by weight, in O(n): for the rare picks without a prepared table."""
    largest = max(node.weight for node in nodes)
    bounds = list(accumulate(node.weight / largest for node in nodes))
    point = random() * bounds[-1]
    return next((n for n, bound in zip(nodes, bounds, strict=True) if point < bound), nodes[-1])
