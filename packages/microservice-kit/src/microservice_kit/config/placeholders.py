"""`${other.key:default}` inside the values of a configuration.

Spring's form (https://docs.spring.io/spring-framework/reference/core/beans/environment.html):
`${key}` stands for the value of another key, `${key:default}` falls back to the default when there
is no such key, and the default may contain placeholders itself. `$${` is a literal `${`.
"""

from __future__ import annotations

from collections.abc import Mapping

from .data import MISSING, Data, look_up

__all__ = ("PlaceholderError", "Resolver")

_MAX_DEPTH = 32
_MAX_SIZE = 1_000_000


class PlaceholderError(ValueError):
    """A placeholder names no key, refers back to itself, is not closed, or stands for too much."""


class Resolver:
    """Replaces placeholders by the values of one configuration.

    A placeholder may lead to others, 32 deep, and all of them together stand for at most 1,000,000
    characters and values: a few lines that refer to each other would otherwise fill the memory.

    Args:
        data: where the keys are looked up.

    Attributes:
        used_keys: the dotted keys whose values replaced a placeholder so far.
    """

    def __init__(self, data: Mapping[str, object]) -> None:
        self._data = data
        self.used_keys: set[str] = set()
        self._size = 0
        # Value and size of what the keys stand for: each is resolved once.
        self._resolved: dict[str, tuple[object, int]] = {}

    def resolve_all(self) -> Data:
        """Resolve the whole configuration.

        Raises:
            PlaceholderError: a placeholder names no key, refers back to itself, or is not closed.
        """
        return {key: self.resolve(value) for key, value in self._data.items()}

    def resolve(self, value: object, *, parents: tuple[str, ...] = ()) -> object:
        """Resolve every placeholder in a value.

        A text that is one placeholder and nothing else becomes the other key's value, whatever its
        type; elsewhere the value is inserted as text.

        Args:
            parents: the keys that are being resolved, to detect a circle.

        Raises:
            PlaceholderError: see `resolve_all`.
        """
        self._count(1)
        if isinstance(value, Mapping):
            return {key: self.resolve(child, parents=parents) for key, child in value.items()}
        if isinstance(value, list):
            return [self.resolve(child, parents=parents) for child in value]
        if isinstance(value, str) and "${" in value:
            return self._resolve_text(value, parents)
        return value

    def _resolve_text(self, text: str, parents: tuple[str, ...]) -> object:
        pieces: list[object] = []
        position = 0
        while (begin := text.find("${", position)) >= 0:
            if begin > 0 and text[begin - 1] == "$":
                pieces.append(text[position : begin - 1] + "${")
                position = begin + 2
                continue
            end = _find_end(text, begin)
            if begin > position:
                pieces.append(text[position:begin])
            pieces.append(self._resolve_placeholder(text[begin + 2 : end], parents))
            position = end + 1
        if position < len(text):
            pieces.append(text[position:])
        # A single piece keeps its type: `"${port}"` is a number, `"${host}:${port}"` a text.
        if len(pieces) == 1:
            return pieces[0]
        resolved = "".join(_to_text(piece) for piece in pieces)
        self._count(len(resolved))
        return resolved

    def _resolve_placeholder(self, content: str, parents: tuple[str, ...]) -> object:
        key, colon, default = content.partition(":")
        key = key.strip()
        if len(parents) >= _MAX_DEPTH:
            raise PlaceholderError(f"placeholders lead to each other more than {_MAX_DEPTH} deep")
        if key in parents:
            raise PlaceholderError(f"{' -> '.join((*parents, key))} is a circle")
        value = look_up(self._data, key)
        if value is not MISSING:
            self.used_keys.add(key)
            return self._resolve_key(key, value, parents)
        if colon:
            return self.resolve(default, parents=parents)
        raise PlaceholderError(f"${{{key}}} names no key; add the key or a default: ${{{key}:...}}")

    def _resolve_key(self, key: str, value: object, parents: tuple[str, ...]) -> object:
        if key in self._resolved:
            resolved, size = self._resolved[key]
            self._count(size)
            return resolved
        before = self._size
        resolved = self.resolve(value, parents=(*parents, key))
        self._resolved[key] = resolved, self._size - before
        return resolved

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > _MAX_SIZE:
            raise PlaceholderError(
                f"its values, placeholders replaced, are more than {_MAX_SIZE:,} characters and "
                "values"
            )


def _find_end(text: str, begin: int) -> int:
    """Return the position of the `}` that closes the `${` at `begin`; defaults may nest."""
    depth = 0
    for position in range(begin, len(text)):
        if text.startswith("${", position):
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
    raise PlaceholderError("a `${` has no `}`; write `$${` for a literal one")


def _to_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, Mapping | list):
        raise PlaceholderError("a mapping or list cannot stand inside a text; use it alone")
    return str(value)
