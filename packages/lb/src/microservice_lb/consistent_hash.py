"""What ring, Maglev and rendezvous have in common: the key decides, and each key has an order."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from microservice_core import InvalidValueError

from .balancer import E, Key, Node, SelectingBalancer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .key_hash import KeyHash

__all__ = ("ConsistentHash",)


class ConsistentHash(SelectingBalancer[E]):
    """The same key goes to the same endpoint, in every process that knows the same endpoints.

    When endpoints come or go, few keys move. Keys are `str` (hashed as UTF-8) or `bytes`; without a
    key the pick is random.
    """

    __slots__ = ("_bits", "_hash", "_hash_choice")

    _bits: int
    _hash: KeyHash

    def candidates(self, key: Key) -> Iterator[E]:
        """All endpoints in this key's order of preference; the first is what `pick` gives.

        For placing replicas, or for trying the next one.
        """
        return (node.endpoint for node in self._order(self._position(key)))

    def weights(self) -> dict[str, float]:
        """The weight above 0 of each endpoint in use, by id."""
        return {node.endpoint.instance_id: node.weight for node in self._eligible}

    @abstractmethod
    def _order(self, position: int) -> Iterator[Node[E]]:
        """The nodes in the order of preference of a hashed key, each once."""

    def _position(self, key: Key) -> int:
        if isinstance(key, str):
            return self._hash(key.encode())
        if key is None:
            return int(self._random() * (1 << self._bits))
        if not isinstance(key, bytes | bytearray | memoryview):
            raise InvalidValueError("key", key, "a str, bytes or None")
        return self._hash(key)

    def _pick_in_order(self, key: Key, exclude: Collection[str]) -> E:
        """The pick when it is not simply the first for a `str`."""
        home: Node[E] | None = None
        for node in self._order(self._position(key)):
            if node.endpoint.instance_id not in exclude:
                return node.endpoint
            home = home or node
        admitted = self._admitted(exclude)
        return (home or admitted[0]).endpoint
