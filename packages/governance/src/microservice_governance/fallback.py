"""Fallback: a substitute result in place of an error."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, cast

from .deferred_results import FINAL_TYPES, refuse_deferred
from .events import FallbackUsed
from .exception_types import ExceptionTypes, validate_exception_types
from .policy import Policy, is_async

__all__ = ("Fallback",)

P = ParamSpec("P")
R = TypeVar("R")


class Fallback(Policy):
    """Returns a substitute for the errors in `on`; all other errors and cancellation come out.

    Args:
        answer: the substitute: a value, or a function of the error that returns one. The function
            may be async if the guarded function is. A list, dict, set or bytearray, also one inside
            another, is copied for each caller, so that none sees what another has put in; for any
            other mutable object give a function that makes it.
        on: exception types. There is no default: a fallback that hides a bug does harm.
        name: for messages and events.

    Raises:
        InvalidValueError: `on` is empty or holds something other than subclasses of `Exception`.
    """

    kind = "fallback"

    def __init__(self, answer: object, *, on: ExceptionTypes, name: str = "fallback") -> None:
        self.name = name
        self.on = validate_exception_types(on)
        self._substitute = answer

    def check_sync(self, fn: Callable[..., object]) -> None:
        """Check that the substitute can be computed without awaiting.

        Raises:
            TypeError: it is a coroutine function.
        """
        if callable(self._substitute) and is_async(self._substitute):
            raise TypeError(
                f"fallback {self.name!r} has a coroutine function as its substitute, which a plain "
                "function cannot await; give it a plain one"
            )

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn`; its result, or the substitute if it raises one of `on`.

        Raises:
            TypeError: `fn` or the substitute is a coroutine function; use `arun`.
        """
        try:
            result = fn(*args, **kwargs)
        except self.on as error:
            result = cast("R", self._substitute_for(error))
        if type(result) not in FINAL_TYPES:
            refuse_deferred(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn`; its result, or the substitute if it raises one of `on`."""
        try:
            return await fn(*args, **kwargs)
        except self.on as error:
            substitute = self._substitute_for(error)
            if inspect.isawaitable(substitute):
                substitute = await substitute
            return cast("R", substitute)

    def __repr__(self) -> str:
        return f"Fallback({self.name!r}, on {', '.join(kind.__name__ for kind in self.on)})"

    def _substitute_for(self, error: Exception) -> object:
        if self._subscribers:
            self._notify(FallbackUsed(self.kind, self.name, error))
        return self._substitute(error) if callable(self._substitute) else _fresh(self._substitute)


def _fresh(value: Any) -> Any:
    """A copy of a built-in container, with copies of those inside; any other value as it is."""
    kind = type(value)
    if kind is dict:
        return {key: _fresh(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(map(_fresh, value))
    return value.copy() if kind is set or kind is bytearray else value
