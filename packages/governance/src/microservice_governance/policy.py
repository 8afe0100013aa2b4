"""What every policy offers: `run`, `arun`, a decorator for both kinds of function, events."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from types import CoroutineType
from typing import TYPE_CHECKING, ClassVar, NoReturn, ParamSpec, TypeVar, cast

from .events import CallRejected, Listener, PolicyEvent, deliver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .errors import RejectedError
    from .pipelines.pipeline import Pipeline

__all__ = ("Policy", "called_in_vain", "is_async", "refuse_coroutine")

P = ParamSpec("P")
R = TypeVar("R")


class Policy(ABC):
    """Guards calls: `policy.run(fn, *args)`, `await policy.arun(fn, *args)`, or `@policy`.

    Attributes:
        kind: what it is, in events, metrics and errors.
        name: which one it is.
        enabled: a pipeline leaves out what is not.
    """

    kind: ClassVar[str] = "policy"
    name: str
    enabled: bool = True
    _subscribers: tuple[Listener, ...] = ()

    @abstractmethod
    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` under the policy."""

    @abstractmethod
    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` under the policy."""

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a plain or an async function.

        Raises:
            TypeError: `fn` is a generator function, whose body does not run inside the call, or
                the policy cannot guard this kind of function.
        """
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(
                f"{_title(fn)} is a generator function, whose body runs after the call; "
                "guard the calls inside it instead"
            )
        if is_async(fn):
            return cast("Callable[P, R]", self.guard_async(cast("Callable[P, Awaitable[R]]", fn)))
        self.check_sync(fn)
        return self.guard_sync(fn)

    def __or__(self, inner: Policy) -> Pipeline:
        """`outer | inner`: a pipeline."""
        from .pipelines.pipeline import pipeline

        return pipeline(self, inner)

    def check_sync(self, fn: Callable[..., object]) -> None:  # noqa: B027 - most can
        """Refuse to guard a plain function, where that cannot work.

        Raises:
            TypeError: it cannot.
        """

    def guard_sync(self, fn: Callable[P, R]) -> Callable[P, R]:
        """`fn` under the policy; what the decorator makes of a plain function."""
        run = self.run

        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            return run(fn, *args, **kwargs)

        return guarded

    def guard_async(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """`fn` under the policy; what the decorator makes of an async function."""
        arun = self.arun

        @functools.wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            return await arun(fn, *args, **kwargs)

        return guarded

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` told of every event from now on; call the result to end that."""
        self._subscribers = (*self._subscribers, listener)
        return functools.partial(self.unsubscribe, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Tell that listener no more."""
        # By equality: a bound method is another object each time it is looked up.
        self._subscribers = tuple(one for one in self._subscribers if one != listener)

    def snapshot(self) -> dict[str, object]:
        """What a status page shows: plain values only."""
        return {"policy": self.kind, "name": str(self.name), "enabled": self.enabled}

    def _emit(self, event: PolicyEvent) -> None:
        deliver(event, self._subscribers)

    def _rejected(self, error: RejectedError) -> RejectedError:
        """The refusal, made known."""
        if self._subscribers:
            self._emit(CallRejected(self.kind, str(self.name), error.retry_after))
        return error


def is_async(fn: Callable[..., object]) -> bool:
    """Whether calling it makes a coroutine; also for objects with an async `__call__`."""
    if inspect.iscoroutinefunction(fn):
        return True
    return not inspect.isclass(fn) and inspect.iscoroutinefunction(type(fn).__call__)


def called_in_vain(error: BaseException) -> bool:
    """Whether the error says that the call itself was wrong, and nothing was reached by it.

    A wrong argument, or a plain function where an async one belongs: raised in the caller's frame.
    """
    trace = error.__traceback__
    return isinstance(error, TypeError) and trace is not None and trace.tb_next is None


def refuse_coroutine(result: object) -> NoReturn:
    """A call that only made a coroutine has done nothing, and must not count as success.

    Raises:
        TypeError: always.
    """
    if isinstance(result, CoroutineType):
        result.close()
    raise TypeError("run was given a coroutine function (to call, or as its sleep); use arun")


def _title(fn: Callable[..., object]) -> str:
    return getattr(fn, "__qualname__", repr(fn))
