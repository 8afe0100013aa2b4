"""A map that keeps only so many entries: the one that was used longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from microservice_core import InvalidValueError

__all__ = ("BoundedMap",)

K = TypeVar("K")
V = TypeVar("V")


class BoundedMap(Generic[K, V]):
    """Least recently used goes first.

    Raises:
        InvalidValueError: `max_keys` is below 1.
    """

    __slots__ = ("_entries", "max_keys")

    def __init__(self, max_keys: int) -> None:
        if not 1 <= max_keys <= 100_000_000:
            raise InvalidValueError("max_keys", max_keys, "a whole number from 1 to 100000000")
        self.max_keys = max_keys
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, which thereby counts as used; None if there is none."""
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def peek(self, key: K) -> V | None:
        """The value, which thereby does not count as used."""
        return self._entries.get(key)

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def put(self, key: K, value: V) -> None:
        """Keep it, at the expense of the oldest if there is no room."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self.max_keys:
            self._entries.popitem(last=False)

    def pop(self, key: K) -> V | None:
        """Forget it."""
        return self._entries.pop(key, None)

    def oldest(self) -> tuple[K, V] | None:
        """What was used longest ago."""
        for entry in self._entries.items():
            return entry
        return None

    def values(self) -> list[V]:
        """All values, the one used longest ago first."""
        return list(self._entries.values())
