"""Which exceptions a policy acts on: types in code, names in settings, never a cancellation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo

from microservice_core import InvalidValueError

__all__ = ("KNOWN_EXCEPTIONS", "ExceptionTypes", "NamedExceptions", "validate_exception_types")

ExceptionTypes = type[Exception] | Sequence[type[Exception]]

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
"""The types that settings can always name. A setting never causes an import: settings come from
outside, and importing what they name would run code of their choice."""


def validate_exception_types(on: ExceptionTypes) -> tuple[type[Exception], ...]:
    """One type or several, as the tuple that `except` takes.

    Raises:
        InvalidValueError: there is none, or one that is not a subclass of `Exception`, such as
            `CancelledError` and `KeyboardInterrupt`.
    """
    types = (on,) if isinstance(on, type) else tuple(on)
    if not types or not all(map(_is_exception_type, types)):
        raise InvalidValueError("on", on, "one or more subclasses of Exception")
    return types


def _is_exception_type(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _resolve_names(value: object, info: ValidationInfo) -> object:
    """A type, a name or several of both, as a tuple of types."""
    entries = (value,) if isinstance(value, str | type) else value
    if not isinstance(entries, list | tuple):
        return value
    types_by_name = (info.context or {}).get("errors", KNOWN_EXCEPTIONS)
    return tuple(_resolve_name(entry, types_by_name) for entry in entries)


def _resolve_name(entry: object, types_by_name: Mapping[str, type[Exception]]) -> object:
    if not isinstance(entry, str):
        return entry
    if entry not in types_by_name:
        raise ValueError(
            f"unknown exception {entry!r} (known: {', '.join(sorted(types_by_name))}); "
            "pass its type to the registry in `errors`"
        )
    return types_by_name[entry]


NamedExceptions = Annotated[tuple[type[Exception], ...], BeforeValidator(_resolve_names)]
"""Field type of a pydantic model: exception types, or their names when read from settings."""
