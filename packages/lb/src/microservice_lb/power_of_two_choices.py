"""Power of two choices: draw two endpoints, take the one with fewer calls in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .balancer import Key, N, NodeBalancer
from .node import E, Node
from .weighted_random import AliasTable, alias_table, weighted_choice

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ("PowerOfTwoChoices", "TwoChoicesBalancer")

_MAX_DRAWS = 8


class TwoChoicesBalancer(NodeBalancer[E, N]):
    """A balancer that draws two different nodes in proportion to the weights."""

    __slots__ = ("_equal_weights", "_table")

    # If all nodes weigh the same: the nodes, how many others each has, how many ordered pairs
    # there are. Two different nodes then take a single random number.
    _equal_weights: tuple[list[N], int, int] | None
    _table: AliasTable[N]

    def _rebuild(self, nodes: list[N]) -> None:
        equal = len(nodes) > 1 and len({node.weight for node in nodes}) == 1
        self._table = alias_table(nodes, [node.weight for node in nodes])
        others = len(nodes) - 1
        self._equal_weights = (nodes, others, len(nodes) * others) if equal else None

    def _draw_two(self, exclude: Collection[str]) -> tuple[N, N]:
        if exclude or len(self._eligible) < 2:
            return self._choose_two(self._filter_excluded(exclude))
        first = self._draw()
        for _ in range(_MAX_DRAWS):
            second = self._draw()
            if second is not first:
                return first, second
        return self._choose_two(self._eligible, first)

    def _draw(self) -> N:
        bounds, nodes, aliases = self._table
        point = self._random() * len(bounds)
        place = int(point)
        return nodes[place] if point < bounds[place] else aliases[place]

    def _choose_two(self, nodes: Sequence[N], first: N | None = None) -> tuple[N, N]:
        """Choose two by scanning all weights; the same node twice if there is only one."""
        first = first or weighted_choice(nodes, self._random)
        others = [node for node in nodes if node is not first]
        return first, weighted_choice(others, self._random) if others else first


class PowerOfTwoChoices(TwoChoicesBalancer[E, Node[E]]):
    """Of two different endpoints drawn at random, the one with fewer active leases per weight.

    Drawn in proportion to the weights; a tie goes to the first drawn. Only calls of this client
    made through `acquire` count.

    Source: M. Mitzenmacher, The power of two choices in randomized load balancing (1996).
    """

    __slots__ = ()

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        equal_weights = self._equal_weights
        if exclude:
            return self._retry_draw(exclude) or self._choose_lighter(exclude)
        if equal_weights is None:
            return self._choose_lighter(())
        nodes, others, pairs = equal_weights
        pair = int(self._random() * pairs)
        place = pair // others
        other = pair % others
        first = nodes[place]
        second = nodes[other if other < place else other + 1]
        return second.endpoint if second.active < first.active else first.endpoint

    def _choose_lighter(self, exclude: Collection[str]) -> E:
        first, second = self._draw_two(exclude)
        lighter = second.active * first.weight < first.active * second.weight
        return second.endpoint if lighter else first.endpoint

    def _make_node(self, endpoint: E) -> Node[E]:
        return Node(endpoint)
