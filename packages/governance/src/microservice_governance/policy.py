"""The interface of every policy: `run`, `arun`, a decorator for both kinds of function, events."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, ParamSpec, TypeVar, cast

from .deferred_results import is_context_manager_function
from .events import CallRejected, Listener, PolicyEvent, notify

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .errors import RejectedError

__all__ = ("Policy", "is_async", "is_usage_error")

P = ParamSpec("P")
R = TypeVar("R")


class Policy(ABC):
    """Guards calls: `policy.run(fn, *args)`, `await policy.arun(fn, *args)`, or `@policy`.

    `outer | inner` is a `Pipeline` of two policies.

    Attributes:
        kind: the kind of policy, as it appears in events, metrics and errors.
        name: the policy's name.
        enabled: false makes a pipeline skip the policy.
    """

    kind: ClassVar[str] = "policy"
    name: str
    enabled: bool = True
    _subscribers: tuple[Listener, ...] = ()

    if TYPE_CHECKING:
        # A pipeline is itself a policy, so this module cannot import it. `pipelines.pipeline`
        # assigns the operator when it is imported, which the package's `__init__` does.
        def __or__(self, inner: Policy) -> Policy: ...

    @abstractmethod
    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` under the policy."""

    @abstractmethod
    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` under the policy."""

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a plain or an async function.

        A `staticmethod` or `classmethod` stays one. A plain function must not return an awaitable, a
        generator or the like: its work would be done after the call, so such a result is a
        `TypeError` of the call and counts as no outcome.

        Raises:
            TypeError: `fn` is a generator function or a `contextmanager`, whose body does not run
                inside the call, or the policy cannot guard this kind of function.
        """
        if isinstance(fn, staticmethod | classmethod):
            return cast("Callable[P, R]", type(fn)(self(fn.__func__)))
        if _is_generator_function(fn) or is_context_manager_function(fn):
            raise TypeError(
                f"{_qualified_name(fn)} is a generator function or a context manager, whose body runs "
                "after the call; guard the calls inside it instead"
            )
        if is_async(fn):
            return cast("Callable[P, R]", self.guard_async(cast("Callable[P, Awaitable[R]]", fn)))
        self.check_sync(fn)
        return self.guard_sync(fn)

    def check_sync(self, fn: Callable[..., object]) -> None:  # noqa: B027 - most policies accept all
        """Check that the policy can guard a plain function; this one accepts every function.

        Raises:
            TypeError: the policy of a subclass cannot guard plain functions.
        """

    def guard_sync(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Wrap a plain function so that every call of it runs under the policy."""
        run = self.run

        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            return run(fn, *args, **kwargs)

        return guarded

    def guard_async(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """Wrap an async function so that every call of it runs under the policy."""
        arun = self.arun

        @functools.wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            return await arun(fn, *args, **kwargs)

        return guarded

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on; returns a function that ends this."""
        self._subscribers = (*self._subscribers, listener)
        return functools.partial(self.unsubscribe, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Stop calling `listener`; one that is not subscribed is ignored."""
        # By equality: a bound method is a new object each time it is looked up.
        self._subscribers = tuple(other for other in self._subscribers if other != listener)

    def snapshot(self) -> dict[str, object]:
        """The policy's state for a status page: plain values only."""
        return {"policy": self.kind, "name": str(self.name), "enabled": self.enabled}

    def _notify(self, event: PolicyEvent) -> None:
        notify(self._subscribers, event)

    def _notify_rejection(self, error: RejectedError) -> RejectedError:
        """Report the refusal to the listeners; returns the error so that the caller raises it."""
        if self._subscribers:
            self._notify(CallRejected(self.kind, str(self.name), error.retry_after))
        return error


def is_async(fn: Callable[..., object]) -> bool:
    """Whether calling `fn` returns a coroutine; true for objects with an async `__call__` too."""
    if inspect.iscoroutinefunction(fn):
        return True
    return not inspect.isclass(fn) and inspect.iscoroutinefunction(type(fn).__call__)


def is_usage_error(error: BaseException) -> bool:
    """Whether the call itself was wrong, so that nothing was reached by it.

    True for wrong arguments, or a plain function where an async one is needed: Python raises
    their `TypeError` in the caller's frame, before a frame of the function exists.
    """
    trace = error.__traceback__
    return isinstance(error, TypeError) and trace is not None and trace.tb_next is None


def _is_generator_function(fn: Callable[..., object]) -> bool:
    """Whether calling `fn` returns a generator; true for objects with such a `__call__` too."""
    functions = [fn] if inspect.isclass(fn) else [fn, type(fn).__call__]
    return any(map(inspect.isgeneratorfunction, functions)) or any(
        map(inspect.isasyncgenfunction, functions)
    )


def _qualified_name(fn: Callable[..., object]) -> str:
    return getattr(fn, "__qualname__", repr(fn))
