"""Circuit breaker: stops calling what keeps failing, and finds out with few calls when it is back.

Built on pybreaker: a `CircuitBreaker` is one of pybreaker's, its listeners, its `state` objects,
its `current_state` strings and `except pybreaker.CircuitBreakerError` work. The engine is another:
permit, call, record. No lock is held over a call, and no path of pybreaker's own is reachable.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from types import CoroutineType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pybreaker

from microservice_governance.errors import (
    CircuitOpenError,
    DeadlineExceededError,
    IllegalTransitionError,
    RejectedError,
)
from microservice_governance.events import StateChanged
from microservice_governance.policy import Policy, called_in_vain, refuse_coroutine

from .config import BreakerConfig, BreakerState
from .permit import Permit, TrialPermit
from .states import Closed, Disabled, ForcedOpen, HalfOpen, MetricsOnly, Open, Phase

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


class CircuitBreaker(Policy, pybreaker.CircuitBreaker):  # type: ignore[misc] # one decorator
    """Opens when calls fail or are slow too often; half-open lets only a few trials through.

    Works in threads and in tasks. `run`, `arun` and the decorator guard a function; `acquire` gives
    a `Permit` to those who make the call themselves.

    Args:
        config: when to open and for how long.
        clock: monotonic seconds.
        listeners: pybreaker listeners; told after the fact, in order, and one that raises is
            logged and harms nobody.
        state_storage: one of pybreaker's; says in which state to begin, and is told of each
            change. Nothing is read from it later: see `RedisBreakerSharing` for sharing.
    """

    kind = "circuit_breaker"

    def __init__(
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        listeners: Sequence[pybreaker.CircuitBreakerListener] = (),
        state_storage: pybreaker.CircuitBreakerStorage | None = None,
    ) -> None:
        self.config = config or BreakerConfig()
        self.clock = clock
        self._guard = threading.RLock()
        self._events: list[Callable[[], None]] = []
        self._telling = threading.Lock()
        self._quick: Phase | None = None
        self._phase: Phase = Closed(name, self.config, clock())
        super().__init__(
            fail_max=self.config.consecutive_failures or self.config.minimum_calls,
            reset_timeout=self.config.open_seconds,
            success_threshold=self.config.permitted_half_open_calls,
            listeners=listeners,
            name=name,
            state_storage=state_storage,
        )
        if state_storage is not None:
            self._phase = self._make(BreakerState(state_storage.state), openings=1)
        self._choose_way()

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
        with self._guard:
            phase = self._phase
            return phase.consecutive if isinstance(phase, MetricsOnly) else 0

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
            return TrialPermit(self, self._admit(), self.clock())
        return Permit(self, phase, self.clock() if phase.timed else 0.0)

    def note(self, error: BaseException | None = None, *, duration: float = 0.0) -> None:
        """Count the outcome of a call that was made without a permit.

        For those who only watch calls. In half-open such an outcome counts as one of the trials.

        Args:
            error: why the call failed, None if it did not.
            duration: seconds it took.
        """
        phase = self._phase
        if phase.admits_all:
            self._settle(phase, error, 0.0, duration)
            return
        try:
            self.acquire().release(error, duration=duration)
        except CircuitOpenError:
            return  # it was over for this time, whatever became of the call

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn`.

        Raises:
            CircuitOpenError: it was not called.
            TypeError: `fn` is a coroutine function, which `arun` takes.
        """
        phase = self._quick
        if phase is None:
            phase = self._begin(fn, *args, **kwargs)
        started = self.clock() if phase.timed else 0.0
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self._raised(phase, error, started)
            raise
        if phase is not self._quick or isinstance(result, CoroutineType):
            self._settle_result(phase, result, started)
        else:
            self._went_well(phase, started)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn`.

        Raises:
            CircuitOpenError: it was not called.
        """
        phase = self._quick
        if phase is None:
            phase = self._begin(fn, *args, **kwargs)
        started = self.clock() if phase.timed else 0.0
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            self._raised(phase, error, started)
            raise
        if phase is self._quick:
            self._went_well(phase, started)
        else:
            self._settle_result(phase, result, started)
        return result

    def guard_sync(self, fn: Callable[P, R]) -> Callable[P, R]:
        """`fn` under the breaker, with the ways of a success and of a refusal written out."""
        clock = self.clock

        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            phase = self._quick
            if phase is None:
                phase = self._phase if self._phase.admits_all else self._admit()
                if self.listeners:
                    self._announce(fn, *args, **kwargs)
            started = clock() if phase.timed else 0.0
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                self._raised(phase, error, started)
                raise
            if phase is not self._quick or isinstance(result, CoroutineType):
                self._settle_result(phase, result, started)
            else:
                self._went_well(phase, started)
            return result

        return guarded

    def guard_async(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """`fn` under the breaker, with the way of a success written out."""
        clock = self.clock

        @functools.wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            phase = self._quick
            if phase is None:
                return await self.arun(fn, *args, **kwargs)
            started = clock() if phase.timed else 0.0
            try:
                result = await fn(*args, **kwargs)
            except BaseException as error:
                self._raised(phase, error, started)
                raise
            if not phase.timed or (
                (now := clock()) < phase.turns_at and now - started < phase.slow_after
            ):
                phase.good()
            else:
                self._record(phase, False, now - started)
            return result

        return guarded

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

    def reconfigure(self, config: BreakerConfig) -> None:
        """Take other settings in the same state; an open circuit waits no longer than before.

        Windows begin anew, and calls in flight count as no outcome.
        """
        with self._guard:
            old = self._phase
            self.config = config
            self._phase = self._make(old.state, openings=max(1, old.openings))
            if isinstance(old, Open) and isinstance(self._phase, Open):
                self._phase.until = min(old.until, self._phase.until)
            self._choose_way()

    def snapshot(self) -> dict[str, object]:
        """State and counts."""
        with self._guard:
            phase = self._phase
            counts = phase.counts(self.clock())
        return {**super().snapshot(), "state": phase.state.value, **counts}

    def add_listener(self, listener: pybreaker.CircuitBreakerListener) -> None:
        """Have one of pybreaker's listeners told from now on."""
        super().add_listener(listener)
        self._choose_way()

    def add_listeners(self, *listeners: pybreaker.CircuitBreakerListener) -> None:
        """Have several of pybreaker's listeners told from now on."""
        for listener in listeners:
            self.add_listener(listener)

    def remove_listener(self, listener: pybreaker.CircuitBreakerListener) -> None:
        """Tell that listener no more."""
        super().remove_listener(listener)
        self._choose_way()

    def _choose_way(self) -> None:
        """Whether calls may take the quick way: nobody to ask, nobody to tell."""
        plain = self.config.record_result is None and not self.listeners
        self._quick = self._phase if self._phase.admits_all and plain else None

    def _begin(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Phase:
        phase = self._phase
        if not phase.admits_all:
            phase = self._admit()
        if self.listeners:
            self._announce(fn, *args, **kwargs)
        return phase

    def _admit(self) -> Phase:
        phase, now = self._phase, self.clock()
        refusal = phase.refusal(now)
        if refusal is None:
            with self._guard:
                # Two steps at most: into half-open, or into a new stay there, and then in.
                while (refusal := self._phase.refusal(now)) is None:
                    phase = self._phase.admit(now)
                    if phase is self._phase:
                        break
                    self._enter(phase)
            if self._events:
                self._tell()
        if refusal is not None:
            if self._subscribers:
                self._rejected(refusal)
            raise refusal
        return phase

    def _went_well(self, phase: Phase, started: float) -> None:
        if not phase.timed:
            phase.good()
            return
        now = self.clock()
        if now < phase.turns_at and now - started < phase.slow_after:
            phase.good()
        else:
            self._record(phase, False, now - started)

    def _raised(self, phase: Phase, error: BaseException, started: float) -> None:
        if called_in_vain(error):
            self._give_back(phase)
        else:
            self._settle(phase, error, started)

    def _give_back(self, phase: Phase) -> None:
        with self._guard:
            phase.give_back()

    def _settle_result(self, phase: Phase, result: object, started: float) -> None:
        if isinstance(result, CoroutineType):
            self._give_back(phase)
            refuse_coroutine(result)
        judge = self.config.record_result
        failed = judge is not None and bool(judge(result))
        self._record(phase, failed, self.clock() - started)
        if self.listeners:
            self._report(None if not failed else ValueError(f"returned {result!r}"))

    def _settle(
        self,
        phase: Phase,
        error: BaseException | None,
        started: float,
        duration: float | None = None,
    ) -> None:
        if error is not None and self._is_neutral(error):
            self._give_back(phase)
            return
        failed = error is not None and self._is_failure(error)
        took = self.clock() - started if duration is None else duration
        self._record(phase, failed, took)
        if self.listeners:
            self._report(error if failed else None)

    def _is_failure(self, error: BaseException) -> bool:
        judge = self.config.record_exception
        return isinstance(error, self.config.record_exceptions) and (judge is None or judge(error))

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
            following = phase.record(failed, duration, self.clock())
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
        old, old_state = self._phase.state, self._state
        self._phase = phase
        self._choose_way()
        new_state = _AS_PYBREAKER[phase.state](self, prev_state=old_state, notify=False)
        self._state = new_state
        opened_at = datetime.now(UTC) if phase.state is BreakerState.OPEN else None
        self._events.append(lambda: self._store(new_state.name, opened_at))
        self._add_event(lambda listener: listener.state_change(self, old_state, new_state))
        if self._subscribers:
            event = StateChanged(self.kind, str(self.name), old.value, phase.state.value)
            self._events.append(lambda: self._emit(event))

    def _store(self, state: str, opened_at: datetime | None) -> None:
        """Let pybreaker's storage know; what it does with that is its own affair."""
        try:
            self._state_storage.state = state
            if opened_at is not None:
                self._state_storage.opened_at = opened_at
        except Exception:  # noqa: BLE001 - the circuit works without it
            _log.exception("the storage of circuit %r failed", self.name)

    def _announce(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        self._add_event(lambda listener: listener.before_call(self, fn, *args, **kwargs))
        self._tell()

    def _report(self, error: BaseException | None) -> None:
        if error is None:
            self._add_event(lambda listener: listener.success(self))
        else:
            self._add_event(lambda listener: listener.failure(self, error))
        self._tell()

    def _add_event(self, event: Callable[[pybreaker.CircuitBreakerListener], None]) -> None:
        if self.listeners:
            self._events.append(lambda: self._tell_listeners(event))

    def _tell(self) -> None:
        # Whoever holds the lock tells for all; the loop catches what came while it let go.
        while self._events and self._telling.acquire(blocking=False):
            try:
                while self._events:
                    self._events.pop(0)()
            finally:
                self._telling.release()

    def _tell_listeners(self, event: Callable[[pybreaker.CircuitBreakerListener], None]) -> None:
        for listener in self.listeners:
            try:
                event(listener)
            except Exception:  # noqa: BLE001 - whatever a listener does, the others hear
                _log.exception("a listener of circuit %r failed", self.name)
