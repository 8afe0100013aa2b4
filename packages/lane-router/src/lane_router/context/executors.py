"""Lanes across threads, executors and queues, which contextvars do not reach by themselves."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from .lane_context import get_raw_lane, reset_lane, set_lane

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

__all__ = (
    "LaneItem",
    "LaneThread",
    "LaneThreadPoolExecutor",
    "carry_lane",
    "patch_executors",
    "unpatch_executors",
)

P = ParamSpec("P")
T = TypeVar("T")


class _LaneFunction(Generic[P, T]):
    """A function and the lane it runs in; a class, so that it can be pickled for process pools."""

    def __init__(self, function: Callable[P, T], lane: str | None) -> None:
        self._function = function
        self._lane = lane
        # updated=(): the function's __dict__ may hold what cannot be pickled.
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        token = set_lane(self._lane)
        try:
            return self._function(*args, **kwargs)
        finally:
            reset_lane(token)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _LaneFunction, (self._function, self._lane)


def carry_lane(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that every later call runs in the lane that is current now.

    For `threading.Thread(target=...)`, `loop.run_in_executor`, `call_soon_threadsafe`, timers and
    process pools. The thread that calls it is back in its own lane afterwards.
    """
    return _LaneFunction(function, get_raw_lane())


class LaneThread(threading.Thread):
    """A thread that runs in the lane it was started in."""

    def start(self) -> None:
        """Start the thread in the current lane."""
        self.run = carry_lane(self.run)  # type: ignore[method-assign]  # this thread's only
        super().start()


class LaneThreadPoolExecutor(ThreadPoolExecutor):
    """A pool that runs each work item in the lane it was submitted in."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run the function in the current lane."""
        return super().submit(carry_lane(fn), *args, **kwargs)


@dataclass
class LaneItem(Generic[T]):
    """A queue item that carries the lane of its producer to a long-lived worker.

    queue.put(LaneItem(order))
    with queue.get() as order: ...
    """

    value: T
    lane: str | None = field(default_factory=get_raw_lane)
    _token: Token[str | None] | None = field(default=None, init=False, repr=False, compare=False)

    def __enter__(self) -> T:
        self._token = set_lane(self.lane)
        return self.value

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            reset_lane(token)


_submit = ThreadPoolExecutor.submit


def _submit_in_lane(
    self: ThreadPoolExecutor, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> Future[T]:
    return _submit(self, carry_lane(fn), *args, **kwargs)


def patch_executors() -> None:
    """Make every `ThreadPoolExecutor` of the process carry the lane; calling it twice is fine.

    `loop.run_in_executor` uses such a pool, so it is covered. Threads started by hand are not: a
    background thread that a library happens to start during a request must not keep its lane.
    """
    ThreadPoolExecutor.submit = _submit_in_lane  # type: ignore[assignment,method-assign]  # a patch


def unpatch_executors() -> None:
    """Undo `patch_executors`."""
    if ThreadPoolExecutor.submit is _submit_in_lane:
        ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign]  # the patch, undone
