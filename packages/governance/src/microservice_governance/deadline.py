"""The deadline of the call in progress: one absolute time that everything below it respects."""

from __future__ import annotations

import time
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Self

from microservice_core import InvalidValueError

from .errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ("deadline",)

_current: ContextVar[float | None] = ContextVar("microservice_deadline", default=None)


class deadline:  # noqa: N801 - reads as a statement: `with deadline(2.0):`
    """Everything in the block shares `seconds` from now; an earlier outer deadline stays.

    It stops nothing by itself: policies read it and stop in time. It follows the context, so tasks
    inherit it; a thread does if it is given a copy of the context.

    Raises:
        InvalidValueError: `seconds` is not a number of at least 0.
    """

    __slots__ = ("_clock", "_seconds", "_tokens")

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        if not seconds >= 0:
            raise InvalidValueError("seconds", seconds, "a number of at least 0")
        self._seconds = seconds
        self._clock = clock
        self._tokens: list[Token[float | None]] = []

    @staticmethod
    def current() -> float | None:
        """The deadline in force, on the monotonic clock; None if there is none."""
        return _current.get()

    @staticmethod
    def remaining(clock: Callable[[], float] = time.monotonic) -> float | None:
        """Seconds left, negative when it has passed; None if there is no deadline."""
        at = _current.get()
        return None if at is None else at - clock()

    @staticmethod
    def check(clock: Callable[[], float] = time.monotonic) -> None:
        """Refuse to begin what cannot end in time.

        Raises:
            DeadlineExceededError: the deadline has passed.
        """
        at = _current.get()
        if at is not None and clock() >= at:
            raise DeadlineExceededError(
                "the deadline has passed; give the whole call more time or do less in it"
            )

    def __enter__(self) -> Self:
        at = self._clock() + self._seconds
        outer = _current.get()
        self._tokens.append(_current.set(at if outer is None else min(outer, at)))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        _current.reset(self._tokens.pop())
