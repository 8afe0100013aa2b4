"""Circuit breaker: stops calls to a service that keeps failing, and tests with few when to resume.

Built on pybreaker: a `CircuitBreaker` is a `pybreaker.CircuitBreaker`, and pybreaker's listeners,
storages, `state` objects, `current_state` strings and `except pybreaker.CircuitBreakerError` work.
The engine is ours: take a permit, call, record. No lock is held during a call.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pybreaker

from microservice_governance.deferred_results import FINAL_TYPES, is_deferred, refuse_deferred
from microservice_governance.errors import (
    CircuitOpenError,
    DeadlineExceededError,
    IllegalTransitionError,
    RejectedError,
)
from microservice_governance.events import StateChanged
from microservice_governance.policy import Policy, is_usage_error

from .config import BreakerConfig, BreakerState
from .notifications import NotificationQueue
from .permit import Permit, TrialPermit
from .states import Closed, Disabled, ForcedOpen, HalfOpen, MetricsOnly, Open, Phase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

__all__ = ("CircuitBreaker",)

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

_PybreakerState = (
    pybreaker.CircuitClosedState | pybreaker.CircuitHalfOpenState | pybreaker.CircuitOpenState
)

# As in Resilience4j (CircuitBreaker.StateTransition); all other transitions are allowed.
_ILLEGAL_TRANSITIONS = {
    (BreakerState.CLOSED, BreakerState.HALF_OPEN),
    (BreakerState.METRICS_ONLY, BreakerState.OPEN),
    (BreakerState.METRICS_ONLY, BreakerState.HALF_OPEN),
}

# pybreaker has three states. Ours that it does not have appear as the one that treats calls alike.
_PYBREAKER_STATES = {
    BreakerState.CLOSED: pybreaker.CircuitClosedState,
    BreakerState.OPEN: pybreaker.CircuitOpenState,
    BreakerState.HALF_OPEN: pybreaker.CircuitHalfOpenState,
    BreakerState.FORCED_OPEN: pybreaker.CircuitOpenState,
    BreakerState.DISABLED: pybreaker.CircuitClosedState,
    BreakerState.METRICS_ONLY: pybreaker.CircuitClosedState,
}


class CircuitBreaker(Policy, pybreaker.CircuitBreaker):  # type: ignore[misc] # one decorator
    """Opens when too many calls fail or are slow; half-open, it admits only a few trial calls.

    Works in threads and in tasks. `run`, `arun` and the decorator guard a function; `acquire`
    returns a `Permit` for code that makes the call itself.

    Of pybreaker, `listeners` and their three methods, the excluded exceptions, `is_system_error`,
    `name`, `state`, `current_state`, `fail_counter`, `call`, `call_async`, `calling`, `open`,
    `half_open` and `close` work. Without any effect are `success_counter`, setting `fail_max`,
    `reset_timeout` or `success_threshold` (use `reconfigure`), the keyword
    `__pybreaker_call_async`, and calling a method of a `state` object.

    Args:
        config: when to open and for how long.
        clock: monotonic seconds.
        listeners: pybreaker listeners, called after the fact and in order. An exception of one is
            logged and does not stop the others.
        state_storage: a storage of pybreaker's. Its state is read once, as the first state, and
            every change is written to it. To share circuits between processes, see
            `RedisBreakerSharing`.
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
        # Guards the phase and its counts; pybreaker's own `_lock` guards its lists.
        self._phase_lock = threading.RLock()
        self._notifications = NotificationQueue()
        self._phase: Phase = Closed(name, self.config, clock())
        # The phase a call may use without any question, or None. It is the present phase if and
        # only if (1) that phase admits every call, (2) there is no pybreaker listener, and (3)
        # `config.record_result` is not set. So a call that reads a phase here skips admission,
        # notification and judging the result. Whatever changes one of the three must call
        # `_refresh_fast_path`. A call reads it again when it ends: if it is another phase by
        # then, one of the three has changed, and the outcome takes the slow path.
        self._fast_phase: Phase | None = None
        super().__init__(
            fail_max=self.config.consecutive_failures or self.config.minimum_calls,
            reset_timeout=self.config.open_seconds,
            success_threshold=self.config.permitted_half_open_calls,
            listeners=listeners,
            name=name,
            state_storage=state_storage,
        )
        if state_storage is not None:
            self._phase = self._create_phase(BreakerState(state_storage.state), openings=1)
        self._refresh_fast_path()

    @property
    def current_state(self) -> BreakerState:
        """The state now; an open circuit becomes half-open with the next call it admits."""
        return self._phase.state

    @property  # type: ignore[misc] # only transition_to changes it
    def state(self) -> _PybreakerState:
        """Pybreaker's object for the state; states it does not know appear as open or closed."""
        return self._state

    @property
    def fail_counter(self) -> int:
        """Failures in a row; 0 in a state that does not count calls."""
        with self._phase_lock:
            phase = self._phase
            return phase.consecutive_failures if isinstance(phase, MetricsOnly) else 0

    @property
    def retry_after(self) -> float | None:
        """Seconds until an open circuit admits a trial call; 0 if calls pass, None if never."""
        phase = self._phase
        if isinstance(phase, Open):
            return max(0.0, phase.until - self.clock())
        return None if isinstance(phase, ForcedOpen) else 0.0

    def acquire(self) -> Permit:
        """Take a permit for one call.

        Raises:
            CircuitOpenError: the circuit is open, or half-open with every trial call taken.
        """
        phase = self._phase
        if not phase.admits_all:
            return TrialPermit(self._settle, self._admit(), self.clock())
        return Permit(self._settle, phase, self.clock() if phase.timed else 0.0)

    def note(self, error: BaseException | None = None, *, duration: float = 0.0) -> None:
        """Count the outcome of a call that was made without a permit.

        For code that only observes calls. In half-open such an outcome counts as a trial call.

        Args:
            error: why the call failed; None if it succeeded.
            duration: seconds the call took.
        """
        phase = self._phase
        if phase.admits_all:
            self._settle(phase, error, 0.0, duration)
            return
        try:
            self.acquire().release(error, duration=duration)
        except CircuitOpenError:
            return  # the circuit is open or has its trials: this outcome changes nothing

    # The success path is written out four times: in `run`, `arun`, `guard_sync` and `guard_async`. All do
    # the same; `test_guarded_paths.py` runs one table of outcomes over the four. Two of them have a
    # helper written out where it was worth it, measured with CPython 3.11 (a call through the
    # breaker takes 0.25 us, through the async one 0.31 us; the bare calls 0.03 and 0.09 us):
    # - `guard_sync` admits without `_admit_call`, whose packed arguments would make a refusal a
    #   third slower (1.7 instead of 1.3 us), and a busy open circuit does nothing but refuse;
    # - `guard_async` counts without `_record_success`, which would add a tenth to every call.
    # `run` and `arun` keep the helpers: they pay for a frame of their own anyway.

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn`.

        Raises:
            CircuitOpenError: the circuit refused the call.
            TypeError: the result of `fn` is to be awaited or iterated; use `arun`.
        """
        phase = self._fast_phase
        if phase is None:
            phase = self._admit_call(fn, *args, **kwargs)
        started = self.clock() if phase.timed else 0.0
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self._settle_exception(phase, error, started)
            raise
        if phase is not self._fast_phase or type(result) not in FINAL_TYPES:
            self._settle_sync_result(phase, result, started)
        else:
            self._record_success(phase, started)
        return result

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn`.

        Raises:
            CircuitOpenError: the circuit refused the call.
        """
        phase = self._fast_phase
        if phase is None:
            phase = self._admit_call(fn, *args, **kwargs)
        started = self.clock() if phase.timed else 0.0
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            self._settle_exception(phase, error, started)
            raise
        if phase is not self._fast_phase:
            self._settle_result(phase, result, started)
        else:
            self._record_success(phase, started)
        return result

    def guard_sync(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Wrap a plain function; as `run`, with `_admit_call` written out."""
        clock = self.clock

        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            phase = self._fast_phase
            if phase is None:
                phase = self._phase if self._phase.admits_all else self._admit()
                if self.listeners:
                    self._notify_before_call(fn, *args, **kwargs)
            started = clock() if phase.timed else 0.0
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                self._settle_exception(phase, error, started)
                raise
            if phase is not self._fast_phase or type(result) not in FINAL_TYPES:
                self._settle_sync_result(phase, result, started)
            else:
                self._record_success(phase, started)
            return result

        return guarded

    def guard_async(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """Wrap an async function; as `arun`, with `_record_success` written out."""
        clock = self.clock

        @functools.wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            phase = self._fast_phase
            if phase is None:
                return await self.arun(fn, *args, **kwargs)
            started = clock() if phase.timed else 0.0
            try:
                result = await fn(*args, **kwargs)
            except BaseException as error:
                self._settle_exception(phase, error, started)
                raise
            if phase is not self._fast_phase:
                self._settle_result(phase, result, started)
            elif not phase.timed or (
                (now := clock()) < phase.bucket_ends_at and now - started < phase.slow_after
            ):
                phase.count_success()
            else:
                self._record(phase, False, now - started)
            return result

        return guarded

    call = run  # type: ignore[assignment] # pybreaker's name, typed better
    call_async = arun  # type: ignore[assignment] # as above

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Guard the block as one call."""
        with self.acquire():
            yield

    def transition_to(self, state: BreakerState | str) -> None:
        """Move the breaker to `state` by hand; the state it is in begins again.

        Raises:
            IllegalTransitionError: Resilience4j does not allow this transition either.
            ValueError: there is no such state.
        """
        new = BreakerState(state)
        with self._phase_lock:
            if (self._phase.state, new) in _ILLEGAL_TRANSITIONS:
                raise IllegalTransitionError(str(self.name), self._phase.state, new)
            self._enter(self._create_phase(new, openings=max(1, self._phase.openings)))
        self._notifications.flush()

    def open(self) -> bool:
        """Open the circuit; pybreaker's name for `transition_to("open")`."""
        self.transition_to(BreakerState.OPEN)
        return True

    def half_open(self) -> None:
        """Admit a few trial calls; pybreaker's name for `transition_to("half-open")`."""
        self.transition_to(BreakerState.HALF_OPEN)

    def close(self) -> None:
        """Close the circuit; pybreaker's name for `transition_to("closed")`."""
        self.transition_to(BreakerState.CLOSED)

    def __repr__(self) -> str:
        return f"CircuitBreaker({self.name!r}, {self._phase.state.value})"

    def reconfigure(self, config: BreakerConfig) -> None:
        """Use `config` from now on, in the same state; an open circuit does not stay open longer.

        Windows start empty, and calls in flight do not count.
        """
        with self._phase_lock:
            old = self._phase
            self.config = config
            self._phase = self._create_phase(old.state, openings=max(1, old.openings))
            if isinstance(old, Open) and isinstance(self._phase, Open):
                self._phase.until = min(old.until, self._phase.until)
            self._refresh_fast_path()

    def activity(self) -> tuple[object, int]:
        """A value that is another one after every outcome and every change of state.

        For who asks whether the breaker has been used in the meantime.
        """
        with self._phase_lock:
            return self._phase, self._phase.outcomes()

    def snapshot(self) -> dict[str, object]:
        """The state and the counts of the present phase."""
        with self._phase_lock:
            phase = self._phase
            counts = phase.counts(self.clock())
        return {**super().snapshot(), "state": phase.state.value, **counts}

    def add_listener(self, listener: pybreaker.CircuitBreakerListener) -> None:
        """Call a pybreaker listener from now on."""
        super().add_listener(listener)
        self._refresh_fast_path()

    def add_listeners(self, *listeners: pybreaker.CircuitBreakerListener) -> None:
        """Call several pybreaker listeners from now on."""
        for listener in listeners:
            self.add_listener(listener)

    def remove_listener(self, listener: pybreaker.CircuitBreakerListener) -> None:
        """Stop calling a pybreaker listener."""
        super().remove_listener(listener)
        self._refresh_fast_path()

    def _refresh_fast_path(self) -> None:
        """Set `_fast_phase` again, after one of its three conditions may have changed."""
        plain = self.config.record_result is None and not self.listeners
        self._fast_phase = self._phase if self._phase.admits_all and plain else None

    def _admit_call(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Phase:
        phase = self._phase
        if not phase.admits_all:
            phase = self._admit()
        if self.listeners:
            self._notify_before_call(fn, *args, **kwargs)
        return phase

    def _admit(self) -> Phase:
        """Admit one call to a phase that does not admit all.

        Raises:
            CircuitOpenError: the call is refused.
        """
        phase, now = self._phase, self.clock()
        refusal = phase.refusal(now)  # refusing takes no lock
        if refusal is None:
            with self._phase_lock:
                # At most two rounds: the first may enter half-open (or a new half-open phase
                # whose trials replace lost ones), the second takes a permit there.
                while (refusal := self._phase.refusal(now)) is None:
                    phase = self._phase.admit(now)
                    if phase is self._phase:
                        break
                    self._enter(phase)
            self._notifications.flush()
        if refusal is not None:
            if self._subscribers:
                self._notify_rejection(refusal)
            raise refusal
        return phase

    def _record_success(self, phase: Phase, started: float) -> None:
        if not phase.timed:
            phase.count_success()
            return
        now = self.clock()
        if now < phase.bucket_ends_at and now - started < phase.slow_after:
            phase.count_success()
        else:
            self._record(phase, False, now - started)

    def _settle_exception(self, phase: Phase, error: BaseException, started: float) -> None:
        if is_usage_error(error):
            self._return_permit(phase)
        else:
            self._settle(phase, error, started)

    def _return_permit(self, phase: Phase) -> None:
        with self._phase_lock:
            phase.return_permit()

    def _settle_sync_result(self, phase: Phase, result: object, started: float) -> None:
        if is_deferred(result):
            self._return_permit(phase)
            refuse_deferred(result)
        self._settle_result(phase, result, started)

    def _settle_result(self, phase: Phase, result: object, started: float) -> None:
        is_failed_result = self.config.record_result
        failed = is_failed_result is not None and bool(is_failed_result(result))
        self._record(phase, failed, self.clock() - started)
        if self.listeners:
            self._notify_outcome(ValueError(f"returned {result!r}") if failed else None)

    def _settle(
        self,
        phase: Phase,
        error: BaseException | None,
        started: float,
        duration: float | None = None,
    ) -> None:
        """Count a call that `phase` admitted; its duration is measured if it is not given."""
        if error is None and duration is None and phase is self._fast_phase:
            if phase.timed:
                self._record_success(phase, started)
            else:
                phase.count_success()
            return
        if error is not None and self._is_neutral(error):
            self._return_permit(phase)
            return
        failed = error is not None and self._is_failure(error)
        seconds = self.clock() - started if duration is None else duration
        self._record(phase, failed, seconds)
        if self.listeners:
            self._notify_outcome(error if failed else None)

    def _is_failure(self, error: BaseException) -> bool:
        """Whether the error counts as a failure; of a group, whether one in it does."""
        if isinstance(error, BaseExceptionGroup):
            return any(
                not self._is_neutral(inner) and self._is_failure(inner)
                for inner in error.exceptions
            )
        accepts = self.config.record_exception
        return isinstance(error, self.config.record_exceptions) and (
            accepts is None or accepts(error)
        )

    def _is_neutral(self, error: BaseException) -> bool:
        """Whether the error says nothing about the service: cancelled, refused, or ignored.

        A group is neutral if all errors in it are.
        """
        if isinstance(error, ExceptionGroup) and all(map(self._is_neutral, error.exceptions)):
            return True
        return (
            not isinstance(error, Exception)
            or isinstance(
                error, (RejectedError, DeadlineExceededError, *self.config.ignore_exceptions)
            )
            or not self.is_system_error(error)
        )

    def _record(self, phase: Phase, failed: bool, duration: float) -> None:
        with self._phase_lock:
            if phase is not self._phase:
                return
            next_state = phase.record(failed, duration, self.clock())
            if next_state is not None:
                openings = phase.openings + 1 if next_state is BreakerState.OPEN else 0
                self._enter(self._create_phase(next_state, openings))
        self._notifications.flush()

    def _create_phase(self, state: BreakerState, openings: int) -> Phase:
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
        """Make `phase` the present one; the lock is held, so notifications are only queued."""
        old, old_state = self._phase.state, self._state
        self._phase = phase
        self._refresh_fast_path()
        new_state = _PYBREAKER_STATES[phase.state](self, prev_state=old_state, notify=False)
        self._state = new_state
        opened_at = datetime.now(UTC) if phase.state is BreakerState.OPEN else None
        self._notifications.append(lambda: self._save_state(new_state.name, opened_at))
        self._queue_for_listeners(
            lambda listener: listener.state_change(self, old_state, new_state)
        )
        if self._subscribers:
            event = StateChanged(self.kind, str(self.name), old.value, phase.state.value)
            self._notifications.append(lambda: self._notify(event))

    def _save_state(self, state: str, opened_at: datetime | None) -> None:
        """Write a change to pybreaker's storage."""
        try:
            self._state_storage.state = state
            if opened_at is not None:
                self._state_storage.opened_at = opened_at
        except Exception:
            logger.exception("the storage of circuit %r failed", self.name)

    def _notify_before_call(
        self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        self._queue_for_listeners(lambda listener: listener.before_call(self, fn, *args, **kwargs))
        self._notifications.flush()

    def _notify_outcome(self, error: BaseException | None) -> None:
        if error is None:
            self._queue_for_listeners(lambda listener: listener.success(self))
        else:
            self._queue_for_listeners(lambda listener: listener.failure(self, error))
        self._notifications.flush()

    def _queue_for_listeners(
        self, notification: Callable[[pybreaker.CircuitBreakerListener], None]
    ) -> None:
        if self.listeners:
            self._notifications.append(lambda: self._notify_listeners(notification))

    def _notify_listeners(
        self, notification: Callable[[pybreaker.CircuitBreakerListener], None]
    ) -> None:
        for listener in self.listeners:
            try:
                notification(listener)
            except Exception:
                logger.exception("a listener of circuit %r failed", self.name)
