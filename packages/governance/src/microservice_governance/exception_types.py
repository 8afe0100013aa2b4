"""Which exceptions a policy acts on: one type or several, and never a cancellation."""

from __future__ import annotations

from collections.abc import Sequence

from microservice_core import InvalidValueError

__all__ = ("ExceptionTypes", "exception_types")

ExceptionTypes = type[Exception] | Sequence[type[Exception]]


def exception_types(on: ExceptionTypes) -> tuple[type[Exception], ...]:
    """The types as `except` takes them.

    Raises:
        InvalidValueError: there is none, or one that is no subclass of `Exception`, as
            `CancelledError` and `KeyboardInterrupt` are not.
    """
    types = (on,) if isinstance(on, type) else tuple(on)
    if not types or not all(map(_is_exception, types)):
        raise InvalidValueError("on", on, "one or more subclasses of Exception")
    return types


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)
