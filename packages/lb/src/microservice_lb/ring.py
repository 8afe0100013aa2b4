"""The sorted points of a hash ring: built as a whole, or changed by the points of a few nodes."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from .node import E, Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ("Ring", "build_ring", "empty_ring", "insert_node", "remove_node")

Ring = tuple[list[int], list[Node[E]], list[int], int]
"""Sorted positions; the owner of each, then the first owner again; per bucket of the circle, the
number of positions before it; by how many bits a position is shifted to give its bucket.

The buckets are for speed: a search in the whole list would touch a dozen places all over memory.
"""

_POINTS_PER_BUCKET = 4


def empty_ring(bits: int) -> Ring[E]:
    """Return a ring without nodes for positions of that many bits."""
    return [], [], [0, 0], bits


def build_ring(points: Iterable[tuple[Node[E], Sequence[int]]], bits: int) -> Ring[E]:
    """Build a ring from the points of each node; on equal positions the lowest id comes first."""
    owned = sorted(points, key=lambda pair: pair[0].endpoint.instance_id)
    nodes = [node for node, _ in owned]
    # One number for a point and its owner sorts much faster than a pair.
    width = len(nodes).bit_length()
    packed = [point << width | index for index, (_, own) in enumerate(owned) for point in own]
    packed.sort()
    mask = (1 << width) - 1
    owners = [nodes[number & mask] for number in packed]
    return _build_buckets([number >> width for number in packed], owners, bits)


def remove_node(ring: Ring[E], node: Node[E], points: Iterable[int], bits: int) -> Ring[E]:
    """Return a copy of the ring without the node's points; copied in slices, which is cheap."""
    positions, owners, _, _ = ring
    rest: tuple[list[int], list[Node[E]]] = ([], [])
    removed = sorted(points)
    begin = 0
    for point in removed:
        place = bisect_left(positions, point, begin)
        while owners[place] is not node:
            place += 1
        _copy(ring, begin, place, rest)
        begin = place + 1
    _copy(ring, begin, len(positions), rest)
    return _shift_buckets(rest, ring, removed, -1, bits)


def insert_node(ring: Ring[E], node: Node[E], points: Iterable[int], bits: int) -> Ring[E]:
    """Return a copy of the ring with the node's points added."""
    positions, _, _, _ = ring
    grown: tuple[list[int], list[Node[E]]] = ([], [])
    added = sorted(points)
    begin = 0
    for point in added:
        place = _find_place(ring, point, node.endpoint.instance_id, begin)
        _copy(ring, begin, place, grown)
        grown[0].append(point)
        grown[1].append(node)
        begin = place
    _copy(ring, begin, len(positions), grown)
    return _shift_buckets(grown, ring, added, 1, bits)


def _find_place(ring: Ring[E], point: int, instance_id: str, begin: int) -> int:
    positions, owners, _, _ = ring
    place = bisect_left(positions, point, begin)
    while (
        place < len(positions)
        and positions[place] == point
        and owners[place].endpoint.instance_id < instance_id
    ):
        place += 1
    return place


def _copy(ring: Ring[E], begin: int, end: int, into: tuple[list[int], list[Node[E]]]) -> None:
    into[0].extend(ring[0][begin:end])
    into[1].extend(ring[1][begin:end])


def _bucket_bits(count: int) -> int:
    return (count // _POINTS_PER_BUCKET).bit_length()


def _build_buckets(positions: list[int], owners: list[Node[E]], bits: int) -> Ring[E]:
    shift = bits - _bucket_bits(len(positions))
    counts = [0] * ((1 << bits - shift) + 1)
    for position in positions:
        counts[(position >> shift) + 1] += 1
    return positions, owners + owners[:1], list(accumulate(counts)), shift


def _shift_buckets(
    new: tuple[list[int], list[Node[E]]],
    old: Ring[E],
    changed: Sequence[int],
    step: int,
    bits: int,
) -> Ring[E]:
    """Return the new ring with the buckets of the old, each start moved by the points before it."""
    positions, owners = new
    _, _, starts, shift = old
    # One bit of hysteresis, or a fleet at the edge of a size would rebuild at every update.
    if abs(_bucket_bits(len(positions)) - (bits - shift)) > 1:
        return _build_buckets(positions, owners, bits)
    new_starts: list[int] = []
    begin = 0
    for count, point in enumerate(changed):
        end = (point >> shift) + 1
        new_starts += [start + step * count for start in starts[begin:end]]
        begin = max(begin, end)
    new_starts += [start + step * len(changed) for start in starts[begin:]]
    return positions, owners + owners[:1], new_starts, shift
