"""Outcome report: tells balancers, breakers and outlier detection how each attempt ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from types import CoroutineType
from typing import ParamSpec, TypeVar

from microservice_core import Endpoint, OutcomeObserver
from microservice_governance.errors import DeadlineExceededError, RejectedError
from microservice_governance.policy import Policy, refuse_coroutine

__all__ = ("OutcomeReport",)

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)


class OutcomeReport(Policy):
    """Tells every observer of each attempt that reached its endpoint.

    A balancer's outlier stage and `KeyedCircuitBreakers` are such observers. What was refused or
    cancelled reached nobody and is not told. One that raises is logged and harms nobody.

    Args:
        observers: who is told.
        endpoint: whom the calls go to, or a function of their arguments that says so.
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
        """Call `fn` and tell how it ended.

        Raises:
            TypeError: `fn` is a coroutine function, which `arun` takes.
        """
        endpoint, began = self._whom(*args, **kwargs), self._clock()
        try:
            result = fn(*args, **kwargs)
        except Exception as error:
            self._tell(endpoint, began, error)
            raise
        if isinstance(result, CoroutineType):
            refuse_coroutine(result)
        self._tell(endpoint, began, None)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` and tell how it ended."""
        endpoint, began = self._whom(*args, **kwargs), self._clock()
        try:
            result = await fn(*args, **kwargs)
        except Exception as error:
            self._tell(endpoint, began, error)
            raise
        self._tell(endpoint, began, None)
        return result

    def _whom(self, *args: object, **kwargs: object) -> Endpoint:
        return self._endpoint(*args, **kwargs) if callable(self._endpoint) else self._endpoint

    def _tell(self, endpoint: Endpoint, began: float, error: Exception | None) -> None:
        if isinstance(error, RejectedError | DeadlineExceededError):
            return
        took = self._clock() - began
        for observer in self._observers:
            try:
                observer.on_outcome(endpoint, took, error)
            except Exception:  # noqa: BLE001 - whatever an observer does, the call goes on
                _log.exception("an observer of %r failed", self.name)
