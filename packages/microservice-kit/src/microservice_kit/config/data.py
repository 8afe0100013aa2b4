"""Nested plain data: merge two mappings, look a dotted key up, walk the leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

__all__ = ("MISSING", "Data", "deep_merge", "iter_leaves", "look_up")

Data = dict[str, object]


class _Missing:
    """The type of `MISSING`."""


MISSING: Final = _Missing()
"""Stands for "no such key"; None may be a value."""


def deep_merge(low: Mapping[str, object], high: Mapping[str, object]) -> Data:
    """Merge two mappings: where both hold a mapping it is merged, elsewhere `high` wins.

    A list replaces a list, an empty mapping adds nothing, and a None of `high` is a value like any
    other: it wins.
    """
    merged: Data = dict(low)
    for key, value in high.items():
        present = merged.get(key)
        if isinstance(present, Mapping) and isinstance(value, Mapping):
            merged[key] = deep_merge(present, value)
        else:
            merged[key] = value
    return merged


def look_up(data: Mapping[str, object], key: str) -> object:
    """Return the value at a dotted key, or `MISSING`; a key may contain dots itself."""
    if key in data:
        return data[key]
    head, dot, tail = key.partition(".")
    inner = data.get(head, MISSING)
    return look_up(inner, tail) if dot and isinstance(inner, Mapping) else MISSING


def iter_leaves(data: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield each dotted key and its value; a list is one value, as is an empty mapping."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from iter_leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
