"""Exception types by name, for settings that come as text from a configuration center."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo

__all__ = ("KNOWN_EXCEPTIONS", "NamedExceptions")

KNOWN_EXCEPTIONS: Mapping[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        Exception,
        OSError,
        ConnectionError,
        ConnectionRefusedError,
        ConnectionResetError,
        BrokenPipeError,
        TimeoutError,
        ValueError,
        LookupError,
        RuntimeError,
    )
}
"""What may be named without further ado. Nothing is ever imported because a setting says so."""


def _resolved(value: object, info: ValidationInfo) -> object:
    """A type or name, or several, as a tuple of types."""
    many = (value,) if isinstance(value, str | type) else value
    if not isinstance(many, list | tuple):
        return value
    known = (info.context or {}).get("errors", KNOWN_EXCEPTIONS)
    return tuple(_found(one, known) for one in many)


def _found(one: object, known: Mapping[str, type[Exception]]) -> object:
    if not isinstance(one, str):
        return one
    if one not in known:
        raise ValueError(
            f"no exception is known as {one!r} (known: {', '.join(sorted(known))}); "
            "give the registry its type in `errors`"
        )
    return known[one]


NamedExceptions = Annotated[tuple[type[Exception], ...], BeforeValidator(_resolved)]
