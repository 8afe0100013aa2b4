"""Rendezvous hashing: every endpoint bids for the key, the highest bid wins."""

from __future__ import annotations

import hashlib
from math import log
from typing import TYPE_CHECKING, Unpack

from .balancer import CommonOptions, Key
from .consistent_hash import ConsistentHash
from .key_hash import KeyHash, key_hash
from .node import E, Node

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ("Rendezvous",)

_MASK = (1 << 64) - 1


class Rendezvous(ConsistentHash[E]):
    """Highest random weight: when an endpoint is removed, only its keys move.

    Costs O(n) per pick and nothing per update: for some dozens of endpoints, or to place replicas.

    Source: D. Thaler, C. Ravishankar, Using name-based mappings to increase hit rates (1998); a
    weight scales the bid so that each endpoint wins in proportion to it.

    Args:
        hash: hash of the keys; a name or a callable, see `key_hash` and `keyed_hash`.

    Raises:
        InvalidValueError: `hash` is neither a known name nor a callable.
    """

    __slots__ = ("_bidders",)

    def __init__(
        self,
        *,
        hash: str | KeyHash | None = None,  # noqa: A002 - the field's name for it
        **common: Unpack[CommonOptions],
    ) -> None:
        self._bits = 32
        self._hash_choice = hash or "crc32"
        self._hash = key_hash(self._hash_choice)
        self._bidders: list[tuple[int, float, Node[E]]] = []
        super().__init__(**common)

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        if exclude or not self._bidders:
            return self._pick_in_order(key, exclude)
        position = self._position(key)
        return max(self._bidders, key=lambda bidder: _bid(position, bidder))[2].endpoint

    def _reason(self, node: Node[E], key: Key) -> str:
        if key is None:
            return f"no key: {node.endpoint.instance_id!r} at random"
        position = self._position(key)
        bid = _bid(position, (_seed(node.endpoint.instance_id), node.weight, node))
        return f"key hashes to {position}; {node.endpoint.instance_id!r} bids {bid:.3f}, the most"

    def _repr_options(self) -> dict[str, object]:
        return {"hash": self._hash_choice if isinstance(self._hash_choice, str) else "<callable>"}

    def _preference_order(self, position: int) -> Iterator[Node[E]]:
        ranked = sorted(self._bidders, key=lambda bidder: _bid(position, bidder), reverse=True)
        return (node for _, _, node in ranked)

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        # Sorted by id, so that every process chooses the same of two equal bids.
        ordered = sorted(nodes, key=lambda node: node.endpoint.instance_id)
        self._bidders = [(_seed(n.endpoint.instance_id), n.weight, n) for n in ordered]


def _seed(instance_id: str) -> int:
    return int.from_bytes(hashlib.md5(instance_id.encode(), usedforsecurity=False).digest()[:8])


def _bid(position: int, bidder: tuple[int, float, Node[E]]) -> float:
    """Compute -weight / ln(u), with u in (0, 1) mixed from key and endpoint by SplitMix64."""
    seed, weight, _ = bidder
    mixed = (position * 0x9E3779B97F4A7C15 ^ seed) & _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK
    mixed ^= mixed >> 31
    return -weight / log(((mixed >> 11) + 0.5) / (1 << 53))
