"""Power of two choices: draw two endpoints, take the one with fewer calls in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .balancer import E, Key, Node, SelectingBalancer
from .weighted_random import AliasTable, alias_table, weighted_choice

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ("PowerOfTwoChoices",)

_REDRAWS = 8


class PowerOfTwoChoices(SelectingBalancer[E]):
    """Of two different endpoints drawn at random, the one with fewer active leases per weight.

    Drawn in proportion to the weights; a tie goes to the first drawn. Sees only the calls of this
    client, and only those made through `acquire`.

    Source: M. Mitzenmacher, The power of two choices in randomized load balancing (1996).
    """

    __slots__ = ("_alike", "_table")

    # The nodes if they weigh the same, how many others each has, how many ordered pairs there are.
    _alike: tuple[list[Node[E]], int, int] | None
    _table: AliasTable[Node[E]]

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        alike = self._alike
        if exclude:
            return self._redraw(exclude) or self._better(*self._draw_two(exclude)).endpoint
        if alike is None:
            return self._better(*self._draw_two(())).endpoint
        nodes, others, pairs = alike
        # One random number for an ordered pair of different nodes.
        pair = int(self._random() * pairs)
        place = pair // others
        other = pair % others
        first = nodes[place]
        second = nodes[other if other < place else other + 1]
        return second.endpoint if second.active < first.active else first.endpoint

    def _better(self, first: Node[E], second: Node[E]) -> Node[E]:
        return second if second.active * first.weight < first.active * second.weight else first

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        alike = len(nodes) > 1 and len({node.weight for node in nodes}) == 1
        self._table = alias_table(nodes, [node.weight for node in nodes])
        others = len(nodes) - 1
        self._alike = (nodes, others, len(nodes) * others) if alike else None

    def _draw_two(self, exclude: Collection[str]) -> tuple[Node[E], Node[E]]:
        if exclude or len(self._eligible) < 2:
            return self._two_of(self._admitted(exclude))
        first = self._draw()
        for _ in range(_REDRAWS):
            second = self._draw()
            if second is not first:
                return first, second
        return self._two_of(self._eligible, first)

    def _draw(self) -> Node[E]:
        bounds, kept, aliases = self._table
        point = self._random() * len(bounds)
        place = int(point)
        return kept[place] if point < bounds[place] else aliases[place]

    def _two_of(
        self, nodes: Sequence[Node[E]], first: Node[E] | None = None
    ) -> tuple[Node[E], Node[E]]:
        first = first or weighted_choice(nodes, self._random)
        others = [node for node in nodes if node is not first]
        return first, weighted_choice(others, self._random) if others else first
