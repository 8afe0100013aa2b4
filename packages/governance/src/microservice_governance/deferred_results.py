"""Results that are no results yet: awaitables, generators and the like, whose work is still to come."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("FINAL_TYPES", "is_context_manager_function", "is_deferred", "refuse_deferred")

FINAL_TYPES: Final[set[type]] = {type(None), bool, int, float, str, bytes, list, dict, tuple, set}
"""Types whose values are final; `is_deferred` adds to them. `type(result) in FINAL_TYPES` costs a call
that is guarded next to nothing."""

_MAX_FINAL_TYPES = 1024  # types may be made at run time, and are kept alive here


def _no_context() -> Any:
    """What `contextlib` decorates here, for the types that it makes; its body never runs."""
    return iter(())


_CONTEXT_MANAGERS = (contextmanager(_no_context), asynccontextmanager(_no_context))
_CONTEXT_MANAGER_CODES = {function.__code__ for function in _CONTEXT_MANAGERS}
_DEFERRED_TYPES = (
    CoroutineType,
    GeneratorType,
    AsyncGeneratorType,
    *(type(function()) for function in _CONTEXT_MANAGERS),
)


def is_context_manager_function(fn: Callable[..., object]) -> bool:
    """Whether `contextlib` made `fn`, so that its body runs in a `with` block after the call."""
    return getattr(fn, "__code__", None) in _CONTEXT_MANAGER_CODES


def is_deferred(result: object) -> bool:
    """Whether `result` is to be awaited, iterated or entered before anything is known of its success."""
    kind = type(result)
    if kind in FINAL_TYPES:
        return False
    if isinstance(result, _DEFERRED_TYPES) or hasattr(kind, "__await__"):
        return True
    if len(FINAL_TYPES) < _MAX_FINAL_TYPES:
        FINAL_TYPES.add(kind)
    return False


def refuse_deferred(result: object) -> None:
    """Raise for a result whose work is still to come: it must not count as a success.

    Raises:
        TypeError: `result` is deferred.
    """
    if not is_deferred(result):
        return
    close = getattr(result, "close", None)
    if isinstance(result, (CoroutineType, GeneratorType)) and close is not None:
        close()
    raise TypeError(
        f"the function (or `sleep`) returned a {type(result).__name__}, whose work is still to come and "
        "was not guarded; use arun(), or an `async def` function that awaits it, and guard the calls "
        "inside a generator or a context manager"
    )
