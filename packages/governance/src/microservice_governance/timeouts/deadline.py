"""The deadline of the call in progress: one absolute time that everything below it respects."""

from __future__ import annotations

import time
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Self

from microservice_core import InvalidValueError
from microservice_governance.errors import DeadlineExceededError

from .grpc_timeout import HEADER, format_timeout, parse_timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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

    HEADER = HEADER
    """The header that carries a deadline from service to service."""

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

    @staticmethod
    def headers(clock: Callable[[], float] = time.monotonic) -> dict[str, str]:
        """What to send along: `{"grpc-timeout": "1500000u"}`; empty if there is no deadline."""
        left = deadline.remaining(clock)
        return {} if left is None else {HEADER: format_timeout(left)}

    @classmethod
    def from_headers(
        cls,
        headers: Mapping[str, str],
        *,
        max_seconds: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> deadline:
        """The deadline a caller sent: `with deadline.from_headers(request.headers):`.

        Args:
            headers: of the request; looked up as `grpc-timeout`, or in any case of its letters.
            max_seconds: never more than that, also when the caller sent nothing.

        Raises:
            InvalidValueError: the header's value is of no known form.
        """
        text = headers.get(HEADER)
        if text is None:
            text = next((value for name, value in headers.items() if name.lower() == HEADER), None)
        seconds = max_seconds if text is None else min(max_seconds, parse_timeout(text))
        return cls(seconds, clock=clock)

    def __enter__(self) -> Self:
        at = self._clock() + self._seconds
        outer = _current.get()
        if outer is not None and outer < at:
            at = outer
        # No limit at all leaves no trace: an infinite deadline is none.
        self._tokens.append(_current.set(None if at == float("inf") else at))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        _current.reset(self._tokens.pop())
