"""Hash ring: each endpoint owns many points on a circle, a key belongs to the next point."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from itertools import chain
from math import frexp, ldexp
from struct import unpack
from typing import TYPE_CHECKING, Literal, Unpack

from microservice_core import InvalidValueError

from .balancer import CommonOptions, Key
from .consistent_hash import ConsistentHash
from .key_hash import KeyHash, key_hash, xxh64
from .node import E, Node
from .ring import Ring, build_ring, empty_ring, insert_node, remove_node
from .schedule import whole_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

__all__ = ("RingHash",)

_POINTS_PER_DIGEST = 4
_MAX_DIGESTS = 25_000
_MAX_SPLICES = 16  # for more nodes, building the whole ring is as quick


class RingHash(ConsistentHash[E]):
    """Consistent hashing on a ring; a key belongs to the first point at or after its hash.

    Points by `compatible`:
        None: as ketama, but the digests of an endpoint depend on its own weight only, so that other
            endpoints keep their keys when it changes; at least one each. Keys by CRC-32.
        "ketama": MD5 of `id-i` gives four little-endian 32-bit points, floor(share x n x replicas
            / 4) digests each; keys by MD5. As libketama, and as uhashring with
            `hash_fn="ketama"`.
        "envoy": XXH64 of `id_i`, as Envoy's ring hash and gRPC's; keys by XXH64. Needs the extra
            `xxhash`.

    Args:
        replicas: points of an endpoint of weight 1, or of average weight if `compatible`; up to
            100000, and a multiple of 4 unless Envoy-compatible. Where the most common weight is not
            from 1 to 8, the weights are divided by that power of eight that makes it so.
        hash: hash of the keys; a name or a callable, see `key_hash` and `keyed_hash`.

    Raises:
        InvalidValueError: `replicas`, `compatible` or `hash` is not valid.
        MissingDependencyError: XXH64 is used and the extra `xxhash` is not installed.
    """

    __slots__ = ("_counts", "_points", "_ring", "compatible", "replicas")

    def __init__(
        self,
        *,
        replicas: int = 160,
        compatible: Literal["ketama", "envoy"] | None = None,
        hash: str | KeyHash | None = None,  # noqa: A002 - the field's name for it
        **common: Unpack[CommonOptions],
    ) -> None:
        if compatible not in {None, "ketama", "envoy"}:
            raise InvalidValueError("compatible", compatible, '"ketama", "envoy" or None')
        step = 1 if compatible == "envoy" else _POINTS_PER_DIGEST
        if not 1 <= replicas <= 100_000 or replicas % step:
            raise InvalidValueError("replicas", replicas, f"a multiple of {step} up to 100000")
        self.replicas = replicas
        self.compatible = compatible
        self._bits = 64 if compatible == "envoy" else 32
        defaults = {"ketama": "md5", "envoy": "xxh64"}
        self._hash_choice = hash or defaults.get(str(compatible), "crc32")
        self._hash = key_hash(self._hash_choice, bits=self._bits)
        self._points: Callable[[str, int], list[int]] = (
            _envoy_points if compatible == "envoy" else _ketama_points
        )
        self._counts: dict[Node[E], int] = {}
        self._ring: Ring[E] = empty_ring(self._bits)
        super().__init__(**common)

    @property
    def points(self) -> Sequence[tuple[int, E]]:
        """Every position and the endpoint that owns it, sorted by position."""
        positions, owners, _, _ = self._ring
        return [(p, node.endpoint) for p, node in zip(positions, owners, strict=False)]

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        if exclude:
            return self._pick_in_order(key, exclude)
        positions, owners, starts, shift = self._ring
        try:
            position = self._hash(key.encode())  # type: ignore[union-attr] # see except
            bucket = position >> shift
            place = bisect_left(positions, position, starts[bucket], starts[bucket + 1])
            return owners[place].endpoint
        # Cheaper than asking for the type first: None and bytes have no `encode`; an empty ring
        # has no owners; a lone surrogate has no UTF-8.
        except (AttributeError, IndexError, UnicodeEncodeError):
            return self._pick_in_order(key, exclude)

    def _reason(self, node: Node[E], key: Key) -> str:
        if key is None:
            return f"no key: {node.endpoint.instance_id!r} at random"
        position = self._position(key)
        positions, _, _, _ = self._ring
        point = positions[bisect_left(positions, position) % len(positions)]
        return (
            f"key hashes to {position}, the next point is {point}; {node.endpoint.instance_id!r} "
            f"has {self._counts.get(node, 0)} of {len(positions)} points"
        )

    def _repr_options(self) -> dict[str, object]:
        shown = self._hash_choice if isinstance(self._hash_choice, str) else "<callable>"
        return {"replicas": self.replicas, "compatible": self.compatible, "hash": shown}

    def _preference_order(self, position: int) -> Iterator[Node[E]]:
        positions, owners, _, _ = self._ring
        start = bisect_left(positions, position)
        yielded: set[int] = set()
        for place in chain(range(start, len(positions)), range(start)):
            node = owners[place]
            if id(node) not in yielded:
                yielded.add(id(node))
                yield node

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        counts = dict(zip(nodes, self._point_counts(nodes), strict=True))
        previous = self._counts
        removed = [node for node in previous if counts.get(node) != previous[node]]
        added = [node for node in counts if counts[node] != previous.get(node)]
        self._ring = (
            self._build(counts)
            if len(removed) + len(added) > _MAX_SPLICES
            else self._splice(removed, added, counts)
        )
        self._counts = counts

    def _splice(
        self, removed: list[Node[E]], added: list[Node[E]], counts: dict[Node[E], int]
    ) -> Ring[E]:
        ring = self._ring
        for node in removed:
            points = self._points(node.endpoint.instance_id, self._counts[node])
            ring = remove_node(ring, node, points, self._bits)
        for node in added:
            points = self._points(node.endpoint.instance_id, counts[node])
            ring = insert_node(ring, node, points, self._bits)
        return ring

    def _build(self, counts: dict[Node[E], int]) -> Ring[E]:
        points = self._points
        return build_ring(
            ((node, points(node.endpoint.instance_id, count)) for node, count in counts.items()),
            self._bits,
        )

    def _point_counts(self, nodes: list[Node[E]]) -> list[int]:
        if not nodes:
            return []
        if self.compatible is None:
            return _own_counts([node.weight for node in nodes], self.replicas)
        weights = whole_weights([node.weight for node in nodes])
        total = sum(weights)
        if self.compatible == "envoy":
            return _envoy_counts(weights, len(nodes) * self.replicas)
        digests = self.replicas // _POINTS_PER_DIGEST * len(nodes)
        return [_POINTS_PER_DIGEST * (digests * weight // total) for weight in weights]


def _own_counts(weights: list[float], replicas: int) -> list[int]:
    """Return the points per node by its weight alone, so that no other node's change moves them.

    The unit of the weights is a power of eight near the most common one (of several, the largest),
    which changes rarely: a share of the total would change with each node.
    """
    most_common = Counter(sorted(weights, reverse=True)).most_common(1)[0][0]
    _, exponent = frexp(most_common)
    unit = ldexp(1.0, (exponent - 1) // 3 * 3)
    digests = replicas // _POINTS_PER_DIGEST
    return [
        _POINTS_PER_DIGEST * max(1, round(min(_MAX_DIGESTS, digests * (weight / unit))))
        for weight in weights
    ]


def _ketama_points(instance_id: str, count: int) -> list[int]:
    digests = (
        hashlib.md5(f"{instance_id}-{number}".encode(), usedforsecurity=False).digest()
        for number in range(count // _POINTS_PER_DIGEST)
    )
    return list(unpack(f"<{count}I", b"".join(digests)))


def _envoy_points(instance_id: str, count: int) -> list[int]:
    digest = xxh64()
    return [digest(f"{instance_id}_{number}".encode()) for number in range(count)]


def _envoy_counts(weights: list[int], size: int) -> list[int]:
    """Return the points per node as Envoy does: its running share of `size`, rounded up."""
    total, running, counts = sum(weights), 0, []
    for weight in weights:
        previous = -(-running * size // total)
        running += weight
        counts.append(-(-running * size // total) - previous)
    return counts
