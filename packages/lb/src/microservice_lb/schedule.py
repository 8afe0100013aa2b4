"""Orders in which weighted nodes take turns, each exact: nobody is ever a whole turn off its share.

Two orders, because one alone would not do. nginx's own is what people expect, but it may starve a
light node for more than a turn when a few weights dwarf the rest, and its period explodes when the
weights have no common divisor. Earliest deadline first is within a turn for all weights, and costs
O(log n) a turn however long the period is.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("EarliestDeadline", "nginx_cycle", "short_cycle", "whole_weights")


def whole_weights(weights: Sequence[float]) -> list[int]:
    """The smallest whole numbers in the same proportion; a float means the decimal it prints as."""
    fractions = [Fraction(int(w)) if w.is_integer() else Fraction(repr(w)) for w in weights]
    scale = math.lcm(*(f.denominator for f in fractions))
    whole = [f.numerator * (scale // f.denominator) for f in fractions]
    divisor = math.gcd(*whole)
    return [w // divisor for w in whole]


def short_cycle(weights: Sequence[int], *, most_steps: int) -> list[int] | None:
    """One period of turns, or None if that takes more than `most_steps` comparisons."""
    total = sum(weights)
    if total * len(set(weights)) > most_steps:
        return None
    return nginx_cycle(weights) or EarliestDeadline(weights).take(total)


class _Row:
    """The nodes of one weight: they take turns, so only the head of the row is compared."""

    __slots__ = ("credit", "head", "members", "turn", "weight")

    def __init__(self, weight: int, members: list[int]) -> None:
        self.weight = weight
        self.members = members
        self.credit = 0
        self.turn = 0
        self.head = members[0]

    def pay(self, total: int) -> None:
        """The head had its turn; when the row starts anew, everybody in it has paid once more."""
        self.turn += 1
        if self.turn == len(self.members):
            self.turn = 0
            self.credit -= total
        self.head = self.members[self.turn]


def nginx_cycle(weights: Sequence[int]) -> list[int] | None:
    """One period of nginx's smooth weighted round robin, or None if it starves a node.

    Each turn everybody gains its weight, and the first of the richest is chosen and pays the total.
    Starving means that a node falls a whole turn behind its share.

    Source: `ngx_http_upstream_get_peer` of nginx.
    """
    total = sum(weights)
    by_weight: dict[int, list[int]] = defaultdict(list)
    for index, weight in enumerate(weights):
        by_weight[weight].append(index)
    rows = [_Row(weight, members) for weight, members in by_weight.items()]
    order = []
    for _ in range(total):
        richest = rows[0]
        for row in rows:
            row.credit += row.weight
            if (row.credit, -row.head) > (richest.credit, -richest.head):
                richest = row
        if richest.credit - richest.weight >= total:
            return None
        order.append(richest.head)
        richest.pay(total)
    return order


class EarliestDeadline:
    """Turns for any weights, in O(log n) each; everybody stays less than one turn from its share.

    The k-th turn of a node (from 0) may be given from turn `k / share` on and must be given before
    turn `(k + 1) / share`, rounded outwards; the earliest deadline among those allowed goes first.

    Source: R. Tijdeman, The chairman assignment problem (1980); S. Baruah et al., Proportionate
    progress (1996), for the windows.
    """

    __slots__ = (
        "_ends",
        "_entries",
        "_later",
        "_link",
        "_next_from",
        "_ready",
        "_total",
        "_turn",
        "_weights",
        "_width",
    )

    def __init__(self, weights: Sequence[int], start: int = 0) -> None:
        """Begin with turn number `start`."""
        total = sum(weights)
        had = _turns_had(weights, total, start)
        self._weights = weights
        self._total = total
        self._turn = start
        self._width = len(weights).bit_length()
        # Per node total x (turns had + 1): divided by its weight, the end of the window it is in.
        self._ends = [(turns + 1) * total for turns in had]
        self._next_from = [end // w for end, w in zip(self._ends, weights, strict=True)]
        # A deadline and its node in one number, negative: the next to go is the last of a sorted
        # list. Up to some thousand nodes, keeping that sorted takes half the time of a heap.
        self._entries = [
            -(-(-end // weight) << self._width | index)
            for index, (end, weight) in enumerate(zip(self._ends, weights, strict=True))
        ]
        self._ready: list[int] = []
        # By turn, the first of the nodes allowed from then on, and per node the next of them.
        self._later: dict[int, int] = {}
        self._link = [-1] * len(weights)
        for index, (turns, weight) in enumerate(zip(had, weights, strict=True)):
            self._wait(index, turns * total // weight)
        self._ready.sort()

    def _wait(self, index: int, allowed_from: int) -> None:
        if allowed_from <= self._turn:
            self._ready.append(self._entries[index])
        else:
            self._link[index] = self._later.get(allowed_from, -1)
            self._later[allowed_from] = index

    def take(self, count: int) -> list[int]:
        """The indexes of the next `count` turns."""
        weights, total, ends, next_from = self._weights, self._total, self._ends, self._next_from
        entries, link, ready, later = self._entries, self._link, self._ready, self._later
        width, mask = self._width, (1 << self._width) - 1
        order: list[int] = []
        for turn in range(self._turn, self._turn + count):
            other = later.pop(turn, -1)
            while other >= 0:
                insort(ready, entries[other])
                other = link[other]
            index = -ready.pop() & mask
            order.append(index)
            weight = weights[index]
            end = ends[index] = ends[index] + total
            allowed_from = next_from[index]
            whole = next_from[index] = end // weight
            entry = -((whole if whole * weight == end else whole + 1) << width | index)
            if allowed_from <= turn + 1:
                insort(ready, entry)
            else:
                entries[index] = entry
                link[index] = later.get(allowed_from, -1)
                later[allowed_from] = index
        self._turn += count
        return order


def _turns_had(weights: Sequence[int], total: int, start: int) -> list[int]:
    """Turns each node had before turn `start`, if all were given by this order."""
    had = [start * weight // total for weight in weights]
    early = sorted(
        (-(-(turns + 1) * total // weight), index)
        for index, (turns, weight) in enumerate(zip(had, weights, strict=True))
        if turns * total // weight < start
    )
    for _, index in early[: start - sum(had)]:
        had[index] += 1
    return had
