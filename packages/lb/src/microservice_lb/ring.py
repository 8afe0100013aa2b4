"""The sorted points of a hash ring: built at once, or changed by the points of a few nodes."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from .balancer import E, Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ("Ring", "build_ring", "empty_ring", "with_node", "without_node")

Ring = tuple[list[int], list[Node[E]], list[int], int]
"""Positions in order; who owns each, and the first owner once more; per bucket of the circle how
many positions lie before it; by how many bits a position is shifted to give its bucket.

The buckets are there for speed: without them a search touches a dozen places all over the memory.
"""

_POINTS_PER_BUCKET = 4


def empty_ring(bits: int) -> Ring[E]:
    """A ring of nobody, whose positions will have so many bits."""
    return [], [], [0, 0], bits


def build_ring(points: Iterable[tuple[Node[E], Sequence[int]]], bits: int) -> Ring[E]:
    """A ring from each node's points; of those on one position the lowest id comes first."""
    owned = sorted(points, key=lambda pair: pair[0].endpoint.instance_id)
    nodes = [node for node, _ in owned]
    # One number for a point and its owner sorts much faster than a pair.
    width = len(nodes).bit_length()
    both = [point << width | index for index, (_, own) in enumerate(owned) for point in own]
    both.sort()
    mask = (1 << width) - 1
    owners = [nodes[one & mask] for one in both]
    return _bucketed([one >> width for one in both], owners, bits)


def without_node(ring: Ring[E], node: Node[E], points: Iterable[int], bits: int) -> Ring[E]:
    """A ring without the node's points; copied in slices, so that it costs next to nothing."""
    positions, owners, _, _ = ring
    kept: tuple[list[int], list[Node[E]]] = ([], [])
    gone = sorted(points)
    begin = 0
    for point in gone:
        place = bisect_left(positions, point, begin)
        while owners[place] is not node:
            place += 1
        _copy(ring, begin, place, kept)
        begin = place + 1
    _copy(ring, begin, len(positions), kept)
    return _with_buckets_moved(kept, ring, gone, -1, bits)


def with_node(ring: Ring[E], node: Node[E], points: Iterable[int], bits: int) -> Ring[E]:
    """A ring with the node's points among the others."""
    positions, _, _, _ = ring
    grown: tuple[list[int], list[Node[E]]] = ([], [])
    come = sorted(points)
    begin = 0
    for point in come:
        place = _place_of(ring, point, node.endpoint.instance_id, begin)
        _copy(ring, begin, place, grown)
        grown[0].append(point)
        grown[1].append(node)
        begin = place
    _copy(ring, begin, len(positions), grown)
    return _with_buckets_moved(grown, ring, come, 1, bits)


def _place_of(ring: Ring[E], point: int, instance_id: str, begin: int) -> int:
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


def _bucketed(positions: list[int], owners: list[Node[E]], bits: int) -> Ring[E]:
    shift = bits - _bucket_bits(len(positions))
    held = [0] * ((1 << bits - shift) + 1)
    for position in positions:
        held[(position >> shift) + 1] += 1
    return positions, owners + owners[:1], list(accumulate(held)), shift


def _with_buckets_moved(
    new: tuple[list[int], list[Node[E]]],
    old: Ring[E],
    changed: Sequence[int],
    step: int,
    bits: int,
) -> Ring[E]:
    """The new ring with the buckets of the old: each begins as much later as points came before."""
    positions, owners = new
    _, _, starts, shift = old
    if abs(_bucket_bits(len(positions)) - (bits - shift)) > 1:
        return _bucketed(positions, owners, bits)
    moved: list[int] = []
    begin = 0
    for count, point in enumerate(changed):
        end = (point >> shift) + 1
        moved += [start + step * count for start in starts[begin:end]]
        begin = max(begin, end)
    moved += [start + step * len(changed) for start in starts[begin:]]
    return positions, owners + owners[:1], moved, shift
