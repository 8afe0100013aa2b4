"""Maglev: a table of endpoints that a key looks up; as even as can be, and O(1)."""

from __future__ import annotations

import hashlib
from array import array
from itertools import chain, islice
from math import isfinite, isqrt
from typing import TYPE_CHECKING, Literal, Unpack

from microservice_core import InvalidValueError

from .balancer import CommonOptions, E, Key, Node
from .consistent_hash import ConsistentHash
from .key_hash import KeyHash, key_hash, xxh64

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

__all__ = ("Maglev", "fill_table")


class Maglev(ConsistentHash[E]):
    """Consistent hashing by Google's Maglev table.

    Against a ring: faster, more even, but about twice as many keys move when endpoints change.

    Source: D. Eisenbud et al., Maglev (NSDI 2016), 3.4; weights and XXH64 as in Envoy's maglev
    (`compatible="envoy"`, needs the extra `xxhash`).

    Args:
        table_size: a prime, at least 100 times the number of endpoints if shares are to be even.
        hash: of keys; a name or a callable, see `key_hash` and `keyed_hash`.

    Raises:
        InvalidValueError: `table_size`, `compatible` or `hash` is none of what they may be; on
            update, if there are more endpoints than places in the table.
        MissingDependencyError: XXH64 is wanted and the extra `xxhash` is not installed.
    """

    __slots__ = ("_layout", "_shares", "_table", "compatible", "table_size")

    def __init__(
        self,
        *,
        table_size: int = 65537,
        compatible: Literal["envoy"] | None = None,
        hash: str | KeyHash | None = None,  # noqa: A002 - the field's name for it
        **common: Unpack[CommonOptions],
    ) -> None:
        if compatible not in {None, "envoy"}:
            raise InvalidValueError("compatible", compatible, '"envoy" or None')
        if not 2 < table_size <= 5_000_011 or not _is_prime(table_size):
            raise InvalidValueError("table_size", table_size, "a prime from 3 to 5000011")
        self.table_size = table_size
        self.compatible = compatible
        self._bits = 64 if compatible == "envoy" else 32
        self._hash_choice = hash or ("xxh64" if compatible == "envoy" else "crc32")
        self._hash = key_hash(self._hash_choice, bits=self._bits)
        self._shares: list[tuple[Node[E], float]] = []
        # The nodes in the order of their ids, and per place the index of its owner.
        self._layout: tuple[list[Node[E]], array[int]] = ([], array("I"))
        self._table: tuple[E, ...] = ()
        super().__init__(**common)

    @property
    def table(self) -> Sequence[E]:
        """Who owns each place; empty without endpoints."""
        return self._table

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        if exclude:
            return self._pick_in_order(key, exclude)
        try:
            return self._table[self._hash(key.encode()) % self.table_size]  # type: ignore[union-attr]
        except (AttributeError, IndexError):  # no key, bytes, or nobody there
            return self._pick_in_order(key, exclude)

    def update(self, endpoints: Iterable[E], *, weights: Sequence[float] | None = None) -> None:
        listed = list(endpoints)
        if len(listed) > self.table_size:
            rule = f"at most table_size ({self.table_size})"
            raise InvalidValueError("number of endpoints", len(listed), rule)
        super().update(listed, weights=weights)

    def _why(self, node: Node[E], key: Key) -> str:
        if key is None:
            return f"no key: {node.endpoint.instance_id!r} at random"
        position = self._position(key)
        place = position % self.table_size
        ordered, owners = self._layout
        owned = owners.count(ordered.index(node)) if node in ordered else 0
        return (
            f"key hashes to {position}, place {place}; {node.endpoint.instance_id!r} has {owned} "
            f"of {self.table_size} places"
        )

    def _options(self) -> dict[str, object]:
        shown = self._hash_choice if isinstance(self._hash_choice, str) else "<callable>"
        return {"table_size": self.table_size, "compatible": self.compatible, "hash": shown}

    def _order(self, position: int) -> Iterator[Node[E]]:
        ordered, owners = self._layout
        start = position % self.table_size
        around = chain(islice(owners, start, None), islice(owners, start))
        # Last those of a weight too small for a place of their own.
        for owner in dict.fromkeys(chain(around, range(len(ordered)))):
            yield ordered[owner]

    def _rebuild(self, nodes: list[Node[E]]) -> None:
        # In the order of ids, or two processes told of them in different orders would disagree.
        ordered = sorted(nodes, key=lambda node: node.endpoint.instance_id)
        shares = [(node, node.weight) for node in ordered]
        if shares != self._shares:
            steps = [self._steps(node.endpoint.instance_id) for node in ordered]
            owners = fill_table(self.table_size, steps, [node.weight for node in ordered])
            self._layout = ordered, array("I", owners)
        self._shares = shares
        self._table = tuple([ordered[owner].endpoint for owner in self._layout[1]])

    def _steps(self, instance_id: str) -> tuple[int, int]:
        """Offset and skip of the order in which an endpoint claims places."""
        if self.compatible == "envoy":
            digest = xxh64()
            first, second = digest(instance_id.encode()), digest(instance_id.encode(), 1)
        else:
            whole = hashlib.md5(instance_id.encode(), usedforsecurity=False).digest()
            first, second = int.from_bytes(whole[:8]), int.from_bytes(whole[8:])
        return first % self.table_size, second % (self.table_size - 1) + 1


def fill_table(size: int, steps: Sequence[tuple[int, int]], weights: Sequence[float]) -> list[int]:
    """The index that owns each place: in turns, everybody claims its next place that is free.

    Those of less than the greatest weight sit out turns in proportion.
    """
    if not steps:
        return []
    table = [-1] * size
    shares = _shares(weights)
    heaviest = max(shares)
    claims = [offset for offset, _ in steps]
    due = [0.0] * len(steps)
    left = size
    turn = 0
    while left:
        turn += 1
        for index, (_, skip) in enumerate(steps):
            if turn * shares[index] < due[index]:
                continue
            due[index] += heaviest
            place = claims[index]
            while table[place] >= 0:
                place = (place + skip) % size
            table[place] = index
            claims[index] = (place + skip) % size
            left -= 1
            if not left:
                break
    return table


def _shares(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    if not isfinite(total):
        return _shares([weight / len(weights) for weight in weights])
    return [weight / total for weight in weights]


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, isqrt(number) + 1))
