"""The base of ring, Maglev and rendezvous: every key has an order of preference of endpoints."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from microservice_core import InvalidValueError

from .balancer import Key, SelectingBalancer, check_exclude
from .node import E, Node

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .key_hash import KeyHash

__all__ = ("ConsistentHash",)


class ConsistentHash(SelectingBalancer[E]):
    """The same key goes to the same endpoint, in every process that has the same endpoints.

    When endpoints are added or removed, few keys move. Keys are `str` (hashed as UTF-8; a
    lone surrogate is a character as any other) or `bytes`; without a key the pick is random.
    """

    __slots__ = ("_bits", "_hash", "_hash_choice")

    _bits: int
    _hash: KeyHash

    def candidates(self, key: Key) -> Iterator[E]:
        """Iterate over all endpoints in this key's order of preference; `pick` gives the first.

        For placing replicas, or for trying the next endpoint.
        """
        return (node.endpoint for node in self._preference_order(self._position(key)))

    @abstractmethod
    def _preference_order(self, position: int) -> Iterator[Node[E]]:
        """Iterate over the nodes in the order of preference of a hashed key, each once."""

    def _position(self, key: Key) -> int:
        if isinstance(key, str):
            # As UTF-8; a lone surrogate, which JSON can contain, has bytes of its own.
            return self._hash(key.encode("utf-8", "surrogatepass"))
        if key is None:
            return int(self._random() * (1 << self._bits))
        if not isinstance(key, bytes | bytearray | memoryview):
            raise InvalidValueError("key", key, "a str, bytes or None")
        return self._hash(key)

    def _pick_in_order(self, key: Key, exclude: Collection[str]) -> E:
        """Pick for every case but the fast one, a `str` key and nothing excluded."""
        check_exclude(exclude)
        first: Node[E] | None = None
        for node in self._preference_order(self._position(key)):
            if node.endpoint.instance_id not in exclude:
                return node.endpoint
            first = first or node
        # All are excluded: this raises, or in a panic the key's own endpoint serves.
        remaining = self._filter_excluded(exclude)
        return (first or remaining[0]).endpoint
