"""Outcome report: reports each attempt's outcome to balancers, breakers and outlier detection."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import ParamSpec, TypeVar

from microservice_core import Endpoint, OutcomeObserver
from microservice_governance.deferred_results import FINAL_TYPES, refuse_deferred
from microservice_governance.errors import DeadlineExceededError, RejectedError
from microservice_governance.policy import Policy

__all__ = ("OutcomeReport",)

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)


class OutcomeReport(Policy):
    """Reports every attempt that reached its endpoint to all observers.

    A balancer's outlier stage and `KeyedCircuitBreakers` are such observers. A call that a policy
    refused, or that was cancelled, is not reported. An exception of an observer is logged.

    Args:
        observers: receive the outcomes.
        endpoint: the endpoint of the calls, or a function of a call's arguments that returns it.
        name: for messages.
    """

    kind = "outcome_report"

    def __init__(
        self,
        observers: Sequence[OutcomeObserver],
        *,
        endpoint: Endpoint | Callable[..., Endpoint],
        name: str = "outcome report",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._observers = tuple(observers)
        self._endpoint = endpoint
        self._clock = clock

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` and report the outcome.

        Raises:
            TypeError: the result of `fn` is to be awaited or iterated; use `arun`.
        """
        endpoint, started = self._endpoint_for(*args, **kwargs), self._clock()
        try:
            result = fn(*args, **kwargs)
        except Exception as error:
            self._notify_observers(endpoint, started, error)
            raise
        if type(result) not in FINAL_TYPES:
            refuse_deferred(result)
        self._notify_observers(endpoint, started, None)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` and report the outcome."""
        endpoint, started = self._endpoint_for(*args, **kwargs), self._clock()
        try:
            result = await fn(*args, **kwargs)
        except Exception as error:
            self._notify_observers(endpoint, started, error)
            raise
        self._notify_observers(endpoint, started, None)
        return result

    def _endpoint_for(self, *args: object, **kwargs: object) -> Endpoint:
        return self._endpoint(*args, **kwargs) if callable(self._endpoint) else self._endpoint

    def _notify_observers(
        self, endpoint: Endpoint, started: float, error: Exception | None
    ) -> None:
        if isinstance(error, RejectedError | DeadlineExceededError):
            return
        duration = self._clock() - started
        for observer in self._observers:
            try:
                observer.on_outcome(endpoint, duration, error)
            except Exception:
                logger.exception("an observer of %r failed", self.name)
