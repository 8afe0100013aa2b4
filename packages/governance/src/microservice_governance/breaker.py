"""Circuit breaker: stops calling what keeps failing, and finds out with few calls when it is back.

Built on pybreaker: a `CircuitBreaker` is one of pybreaker's, its listeners, its `state` objects,
its `current_state` strings and `except pybreaker.CircuitBreakerError` work. The engine is another:
permit, call, record. No lock is held over a call, and no path of pybreaker's own is reachable.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import contextmanager
from datetime import UTC, datetime
from types import CoroutineType, TracebackType
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

import pybreaker

from .breaker_config import BreakerConfig, BreakerState
from .errors import DeadlineExceededError, IllegalTransitionError, RejectedError
from .phases import Closed, Disabled, ForcedOpen, HalfOpen, MetricsOnly, Open, Phase
from .policy import Policy, refuse_coroutine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

__all__ = ("CircuitBreaker", "Permit")

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)

_PybreakerState = (
    pybreaker.CircuitClosedState | pybreaker.CircuitHalfOpenState | pybreaker.CircuitOpenState
)

# As Resilience4j has it (CircuitBreaker.StateTransition): all others are legal.
_ILLEGAL = {
    (BreakerState.CLOSED, BreakerState.HALF_OPEN),
    (BreakerState.METRICS_ONLY, BreakerState.OPEN),
    (BreakerState.METRICS_ONLY, BreakerState.HALF_OPEN),
}

# What pybreaker calls the states it does not know.
_AS_PYBREAKER = {
    BreakerState.CLOSED: pybreaker.CircuitClosedState,
    BreakerState.OPEN: pybreaker.CircuitOpenState,
    BreakerState.HALF_OPEN: pybreaker.CircuitHalfOpenState,
    BreakerState.FORCED_OPEN: pybreaker.CircuitOpenState,
    BreakerState.DISABLED: pybreaker.CircuitClosedState,
    BreakerState.METRICS_ONLY: pybreaker.CircuitClosedState,
}


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
        if phase is not None:
            self._breaker._settle(phase, error, self._started, duration)  # noqa: SLF001 - its half

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release(exc)

    def __del__(self) -> None:
        phase, self._phase = self._phase, None
        if phase is not None:
            # The collector may run inside the breaker's own lock: nothing but a counter moves.
            phase.give_back()


class CircuitBreaker(Policy, pybreaker.CircuitBreaker):  # type: ignore[misc] # one decorator
    """Opens when calls fail or are slow too often; half-open lets only a few trials through.

    Works in threads and in tasks. `run`, `arun` and the decorator guard a function; `acquire` gives
    a `Permit` to those who make the call themselves.

    Args:
        config: when to open and for how long.
        clock: monotonic seconds.
        listeners: pybreaker listeners; told after the fact, in order, and one that raises is
            logged and harms nobody.
    """

    kind = "circuit_breaker"

    def __init__(
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        listeners: Sequence[pybreaker.CircuitBreakerListener] = (),
    ) -> None:
        self.config = config or BreakerConfig()
        self.clock = clock
        self._guard = threading.RLock()
        self._events: deque[Callable[[pybreaker.CircuitBreakerListener], None]] = deque()
        self._telling = threading.Lock()
        self._phase: Phase = Closed(name, self.config, clock())
        super().__init__(
            fail_max=self.config.consecutive_failures or self.config.minimum_calls,
            reset_timeout=self.config.open_seconds,
            success_threshold=self.config.permitted_half_open_calls,
            listeners=listeners,
            name=name,
        )

    @property
    def current_state(self) -> BreakerState:
        """Where the breaker stands; an open one turns half-open with the next call it lets in."""
        return self._phase.state

    @property  # type: ignore[misc] # only transition_to moves it
    def state(self) -> _PybreakerState:
        """Pybreaker's object for the state; those it does not know look open or closed to it."""
        return self._state

    @property
    def fail_counter(self) -> int:
        """Failures in a row, while calls are counted."""
        return getattr(self._phase, "consecutive", 0)

    @property
    def retry_after(self) -> float | None:
        """Seconds until an open circuit lets a trial in; 0 if calls pass, None if never."""
        phase = self._phase
        if isinstance(phase, Open):
            return max(0.0, phase.until - self.clock())
        return None if isinstance(phase, ForcedOpen) else 0.0

    def acquire(self) -> Permit:
        """Ask leave to make one call.

        Raises:
            CircuitOpenError: the circuit is open, or every trial call is taken.
        """
        phase = self._phase
        if not phase.admits_all:
            phase = self._admit()
        return Permit(self, phase, self.clock())

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn`.

        Raises:
            CircuitOpenError: it was not called.
            TypeError: `fn` is a coroutine function, which `arun` takes.
        """
        phase = self._phase
        if not phase.admits_all:
            phase = self._admit()
        if self._listeners:
            self._announce(fn, *args, **kwargs)
        started = self.clock()
        try:
            result = fn(*args, **kwargs)
            if isinstance(result, CoroutineType):
                refuse_coroutine(result)
        except BaseException as error:
            self._settle(phase, error, started)
            raise
        self._settle_result(phase, result, started)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn`.

        Raises:
            CircuitOpenError: it was not called.
        """
        phase = self._phase
        if not phase.admits_all:
            phase = self._admit()
        if self._listeners:
            self._announce(fn, *args, **kwargs)
        started = self.clock()
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            self._settle(phase, error, started)
            raise
        self._settle_result(phase, result, started)
        return result

    call = run  # type: ignore[assignment] # pybreaker's name, typed better
    call_async = arun  # type: ignore[assignment]

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Guard the block."""
        with self.acquire():
            yield

    def transition_to(self, state: BreakerState | str) -> None:
        """Move the breaker by hand; into the state it is in: start that anew.

        Raises:
            IllegalTransitionError: Resilience4j does not allow this step either.
            ValueError: there is no such state.
        """
        new = BreakerState(state)
        with self._guard:
            if (self._phase.state, new) in _ILLEGAL:
                raise IllegalTransitionError(str(self.name), self._phase.state, new)
            self._enter(self._make(new, openings=max(1, self._phase.openings)))
        self._tell()

    def open(self) -> bool:
        """Open the circuit, as pybreaker does; it is `transition_to("open")`."""
        self.transition_to(BreakerState.OPEN)
        return True

    def half_open(self) -> None:
        """Let a few trials through; it is `transition_to("half-open")`."""
        self.transition_to(BreakerState.HALF_OPEN)

    def close(self) -> None:
        """Close the circuit; it is `transition_to("closed")`."""
        self.transition_to(BreakerState.CLOSED)

    def __repr__(self) -> str:
        return f"CircuitBreaker({self.name!r}, {self._phase.state.value})"

    def _admit(self) -> Phase:
        with self._guard:
            before = self._phase
            phase = before.admit(self.clock())
            if phase is not before:
                self._enter(phase)
                phase = phase.admit(self.clock())
        self._tell()
        return phase

    def _settle_result(self, phase: Phase, result: object, started: float) -> None:
        judge = self.config.record_result
        failed = judge is not None and judge(result)
        self._record(phase, failed, self.clock() - started)
        if self._listeners:
            self._report(None if not failed else ValueError(f"returned {result!r}"))

    def _settle(
        self,
        phase: Phase,
        error: BaseException | None,
        started: float,
        duration: float | None = None,
    ) -> None:
        if error is not None and self._is_neutral(error):
            with self._guard:
                phase.give_back()
            return
        failed = error is not None and isinstance(error, self.config.record_exceptions)
        took = self.clock() - started if duration is None else duration
        self._record(phase, failed, took)
        if self._listeners:
            self._report(error if failed else None)

    def _is_neutral(self, error: BaseException) -> bool:
        return (
            not isinstance(error, Exception)
            or isinstance(
                error, (RejectedError, DeadlineExceededError, *self.config.ignore_exceptions)
            )
            or not self.is_system_error(error)
        )

    def _record(self, phase: Phase, failed: bool, duration: float) -> None:
        with self._guard:
            if phase is not self._phase:
                return
            now = self.clock()
            following = phase.record(failed, duration, now)
            if following is not None:
                openings = phase.openings + 1 if following is BreakerState.OPEN else 0
                self._enter(self._make(following, openings))
        if self._events:
            self._tell()

    def _make(self, state: BreakerState, openings: int) -> Phase:
        name, config, now = str(self.name), self.config, self.clock()
        match state:
            case BreakerState.CLOSED:
                return Closed(name, config, now)
            case BreakerState.OPEN:
                return Open(name, config, openings, now)
            case BreakerState.HALF_OPEN:
                return HalfOpen(name, config, openings, now)
            case BreakerState.FORCED_OPEN:
                return ForcedOpen(name, config, openings)
            case BreakerState.DISABLED:
                return Disabled(name, config)
            case BreakerState.METRICS_ONLY:
                return MetricsOnly(name, config, now)

    def _enter(self, phase: Phase) -> None:
        """Change over, with the guard held; listeners hear of it when it is let go."""
        old_state = self._state
        self._phase = phase
        if phase.state is BreakerState.OPEN:
            self._state_storage.opened_at = datetime.now(UTC)
        kind = _AS_PYBREAKER[phase.state]
        new_state = kind(self, prev_state=old_state, notify=False)
        self._state_storage.state = new_state.name
        self._state = new_state
        self._events.append(lambda listener: listener.state_change(self, old_state, new_state))

    def _announce(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        self._events.append(lambda listener: listener.before_call(self, fn, *args, **kwargs))
        self._tell()

    def _report(self, error: BaseException | None) -> None:
        if error is None:
            self._events.append(lambda listener: listener.success(self))
        else:
            self._events.append(lambda listener: listener.failure(self, error))
        self._tell()

    def _tell(self) -> None:
        # Whoever holds the lock tells for all; the loop catches what came while it let go.
        while self._events and self._telling.acquire(blocking=False):
            try:
                while self._events:
                    self._tell_one(self._events.popleft())
            finally:
                self._telling.release()

    def _tell_one(self, event: Callable[[pybreaker.CircuitBreakerListener], None]) -> None:
        for listener in self.listeners:
            try:
                event(listener)
            except Exception:  # noqa: BLE001 - whatever a listener does, the others hear
                _log.exception("a listener of circuit %r failed", self.name)
