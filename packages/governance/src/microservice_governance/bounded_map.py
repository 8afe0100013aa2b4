"""A map of bounded size that evicts the least recently used entry."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from microservice_core import InvalidValueError

__all__ = ("BoundedMap",)

K = TypeVar("K")
V = TypeVar("V")


class BoundedMap(Generic[K, V]):
    """At most `max_keys` entries; the least recently used one is evicted first.

    Raises:
        InvalidValueError: `max_keys` is below 1 or above 100,000,000.
    """

    __slots__ = ("_entries", "max_keys")

    def __init__(self, max_keys: int) -> None:
        if not 1 <= max_keys <= 100_000_000:
            raise InvalidValueError("max_keys", max_keys, "a whole number from 1 to 100000000")
        self.max_keys = max_keys
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[K]:
        """The keys, least recently used first."""
        return iter(self._entries)

    def get(self, key: K) -> V | None:
        """The value of `key`, marked as just used; None if there is none."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def peek(self, key: K) -> V | None:
        """The value of `key`, without marking it as used; None if there is none."""
        return self._entries.get(key)

    def set(self, key: K, value: V) -> None:
        """Store `value`, evicting the least recently used entry if the map is full."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self.max_keys:
            self._entries.popitem(last=False)

    def pop(self, key: K) -> V | None:
        """Remove the entry of `key` and return its value; None if there is none."""
        return self._entries.pop(key, None)

    def oldest(self) -> tuple[K, V] | None:
        """The least recently used entry; None if the map is empty."""
        return next(iter(self._entries.items()), None)

    def values(self) -> list[V]:
        """A copy of all values, least recently used first."""
        return list(self._entries.values())
