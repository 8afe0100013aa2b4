"""What every policy offers: `run`, `arun` and a decorator that fits both kinds of function."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NoReturn, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import CoroutineType

__all__ = ("Policy", "refuse_coroutine")

P = ParamSpec("P")
R = TypeVar("R")


class Policy(ABC):
    """Guards calls: `policy.run(fn, *args)`, `await policy.arun(fn, *args)`, or `@policy`."""

    @abstractmethod
    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` under the policy."""

    @abstractmethod
    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` under the policy."""

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a plain or an async function.

        Raises:
            TypeError: `fn` is a generator function; its body does not run inside the call.
        """
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(
                f"{fn.__qualname__} is a generator function, whose body runs after the call; "
                "guard the calls inside it instead"
            )
        if not inspect.iscoroutinefunction(fn):
            return functools.wraps(fn)(functools.partial(self._run_plain, fn))
        return cast("Callable[P, R]", self._async_wrapper(fn))

    def _run_plain(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.run(fn, *args, **kwargs)

    def _async_wrapper(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        arun = self.arun

        @functools.wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            return await arun(fn, *args, **kwargs)

        return guarded


def refuse_coroutine(result: CoroutineType[object, object, object]) -> NoReturn:
    """A call that only made a coroutine has done nothing, and must not count as success.

    Raises:
        TypeError: always.
    """
    result.close()
    raise TypeError("run was given a coroutine function (to call, or as its sleep); use arun")
