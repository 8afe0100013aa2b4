"""Generators that keep their lane to themselves: a scope inside one does not leak into its caller."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

from .lane_context import enter, give_back, said

__all__ = ("confined", "confined_async", "lane_generator")

T = TypeVar("T")
P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., object])


def confined(steps: Iterable[T]) -> Iterator[T]:
    """Each step runs in the lane that holds now, or that the step before left behind."""
    return _Confined(iter(steps), said())


def confined_async(steps: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same for an async generator."""
    return _AsyncConfined(steps, said())


def lane_generator(function: F) -> F:
    """Decorate a generator function, sync or async: it runs in the lane of the call that made it.

    Without it, a generator runs in the lane of whoever takes the next value, and a `lane_scope`
    around a `yield` is seen by the caller.

    Raises:
        TypeError: it is no generator function.
    """
    call = cast(Callable[..., Any], function)
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        def make_async(*args: Any, **options: Any) -> AsyncIterator[Any]:
            return confined_async(call(*args, **options))

        return cast(F, make_async)
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def make(*args: Any, **options: Any) -> Iterator[Any]:
            return confined(call(*args, **options))

        return cast(F, make)
    raise TypeError(f"{function!r} is no generator function; decorate one, or use lane_scope")


class _Confined(Iterator[T]):
    __slots__ = ("_lane", "_steps")

    def __init__(self, steps: Iterator[T], lane: str | None) -> None:
        self._steps = steps
        self._lane = lane

    def __next__(self) -> T:
        token = enter(self._lane)
        try:
            return next(self._steps)
        finally:
            self._lane = said()
            give_back(token)

    def close(self) -> None:
        """Close the generator, in its lane."""
        token = enter(self._lane)
        try:
            if isinstance(self._steps, Generator):
                self._steps.close()
        finally:
            give_back(token)


class _AsyncConfined(AsyncIterator[T]):
    __slots__ = ("_lane", "_steps")

    def __init__(self, steps: AsyncIterator[T], lane: str | None) -> None:
        self._steps = steps
        self._lane = lane

    async def __anext__(self) -> T:
        token = enter(self._lane)
        try:
            return await anext(self._steps)
        finally:
            self._lane = said()
            give_back(token)

    async def aclose(self) -> None:
        """Close the generator, in its lane."""
        token = enter(self._lane)
        try:
            if isinstance(self._steps, AsyncGenerator):
                await self._steps.aclose()
        finally:
            give_back(token)
