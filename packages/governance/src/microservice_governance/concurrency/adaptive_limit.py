"""Adaptive limit: learns from call durations how many concurrent calls a service can handle."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from microservice_core import InvalidValueError
from microservice_governance.deferred_results import is_deferred, refuse_deferred
from microservice_governance.errors import LimitReachedError
from microservice_governance.events import LimitChanged
from microservice_governance.exception_types import ExceptionTypes, validate_exception_types
from microservice_governance.policy import Policy

from .estimators import ALGORITHMS, AlgorithmName

__all__ = ("AdaptiveLimit", "AlgorithmName")

P = ParamSpec("P")
R = TypeVar("R")

_NO_OUTCOME = BaseException("the call did nothing yet")


class AdaptiveLimit(Policy):
    """Lets as many calls run at once as the service can handle now; more are refused.

    It learns from the duration of calls that succeed, and lowers the limit when a call fails with
    one of `dropped_on`. All other failures, and cancellation, are ignored. Works in threads and
    tasks.

    Args:
        algorithm: `gradient2` compares with the usual duration and lets a few calls queue; `vegas`
            compares with the shortest duration; `aimd` grows until calls are dropped, then backs
            off.
        initial: concurrent calls at first.
        min_limit: lower bound of the limit.
        max_limit: upper bound of the limit.
        dropped_on: errors that mean that the service is overloaded.
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
        _validate(algorithm, min_limit, initial, max_limit)
        self.name = name
        self.algorithm = algorithm
        self._estimate = ALGORITHMS[algorithm](initial, min_limit, max_limit)
        self._dropped_on = validate_exception_types(dropped_on)
        self._clock = clock
        self._in_flight = 0
        self._lock = threading.Lock()

    def reconfigure(self, algorithm: AlgorithmName, *, min_limit: int, max_limit: int) -> None:
        """Use other settings; the limit stays, as far as they allow, and so do calls in flight.

        Another algorithm begins with the present limit; what it learns from is new.

        Raises:
            InvalidValueError: as for the constructor; nothing has changed.
        """
        _validate(algorithm, min_limit, min_limit, max_limit)
        with self._lock:
            if algorithm != self.algorithm:
                limit = min(max_limit, max(min_limit, self.limit))
                self._estimate = ALGORITHMS[algorithm](limit, min_limit, max_limit)
                self.algorithm = algorithm
            self._estimate.set_bounds(min_limit, max_limit)

    @property
    def limit(self) -> int:
        """Concurrent calls that are allowed now."""
        return int(self._estimate.limit)

    @property
    def in_flight(self) -> int:
        """Calls running now."""
        return self._in_flight

    @property
    def load(self) -> float:
        """Running calls as a share of the limit."""
        return self._in_flight / self.limit

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` if the limit allows another call.

        Raises:
            LimitReachedError: it does not.
            TypeError: the result of `fn` is to be awaited or iterated; use `arun`.
        """
        started = self._admit()
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self._record(started, error)
            raise
        if is_deferred(result):
            self._record(started, _NO_OUTCOME)
            refuse_deferred(result)
        self._record(started, None)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` if the limit allows another call.

        Raises:
            LimitReachedError: it does not.
        """
        started = self._admit()
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            self._record(started, error)
            raise
        self._record(started, None)
        return result

    def snapshot(self) -> dict[str, object]:
        """The limit now, and the calls that run."""
        return {
            **super().snapshot(),
            "algorithm": self.algorithm,
            "limit": self.limit,
            "in_flight": self._in_flight,
        }

    def __repr__(self) -> str:
        return f"AdaptiveLimit({self.algorithm!r}, {self._in_flight} of {self.limit})"

    def _admit(self) -> float:
        """Count one more running call; its start time.

        Raises:
            LimitReachedError: the limit is reached.
        """
        with self._lock:
            if self._in_flight < self.limit:
                self._in_flight += 1
                return self._clock()
        raise self._notify_rejection(LimitReachedError(self.name, self.limit))

    def _record(self, started: float, error: BaseException | None) -> None:
        """Count one running call less, and learn from how it ended."""
        dropped = isinstance(error, self._dropped_on)
        with self._lock:
            in_flight, before = self._in_flight, self.limit
            self._in_flight -= 1
            if error is None or dropped:
                self._estimate.learn(self._clock() - started, in_flight, dropped)
            after = self.limit
        if after != before and self._subscribers:
            self._notify(LimitChanged(self.kind, self.name, before, after))


def _validate(algorithm: str, min_limit: int, initial: int, max_limit: int) -> None:
    if algorithm not in ALGORITHMS:
        raise InvalidValueError("algorithm", algorithm, f"one of {', '.join(ALGORITHMS)}")
    if not 1 <= min_limit <= initial <= max_limit <= 100_000:
        rule = "in the order 1 <= min_limit <= initial <= max_limit <= 100000"
        raise InvalidValueError("limits", (min_limit, initial, max_limit), rule)
