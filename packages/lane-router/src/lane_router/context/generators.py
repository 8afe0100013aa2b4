"""Generators that keep their own lane: a scope inside one does not leak into its caller."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

from .lane_context import get_raw_lane, reset_lane, set_lane

__all__ = ("confine_async_lane", "confine_lane", "lane_generator")

T = TypeVar("T")
P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., object])


def confine_lane(steps: Iterable[T]) -> Iterator[T]:
    """Run each step in the lane that is current now, or in the one the step before it left set."""
    return _LaneIterator(iter(steps), get_raw_lane())


def confine_async_lane(steps: AsyncIterator[T]) -> AsyncIterator[T]:
    """`confine_lane` for an async iterator."""
    return _AsyncLaneIterator(steps, get_raw_lane())


def lane_generator(function: F) -> F:
    """Decorate a generator function, sync or async: it runs in the lane it was called in.

    Without it, a generator runs in the lane of the code that takes the next value, and the caller
    sees a `lane_scope` that is open around a `yield`.

    Raises:
        TypeError: the function is not a generator function.
    """
    call = cast(Callable[..., Any], function)
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        def make_async(*args: Any, **options: Any) -> AsyncIterator[Any]:
            return confine_async_lane(call(*args, **options))

        return cast(F, make_async)
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def make(*args: Any, **options: Any) -> Iterator[Any]:
            return confine_lane(call(*args, **options))

        return cast(F, make)
    raise TypeError(f"{function!r} is not a generator function; decorate one, or use lane_scope")


class _LaneIterator(Iterator[T]):
    __slots__ = ("_lane", "_steps")

    def __init__(self, steps: Iterator[T], lane: str | None) -> None:
        self._steps = steps
        self._lane = lane

    def __next__(self) -> T:
        token = set_lane(self._lane)
        try:
            return next(self._steps)
        finally:
            # The generator may have a scope open at this yield: it is restored at the next step.
            self._lane = get_raw_lane()
            reset_lane(token)

    def close(self) -> None:
        """Close the generator, in its lane."""
        token = set_lane(self._lane)
        try:
            if isinstance(self._steps, Generator):
                self._steps.close()
        finally:
            reset_lane(token)


class _AsyncLaneIterator(AsyncIterator[T]):
    __slots__ = ("_lane", "_steps")

    def __init__(self, steps: AsyncIterator[T], lane: str | None) -> None:
        self._steps = steps
        self._lane = lane

    async def __anext__(self) -> T:
        token = set_lane(self._lane)
        try:
            return await anext(self._steps)
        finally:
            self._lane = get_raw_lane()
            reset_lane(token)

    async def aclose(self) -> None:
        """Close the generator, in its lane."""
        token = set_lane(self._lane)
        try:
            if isinstance(self._steps, AsyncGenerator):
                await self._steps.aclose()
        finally:
            reset_lane(token)
