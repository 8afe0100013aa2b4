"""Power of two choices: draw two endpoints, take the one with fewer calls in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .balancer import E, Key, Node, SelectingBalancer
from .weighted_random import AliasTable, alias_table, draw, weighted_choice

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

    _alike: list[Node[E]]
    _table: AliasTable[E]

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:  # noqa: ARG002
        nodes = self._alike
        if exclude or not nodes:
            return self._better(*self._draw_two(exclude)).endpoint
        # One random number for an ordered pair of different nodes.
        others = len(nodes) - 1
        pair = int(self._random() * (others + 1) * others)
        place = pair % others
        first = nodes[pair // others]
        second = nodes[place if place < pair // others else place + 1]
        return (second if second.active < first.active else first).endpoint

    def _better(self, first: Node[E], second: Node[E]) -> Node[E]:
        return second if second.active * first.weight < first.active * second.weight else first

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        alike = len(nodes) > 1 and len({node.weight for node in nodes}) == 1
        self._table = alias_table(nodes)
        self._alike = nodes if alike else []

    def _draw_two(self, exclude: Collection[str]) -> tuple[Node[E], Node[E]]:
        if exclude or not self._table:
            return self._two_of(self._admitted(exclude))
        table = self._table
        first = draw(table, self._random)
        for _ in range(_REDRAWS if len(table) > 1 else 0):
            second = draw(table, self._random)
            if second is not first:
                return first, second
        return self._two_of(self._eligible, first)

    def _two_of(
        self, nodes: Sequence[Node[E]], first: Node[E] | None = None
    ) -> tuple[Node[E], Node[E]]:
        first = first or weighted_choice(nodes, self._random)
        others = [node for node in nodes if node is not first]
        return first, weighted_choice(others, self._random) if others else first
