"""The deadline of the current call: one point in time that everything inside the call respects."""

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

__all__ = ("current_deadline", "deadline")

current_deadline: ContextVar[float | None] = ContextVar("microservice_deadline", default=None)
"""The point in time, on the monotonic clock; None if there is no deadline."""


class deadline:  # noqa: N801 - reads as a statement: `with deadline(2.0):`
    """Gives the block `seconds` from now; an outer deadline that is earlier still applies.

    It interrupts nothing by itself: policies read it and stop in time. It belongs to the context:
    tasks inherit it, and a thread does if it runs in a copy of the context.

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
        """The current deadline, on the monotonic clock; None if there is none."""
        return current_deadline.get()

    @staticmethod
    def remaining(clock: Callable[[], float] = time.monotonic) -> float | None:
        """Seconds until the deadline, negative after it; None if there is no deadline."""
        ends_at = current_deadline.get()
        return None if ends_at is None else ends_at - clock()

    @staticmethod
    def check(clock: Callable[[], float] = time.monotonic) -> None:
        """Raise if the deadline has passed.

        Raises:
            DeadlineExceededError: the deadline has passed.
        """
        ends_at = current_deadline.get()
        if ends_at is not None and clock() >= ends_at:
            raise DeadlineExceededError(
                "the deadline has passed; give the whole call more time or do less in it"
            )

    @staticmethod
    def headers(clock: Callable[[], float] = time.monotonic) -> dict[str, str]:
        """Headers for an outgoing request: `{"grpc-timeout": "1500000u"}`; empty without a deadline."""
        remaining = deadline.remaining(clock)
        return {} if remaining is None else {HEADER: format_timeout(remaining)}

    @classmethod
    def from_headers(
        cls,
        headers: Mapping[str, str],
        *,
        max_seconds: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> deadline:
        """The deadline that a caller sent: `with deadline.from_headers(request.headers):`.

        Args:
            headers: of the request; `grpc-timeout` is found in any case of its letters.
            max_seconds: upper bound, also if the caller sent no deadline.

        Raises:
            InvalidValueError: the value of the header cannot be parsed.
        """
        text = headers.get(HEADER)
        if text is None:
            text = next((value for name, value in headers.items() if name.lower() == HEADER), None)
        seconds = max_seconds if text is None else min(max_seconds, parse_timeout(text))
        return cls(seconds, clock=clock)

    def __enter__(self) -> Self:
        ends_at = self._clock() + self._seconds
        outer = current_deadline.get()
        if outer is not None and outer < ends_at:
            ends_at = outer
        # An infinite deadline is none: nothing below has to compare with it or send it.
        self._tokens.append(current_deadline.set(None if ends_at == float("inf") else ends_at))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        current_deadline.reset(self._tokens.pop())
