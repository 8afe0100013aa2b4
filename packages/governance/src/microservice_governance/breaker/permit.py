"""Permission to make one call through a circuit breaker, for code that makes the call itself."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from .states import Phase

__all__ = ("Permit", "TrialPermit")

Settle = Callable[[Phase, BaseException | None, float, float | None], None]
"""Counts an outcome: phase that admitted the call, error, start time, duration if it is known."""


class Permit:
    """Permission to make one call; `release` it with the outcome of the call.

    Also a context manager. A second release does nothing. A permit that is garbage-collected before
    its release, or released with a cancellation, counts as no outcome; a trial call's permit is
    then free for another call.
    """

    __slots__ = ("_phase", "_settle", "_started")

    def __init__(
        self,
        settle: Settle,
        phase: Phase,
        started: float,
    ) -> None:
        self._settle = settle
        self._phase: Phase | None = phase
        self._started = started

    def release(self, error: BaseException | None = None, *, duration: float | None = None) -> None:
        """Report the outcome of the call.

        Args:
            error: why the call failed; None if it succeeded. A `BaseException` that is not an
                `Exception`, a `RejectedError` and what the config ignores count as no outcome.
            duration: seconds the call took; by default the time since the permit was acquired.
        """
        phase, self._phase = self._phase, None
        if phase is not None:
            self._settle(phase, error, self._started, duration)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release(exc)


class TrialPermit(Permit):
    """A permit of a half-open circuit, which has only a few: one that is lost is returned."""

    __slots__ = ()

    def __del__(self) -> None:
        phase, self._phase = self._phase, None
        if phase is not None:
            # The garbage collector may run this while this thread holds the breaker's lock and
            # is in the middle of a change. So nothing happens here but one counter going up.
            phase.return_permit()
