"""`${other.key:default}` inside the values of a configuration.

Spring's form (https://docs.spring.io/spring-framework/reference/core/beans/environment.html):
`${key}` stands for the value of another key, `${key:default}` says what to take when there is none,
and the default may hold placeholders again. `$${` is a plain `${`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ("MISSING", "PlaceholderError", "Resolver", "lookup")

Data = dict[str, object]


class _Missing:
    """Stands for "no such key"; None may be a value."""


MISSING: Final = _Missing()


class PlaceholderError(ValueError):
    """A placeholder names no key, leads back to itself, or does not end."""


def lookup(data: Mapping[str, object], key: str) -> object:
    """The value at a dotted key, or `MISSING`; a key that holds dots itself is found as well."""
    if key in data:
        return data[key]
    head, dot, rest = key.partition(".")
    inner = data.get(head, MISSING)
    return lookup(inner, rest) if dot and isinstance(inner, Mapping) else MISSING


class Resolver:
    """Replaces placeholders by the values of one configuration.

    Args:
        data: where the keys are looked up.

    Attributes:
        used: the keys whose values were put in.
    """

    def __init__(self, data: Mapping[str, object]) -> None:
        self._data = data
        self.used: set[str] = set()

    def resolve_all(self) -> Data:
        """The whole configuration without placeholders.

        Raises:
            PlaceholderError: see there.
        """
        return {key: self.resolve(value) for key, value in self._data.items()}

    def resolve(self, value: object, *, within: tuple[str, ...] = ()) -> object:
        """The value without placeholders.

        A text that is one placeholder and nothing else becomes the other key's value, whatever its
        type; elsewhere the value is put in as text.

        Args:
            within: the keys that are being resolved, to notice a circle.

        Raises:
            PlaceholderError: see there.
        """
        if isinstance(value, Mapping):
            return {key: self.resolve(one, within=within) for key, one in value.items()}
        if isinstance(value, list):
            return [self.resolve(one, within=within) for one in value]
        if isinstance(value, str) and "${" in value:
            return self._text(value, within)
        return value

    def _text(self, text: str, within: tuple[str, ...]) -> object:
        pieces: list[object] = []
        position = 0
        while (begin := text.find("${", position)) >= 0:
            if begin > 0 and text[begin - 1] == "$":
                pieces.append(text[position : begin - 1] + "${")
                position = begin + 2
                continue
            end = _closing(text, begin)
            if begin > position:
                pieces.append(text[position:begin])
            pieces.append(self._placeholder(text[begin + 2 : end], within))
            position = end + 1
        if position < len(text):
            pieces.append(text[position:])
        return pieces[0] if len(pieces) == 1 else "".join(_as_text(one) for one in pieces)

    def _placeholder(self, content: str, within: tuple[str, ...]) -> object:
        key, colon, default = content.partition(":")
        key = key.strip()
        if key in within:
            raise PlaceholderError(f"{' -> '.join((*within, key))} is a circle")
        found = lookup(self._data, key)
        if not isinstance(found, _Missing):
            self.used.add(key)
            return self.resolve(found, within=(*within, key))
        if colon:
            return self.resolve(default, within=within)
        raise PlaceholderError(f"${{{key}}} names no key; add the key or a default: ${{{key}:...}}")


def _closing(text: str, begin: int) -> int:
    """Where the placeholder that begins there ends; those inside its default are passed over."""
    depth = 0
    for position in range(begin, len(text)):
        if text.startswith("${", position):
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
    raise PlaceholderError("a `${` has no `}`; write `$${` for a plain one")


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, Mapping | list):
        raise PlaceholderError("a mapping or list cannot stand inside a text; use it alone")
    return str(value)
