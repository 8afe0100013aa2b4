"""Lanes across threads, executors and queues, which contextvars do not reach by themselves."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from .lane_context import enter, give_back, said

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


class _Carried(Generic[P, T]):
    """A function and the lane it was handed over in; picklable when the function is."""

    def __init__(self, function: Callable[P, T], lane: str | None) -> None:
        self._function = function
        self._lane = lane
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        token = enter(self._lane)
        try:
            return self._function(*args, **kwargs)
        finally:
            give_back(token)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _Carried, (self._function, self._lane)


def carry_lane(function: Callable[P, T]) -> Callable[P, T]:
    """The function, to be run in the present lane wherever and whenever it is run.

    For `threading.Thread(target=...)`, `loop.run_in_executor`, `call_soon_threadsafe`, timers and
    process pools. What runs afterwards in that thread is not touched.
    """
    return _Carried(function, said())


class LaneThread(threading.Thread):
    """A thread that runs in the lane it was started in."""

    def start(self) -> None:
        """Start it, in the present lane."""
        self.run = carry_lane(self.run)  # type: ignore[method-assign]
        super().start()


class LaneThreadPoolExecutor(ThreadPoolExecutor):
    """A pool whose work runs in the lane it was submitted in, and leaves nothing behind."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it in the present lane."""
        return super().submit(carry_lane(fn), *args, **kwargs)


@dataclass
class LaneItem(Generic[T]):
    """A queue item that knows its lane: a long-lived worker has the lane of its own creation.

    queue.put(LaneItem(order))
    with queue.get() as order: ...
    """

    value: T
    lane: str | None = field(default_factory=said)
    _token: Token[str | None] | None = field(default=None, init=False, repr=False, compare=False)

    def __enter__(self) -> T:
        self._token = enter(self.lane)
        return self.value

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            give_back(token)


_submit = ThreadPoolExecutor.submit


def _submit_in_lane(
    self: ThreadPoolExecutor, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> Future[T]:
    return _submit(self, carry_lane(fn), *args, **kwargs)


def patch_executors() -> None:
    """Every `ThreadPoolExecutor` of the process carries the lane; twice is fine.

    `loop.run_in_executor` uses such a pool, so it is covered. Threads started by hand are not: a
    thread that some library starts for good in the middle of a request must not keep its lane.
    """
    ThreadPoolExecutor.submit = _submit_in_lane  # type: ignore[assignment,method-assign]


def unpatch_executors() -> None:
    """Undo `patch_executors`."""
    if ThreadPoolExecutor.submit is _submit_in_lane:
        ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign]
