"""Load shedding: when there is too much to do, what matters least is refused first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar, Token
from enum import StrEnum
from types import CoroutineType, TracebackType
from typing import ParamSpec, Self, TypeVar

from microservice_core import InvalidValueError
from microservice_governance.errors import LoadShedError
from microservice_governance.policy import Policy, refuse_coroutine

__all__ = ("LoadShedding", "Priority", "priority")

P = ParamSpec("P")
R = TypeVar("R")


class Priority(StrEnum):
    """How much a call matters."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


_current: ContextVar[Priority] = ContextVar("microservice_priority", default=Priority.NORMAL)

_THRESHOLDS: Mapping[Priority, float] = {
    Priority.HIGH: 0.95,
    Priority.NORMAL: 0.85,
    Priority.LOW: 0.6,
}


class priority:  # noqa: N801 - reads as a statement: `with priority("low"):`
    """Every call in the block has this priority; tasks inherit it.

    Raises:
        InvalidValueError: there is no such priority.
    """

    def __init__(self, value: Priority | str) -> None:
        self._value = _known(value)
        self._tokens: list[Token[Priority]] = []

    @staticmethod
    def current() -> Priority:
        """The priority in force; `normal` if nobody said otherwise."""
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
        load: how much there is to do, 1 being all that can be done: `lambda: bulkhead.load`, the
            load of an `AdaptiveLimit`, or any other measure.
        thresholds: from which load on a priority is refused; one that is not named, as `critical`
            by default, never is.
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
        self._thresholds = _checked(_THRESHOLDS if thresholds is None else thresholds)

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` unless its priority is too low now.

        Raises:
            LoadShedError: it is; nothing was called.
            TypeError: `fn` is a coroutine function, which `arun` takes.
        """
        self._check()
        result = fn(*args, **kwargs)
        if isinstance(result, CoroutineType):
            refuse_coroutine(result)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` unless its priority is too low now.

        Raises:
            LoadShedError: it is; nothing was called.
        """
        self._check()
        return await fn(*args, **kwargs)

    def snapshot(self) -> dict[str, object]:
        """The load, and which priorities are refused at it."""
        load = self._load()
        refused = [one.value for one, limit in self._thresholds.items() if load >= limit]
        return {**super().snapshot(), "load": load, "refused": refused}

    def _check(self) -> None:
        mine = _current.get()
        threshold = self._thresholds.get(mine)
        if threshold is not None and (load := self._load()) >= threshold:
            raise self._rejected(LoadShedError(self.name, mine.value, load))


def _checked(
    thresholds: Mapping[Priority | str, float] | Mapping[Priority, float],
) -> dict[Priority, float]:
    known = {_known(name): limit for name, limit in thresholds.items()}
    order = [known[one] for one in Priority if one in known]
    if not all(limit > 0 for limit in order):
        raise InvalidValueError("thresholds", dict(thresholds), "above 0")
    if order != sorted(order, reverse=True):
        rule = "such that a lower priority has no higher threshold"
        raise InvalidValueError("thresholds", dict(thresholds), rule)
    return known


def _known(value: Priority | str) -> Priority:
    try:
        return Priority(value)
    except ValueError:
        raise InvalidValueError("priority", value, f"one of {', '.join(Priority)}") from None
