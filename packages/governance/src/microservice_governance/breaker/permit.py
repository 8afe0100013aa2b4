"""Leave to make one call through a circuit breaker, for those who make it themselves."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from .states import Phase

if TYPE_CHECKING:
    from .circuit_breaker import CircuitBreaker

__all__ = ("Permit", "TrialPermit")


class Permit:
    """Leave to make one call; `release` it with what became of the call.

    Also a context manager. Released once; a second time does nothing. One that is dropped, or ended
    by a cancellation, counts as no outcome and gives its place back.
    """

    __slots__ = ("_breaker", "_phase", "_started")

    def __init__(self, breaker: CircuitBreaker, phase: Phase, started: float) -> None:
        self._breaker = breaker
        self._phase: Phase | None = phase
        self._started = started

    def release(self, error: BaseException | None = None, *, duration: float | None = None) -> None:
        """Report the outcome.

        Args:
            error: why the call failed, None if it did not. A `BaseException` that is no
                `Exception`, a `RejectedError` and what the config ignores count as no outcome.
            duration: seconds the call took; by default since the permit was given.
        """
        phase, self._phase = self._phase, None
        if phase is None:
            return
        breaker = self._breaker
        if error is None and duration is None and phase is breaker._quick:  # noqa: SLF001
            breaker._went_well(phase, self._started)  # noqa: SLF001
        else:
            breaker._settle(phase, error, self._started, duration)  # noqa: SLF001 - its half

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
    """A permit of which there are only a few; one that is lost comes back."""

    __slots__ = ()

    def __del__(self) -> None:
        phase, self._phase = self._phase, None
        if phase is not None:
            # The collector may run inside the breaker's own lock: nothing but a counter moves.
            phase.give_back()
