"""Adaptive limit: finds out how many calls at once a service bears, by how long they take."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from types import CoroutineType, TracebackType
from typing import ParamSpec, Self, TypeVar

from microservice_core import InvalidValueError
from microservice_governance.errors import LimitReachedError
from microservice_governance.events import LimitChanged
from microservice_governance.exception_types import ExceptionTypes, exception_types
from microservice_governance.policy import Policy, refuse_coroutine

from .estimators import ALGORITHMS, AlgorithmName

__all__ = ("AdaptiveLimit", "AlgorithmName")

P = ParamSpec("P")
R = TypeVar("R")


class AdaptiveLimit(Policy):
    """Lets as many calls run at once as the service bears now; the rest are refused.

    A call that ends well tells how long the service takes. One that fails with an error in
    `dropped_on` says that there were too many; all other failures, and cancellation, say nothing.
    Works in threads and tasks.

    Args:
        algorithm: `gradient2` compares with the usual time and lets a few queue; `vegas` with the
            best time; `aimd` grows until calls are dropped, then backs off.
        initial: calls at once in the beginning.
        min_limit: never fewer.
        max_limit: never more.
        dropped_on: what a call fails with when the service has too much to do.
        name: for messages and events.

    Raises:
        InvalidValueError: an unknown algorithm, or limits out of their range or order.
    """

    kind = "adaptive_limit"

    def __init__(
        self,
        algorithm: AlgorithmName = "gradient2",
        *,
        initial: int = 20,
        min_limit: int = 1,
        max_limit: int = 1000,
        dropped_on: ExceptionTypes = TimeoutError,
        name: str = "adaptive limit",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if algorithm not in ALGORITHMS:
            raise InvalidValueError("algorithm", algorithm, f"one of {', '.join(ALGORITHMS)}")
        if not 1 <= min_limit <= initial <= max_limit <= 100_000:
            rule = "such that 1 <= min_limit <= initial <= max_limit <= 100000"
            raise InvalidValueError("limits", (min_limit, initial, max_limit), rule)
        self.name = name
        self.algorithm = algorithm
        self._estimate = ALGORITHMS[algorithm](initial, min_limit, max_limit)
        self._dropped_on = exception_types(dropped_on)
        self._clock = clock
        self._in_flight = 0
        self._lock = threading.Lock()

    @property
    def limit(self) -> int:
        """Calls at once that are let in now."""
        return int(self._estimate.limit)

    @property
    def in_flight(self) -> int:
        """Calls running now."""
        return self._in_flight

    @property
    def load(self) -> float:
        """Share of the limit that is taken."""
        return self._in_flight / self.limit

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` if the service bears another call.

        Raises:
            LimitReachedError: it does not; nothing was called.
            TypeError: `fn` is a coroutine function, which `arun` takes.
        """
        with _Place(self):
            result = fn(*args, **kwargs)
            if isinstance(result, CoroutineType):
                refuse_coroutine(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` if the service bears another call.

        Raises:
            LimitReachedError: it does not; nothing was called.
        """
        with _Place(self):
            return await fn(*args, **kwargs)

    def snapshot(self) -> dict[str, object]:
        """The limit as it is now."""
        return {
            **super().snapshot(),
            "algorithm": self.algorithm,
            "limit": self.limit,
            "in_flight": self._in_flight,
        }

    def __repr__(self) -> str:
        return f"AdaptiveLimit({self.algorithm!r}, {self._in_flight} of {self.limit})"

    def _enter(self) -> float:
        with self._lock:
            if self._in_flight < self.limit:
                self._in_flight += 1
                return self._clock()
        raise self._rejected(LimitReachedError(self.name, self.limit))

    def _leave(self, began: float, error: BaseException | None) -> None:
        dropped = isinstance(error, self._dropped_on)
        with self._lock:
            in_flight, before = self._in_flight, self.limit
            self._in_flight -= 1
            if error is None or dropped:
                self._estimate.learn(self._clock() - began, in_flight, dropped)
            after = self.limit
        if after != before and self._subscribers:
            self._emit(LimitChanged(self.kind, self.name, before, after))


class _Place:
    """One call's place."""

    __slots__ = ("_began", "_limit")

    def __init__(self, limit: AdaptiveLimit) -> None:
        self._limit = limit
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = self._limit._enter()  # noqa: SLF001 - its half
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._limit._leave(self._began, exc)  # noqa: SLF001 - its half
