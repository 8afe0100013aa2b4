"""Fallback: another answer in place of an error."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import ParamSpec, TypeVar, cast

from .events import FallbackUsed
from .exception_types import ExceptionTypes, exception_types
from .policy import Policy, is_async, refuse_coroutine

__all__ = ("Fallback",)

P = ParamSpec("P")
R = TypeVar("R")


class Fallback(Policy):
    """Answers in place of one of the errors in `on`; all others, and cancellation, come out.

    Args:
        answer: a value, or a function of the error that gives one. It may be async where the
            guarded function is.
        on: exception types. There is no default: an answer that hides a bug helps nobody.
        name: for messages and events.

    Raises:
        InvalidValueError: `on` is empty or holds something other than subclasses of `Exception`.
    """

    kind = "fallback"

    def __init__(self, answer: object, *, on: ExceptionTypes, name: str = "fallback") -> None:
        self.name = name
        self.on = exception_types(on)
        self._answer = answer

    def check_sync(self, fn: Callable[..., object]) -> None:
        """An async answer cannot be given to a plain function.

        Raises:
            TypeError: the answer is a coroutine function.
        """
        if callable(self._answer) and is_async(self._answer):
            raise TypeError(
                f"fallback {self.name!r} answers with a coroutine function, which a plain function "
                "cannot await; give it a plain one"
            )

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What `fn` returns, or the other answer.

        Raises:
            TypeError: `fn` or the answer is a coroutine function, which `arun` takes.
        """
        try:
            result = fn(*args, **kwargs)
        except self.on as error:
            result = cast("R", self._answer_to(error))
        if isinstance(result, CoroutineType):
            refuse_coroutine(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What awaiting `fn` gives, or the other answer."""
        try:
            return await fn(*args, **kwargs)
        except self.on as error:
            answer = self._answer_to(error)
            if inspect.isawaitable(answer):
                answer = await answer
            return cast("R", answer)

    def __repr__(self) -> str:
        return f"Fallback({self.name!r}, on {', '.join(kind.__name__ for kind in self.on)})"

    def _answer_to(self, error: Exception) -> object:
        if self._subscribers:
            self._emit(FallbackUsed(self.kind, self.name, error))
        return self._answer(error) if callable(self._answer) else self._answer
