"""Load shedding: refuses the least important calls first when the load is too high."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar, Token
from enum import StrEnum
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from microservice_core import InvalidValueError
from microservice_governance.deferred_results import FINAL_TYPES, refuse_deferred
from microservice_governance.errors import LoadShedError
from microservice_governance.policy import Policy

__all__ = ("LoadShedding", "Priority", "priority")

P = ParamSpec("P")
R = TypeVar("R")


class Priority(StrEnum):
    """The importance of a call."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


_current: ContextVar[Priority] = ContextVar("microservice_priority", default=Priority.NORMAL)

_DEFAULT_THRESHOLDS: Mapping[Priority, float] = {
    Priority.HIGH: 0.95,
    Priority.NORMAL: 0.85,
    Priority.LOW: 0.6,
}


class priority:  # noqa: N801 - reads as a statement: `with priority("low"):`
    """Gives every call in the block a priority; tasks that are started there inherit it.

    Raises:
        InvalidValueError: there is no such priority.
    """

    def __init__(self, value: Priority | str) -> None:
        self._value = _parse_priority(value)
        self._tokens: list[Token[Priority]] = []

    @staticmethod
    def current() -> Priority:
        """The current priority; `normal` by default."""
        return _current.get()

    def __enter__(self) -> Self:
        self._tokens.append(_current.set(self._value))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        _current.reset(self._tokens.pop())


class LoadShedding(Policy):
    """Refuses a call when the load has reached the threshold of its priority.

    Args:
        load: returns the load, 1 being full load: `lambda: bulkhead.load`, the load of an
            `AdaptiveLimit`, or any other measure.
        thresholds: load from which calls of a priority are refused. A priority that is not named
            (by default `critical`) is never refused.
        name: for messages and events.

    Raises:
        InvalidValueError: a threshold is not above 0, or a lower priority has a higher one.
    """

    kind = "load_shedding"

    def __init__(
        self,
        load: Callable[[], float],
        *,
        thresholds: Mapping[Priority | str, float] | None = None,
        name: str = "load shedding",
    ) -> None:
        self.name = name
        self._load = load
        self._thresholds = _validate(_DEFAULT_THRESHOLDS if thresholds is None else thresholds)

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` unless the load is too high for the current priority.

        Raises:
            LoadShedError: it is.
            TypeError: the result of `fn` is to be awaited or iterated; use `arun`.
        """
        self._refuse_if_overloaded()
        result = fn(*args, **kwargs)
        if type(result) not in FINAL_TYPES:
            refuse_deferred(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` unless the load is too high for the current priority.

        Raises:
            LoadShedError: it is.
        """
        self._refuse_if_overloaded()
        return await fn(*args, **kwargs)

    def snapshot(self) -> dict[str, object]:
        """The load, and the priorities that are refused at it."""
        load = self._load()
        refused = [
            level.value for level, threshold in self._thresholds.items() if load >= threshold
        ]
        return {**super().snapshot(), "load": load, "refused": refused}

    def _refuse_if_overloaded(self) -> None:
        level = _current.get()
        threshold = self._thresholds.get(level)
        if threshold is not None and (load := self._load()) >= threshold:
            raise self._notify_rejection(LoadShedError(self.name, level.value, load))


def _validate(
    thresholds: Mapping[Priority | str, float] | Mapping[Priority, float],
) -> dict[Priority, float]:
    by_level = {_parse_priority(name): threshold for name, threshold in thresholds.items()}
    descending = [by_level[level] for level in Priority if level in by_level]
    if not all(threshold > 0 for threshold in descending):
        raise InvalidValueError("thresholds", dict(thresholds), "above 0")
    if descending != sorted(descending, reverse=True):
        rule = "no higher for a lower priority"
        raise InvalidValueError("thresholds", dict(thresholds), rule)
    return by_level


def _parse_priority(value: Priority | str) -> Priority:
    try:
        return Priority(value)
    except ValueError:
        raise InvalidValueError("priority", value, f"one of {', '.join(Priority)}") from None
