"""Exact orders of turns for weighted nodes: no node is ever a whole turn away from its share.

There are two orders because neither suffices alone. nginx's order is the expected one, but it may
starve a light node for more than a turn when a few weights dwarf the rest, and its period explodes
when the weights have no common divisor. Earliest deadline first stays within a turn for all
weights and costs O(log n) a turn, however long the period is.
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
    """Return the smallest whole numbers in the same proportion.

    A float counts as the decimal it prints as: 0.1 is a tenth.
    """
    fractions = [Fraction(int(w)) if w.is_integer() else Fraction(repr(w)) for w in weights]
    scale = math.lcm(*(f.denominator for f in fractions))
    scaled = [f.numerator * (scale // f.denominator) for f in fractions]
    divisor = math.gcd(*scaled)
    return [weight // divisor for weight in scaled]


def short_cycle(weights: Sequence[int], *, max_steps: int) -> list[int] | None:
    """Return one period of turns (node indexes), or None if it takes over `max_steps` steps."""
    total = sum(weights)
    if total * len(set(weights)) > max_steps:
        return None
    return nginx_cycle(weights) or EarliestDeadline(weights).take(total)


class _Row:
    """The nodes of one weight: they rotate, so only the head of the row has to be compared."""

    __slots__ = ("credit", "head", "members", "turn", "weight")

    def __init__(self, weight: int, members: list[int]) -> None:
        self.weight = weight
        self.members = members
        self.credit = 0
        self.turn = 0
        self.head = members[0]

    def charge_head(self, total: int) -> None:
        """Give the head its turn; after a full rotation each member has paid `total` once more."""
        self.turn += 1
        if self.turn == len(self.members):
            self.turn = 0
            self.credit -= total
        self.head = self.members[self.turn]


def nginx_cycle(weights: Sequence[int]) -> list[int] | None:
    """Return one period of nginx's smooth weighted round robin, or None if it starves a node.

    In each turn every node gains its weight as credit; the node with the most credit (the first of
    several) is chosen and pays the total. A node starves if it falls a whole turn behind its share.

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
        richest.charge_head(total)
    return order


class EarliestDeadline:
    """Turns for any weights, in O(log n) each; no node is a whole turn away from its share.

    The k-th turn of a node (from 0) may come from turn `k / share` on and must come before turn
    `(k + 1) / share`, rounded outwards; of the nodes allowed, the earliest deadline is first.

    Source: R. Tijdeman, The chairman assignment problem (1980); S. Baruah et al., Proportionate
    progress (1996), for the windows.
    """

    __slots__ = (
        "_ends",
        "_entries",
        "_link",
        "_next_from",
        "_ready",
        "_total",
        "_turn",
        "_waiting",
        "_weights",
        "_width",
    )

    def __init__(self, weights: Sequence[int], start: int = 0) -> None:
        """Start with turn number `start`."""
        total = sum(weights)
        turns_so_far = _turns_before(weights, total, start)
        self._weights = weights
        self._total = total
        self._turn = start
        self._width = len(weights).bit_length()
        # Per node, total x (turns so far + 1): divided by its weight, the end of its window.
        self._ends = [(turns + 1) * total for turns in turns_so_far]
        self._next_from = [end // w for end, w in zip(self._ends, weights, strict=True)]
        # A deadline and its node in one negative number, so that the next node is the last of a
        # sorted list. Up to some thousand nodes, keeping it sorted takes half the time of a heap.
        self._entries = [
            -(-(-end // weight) << self._width | index)
            for index, (end, weight) in enumerate(zip(self._ends, weights, strict=True))
        ]
        self._ready: list[int] = []
        # A linked list per turn of the nodes allowed from that turn on: `_waiting` has the first
        # node, `_link` has for each node the one after it.
        self._waiting: dict[int, int] = {}
        self._link = [-1] * len(weights)
        for index, (turns, weight) in enumerate(zip(turns_so_far, weights, strict=True)):
            self._enqueue(index, turns * total // weight)
        self._ready.sort()

    def _enqueue(self, index: int, allowed_from: int) -> None:
        if allowed_from <= self._turn:
            self._ready.append(self._entries[index])
        else:
            self._link[index] = self._waiting.get(allowed_from, -1)
            self._waiting[allowed_from] = index

    def take(self, count: int) -> list[int]:
        """Return the node indexes of the next `count` turns."""
        # Locals and an inlined `_enqueue`: this loop is the whole price of a turn.
        weights, total, ends, next_from = self._weights, self._total, self._ends, self._next_from
        entries, link, ready, waiting_from = self._entries, self._link, self._ready, self._waiting
        width, mask = self._width, (1 << self._width) - 1
        order: list[int] = []
        for turn in range(self._turn, self._turn + count):
            waiting = waiting_from.pop(turn, -1)
            while waiting >= 0:
                insort(ready, entries[waiting])
                waiting = link[waiting]
            index = -ready.pop() & mask
            order.append(index)
            weight = weights[index]
            end = ends[index] = ends[index] + total
            allowed_from = next_from[index]
            window_end = next_from[index] = end // weight
            deadline = window_end if window_end * weight == end else window_end + 1
            entry = -(deadline << width | index)
            if allowed_from <= turn + 1:
                insort(ready, entry)
            else:
                entries[index] = entry
                link[index] = waiting_from.get(allowed_from, -1)
                waiting_from[allowed_from] = index
        self._turn += count
        return order


def _turns_before(weights: Sequence[int], total: int, start: int) -> list[int]:
    """Return how many turns each node has had before turn `start` of this order."""
    turns_so_far = [start * weight // total for weight in weights]
    early = sorted(
        (-(-(turns + 1) * total // weight), index)
        for index, (turns, weight) in enumerate(zip(turns_so_far, weights, strict=True))
        if turns * total // weight < start
    )
    for _, index in early[: start - sum(turns_so_far)]:
        turns_so_far[index] += 1
    return turns_so_far
