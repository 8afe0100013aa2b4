"""Orders in which weighted nodes take turns, each exact: nobody is ever a whole turn off its share.

Two orders, because one alone would not do. nginx's own is what people expect, but it may starve a
light node for more than a turn when a few weights dwarf the rest, and its period explodes when the
weights have no common divisor. Earliest deadline first is within a turn for all weights, and costs
O(log n) a turn however long the period is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ("earliest_deadline_order", "nginx_cycle", "short_cycle", "whole_weights")

_Job = tuple[int, int, int]  # deadline, index, how many turns the node had before


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
    return nginx_cycle(weights) or list(islice(earliest_deadline_order(weights), total))


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


def earliest_deadline_order(weights: Sequence[int], start: int = 0) -> Iterator[int]:
    """Endless indexes, from turn number `start` on.

    The k-th turn of a node (from 0) may be given from turn `k / share` on and must be given before
    turn `(k + 1) / share`, rounded outwards; the earliest deadline among those allowed goes first.
    That keeps every node less than one turn from its share, always.

    Source: R. Tijdeman, The chairman assignment problem (1980); S. Baruah et al., Proportionate
    progress (1996), for the windows.
    """
    total = sum(weights)
    ready, later = _jobs_at(weights, total, start)
    turn = start
    while True:
        for job in later.pop(turn, ()):
            heappush(ready, job)
        _, index, turns = heappop(ready)
        yield index
        turn += 1
        allowed_from, job = _job(index, turns + 1, weights[index], total)
        if allowed_from <= turn:
            heappush(ready, job)
        else:
            later[allowed_from].append(job)


def _job(index: int, turns: int, weight: int, total: int) -> tuple[int, _Job]:
    return turns * total // weight, (-(-(turns + 1) * total // weight), index, turns)


def _jobs_at(
    weights: Sequence[int], total: int, start: int
) -> tuple[list[_Job], dict[int, list[_Job]]]:
    """What is ready at that turn and what comes later, as if all turns before had been given."""
    had = [start * weight // total for weight in weights]
    jobs = [_job(index, turns, weights[index], total) for index, turns in enumerate(had)]
    early = sorted(job for allowed_from, job in jobs if allowed_from < start)
    for _, index, _ in early[: start - sum(had)]:
        had[index] += 1
    ready: list[_Job] = []
    later: dict[int, list[_Job]] = defaultdict(list)
    for index, turns in enumerate(had):
        allowed_from, job = _job(index, turns, weights[index], total)
        (ready if allowed_from <= start else later[allowed_from]).append(job)
    heapify(ready)
    return ready, later
