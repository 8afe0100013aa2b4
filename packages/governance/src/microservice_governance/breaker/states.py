"""The states of a breaker, each with what it counts.

A phase is one stay in one state. A call reports its outcome to the phase that admitted it, and what
a phase that has ended still receives is ignored: so late results of an earlier stay do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from microservice_governance.errors import CircuitOpenError

from .config import BreakerConfig, BreakerState
from .outcome_window import CountWindow, OutcomeWindow, TimeWindow

__all__ = ("Closed", "Disabled", "ForcedOpen", "HalfOpen", "MetricsOnly", "Open", "Phase")


def _ignore_success() -> int:
    return 0


class Phase:
    """One stay in one state.

    Attributes:
        admits_all: every call is admitted; `refusal` and `admit` need not be called.
        timed: the duration or the end time of a call matters, so the clock has to be read.
        slow_after: a call of this many seconds or more must be counted by `record`.
        bucket_ends_at: a call that ends at this time or later must be counted by `record`.
        count_success: counts a call that succeeded and is neither of these two. One atomic step
            (a C function), so that threads need no lock for it.
        openings: number of times in a row that the circuit has opened.
    """

    __slots__ = (
        "bucket_ends_at",
        "config",
        "count_success",
        "name",
        "openings",
        "slow_after",
        "timed",
    )

    state: BreakerState
    admits_all = True

    def __init__(self, name: str, config: BreakerConfig, openings: int = 0) -> None:
        self.name = name
        self.config = config
        self.openings = openings
        self.timed = False
        self.slow_after = self.bucket_ends_at = float("inf")
        self.count_success: Callable[[], int] = _ignore_success

    def refusal(self, now: float) -> CircuitOpenError | None:
        """The error for a call that is refused; None if it may be admitted. Needs no lock."""
        return None

    def admit(self, now: float) -> Phase:
        """This phase if it admits a call, or the phase that follows if its time is over.

        Called with the breaker's lock held, and only when `refusal` returns None.
        """
        return self

    def record(self, failed: bool, duration: float, now: float) -> BreakerState | None:
        """Count a call that took `duration` seconds; the state to move to, if that follows.

        Called with the breaker's lock held.
        """

    def return_permit(self) -> None:
        """Take back the permit of an admitted call that ended without an outcome."""

    def outcomes(self) -> int:
        """How many outcomes this phase has counted; called with the breaker's lock held."""
        return 0

    def counts(self, now: float) -> dict[str, object]:
        """The numbers of this phase, for a snapshot."""
        return {}


class Disabled(Phase):
    """Admits every call and counts nothing."""

    __slots__ = ()
    state = BreakerState.DISABLED


class MetricsOnly(Phase):
    """Admits every call and counts it.

    A success is counted by one atomic step and reaches the window only when something is read from
    it, or a bad call is recorded: so successes need no lock.
    """

    __slots__ = ("_consecutive", "_credited", "_outcomes", "window")
    state = BreakerState.METRICS_ONLY

    def __init__(self, name: str, config: BreakerConfig, now: float) -> None:
        super().__init__(name, config)
        size = config.sliding_window_size
        by_count = config.sliding_window_type == "count"
        self.window: OutcomeWindow = CountWindow(size) if by_count else TimeWindow(size, now)
        slowness_counts = config.slow_call_rate_threshold is not None
        if slowness_counts:
            self.slow_after = config.slow_call_seconds
        self.bucket_ends_at = self.window.bucket_ends_at
        self.timed = slowness_counts or not by_count
        self.count_success = count(1).__next__
        self._credited = 0
        self._consecutive = 0
        self._outcomes = 0

    def record(self, failed: bool, duration: float, now: float) -> BreakerState | None:
        self._credit_successes()
        self._outcomes += 1
        self._consecutive = self._consecutive + 1 if failed else 0
        self.window.record(failed, duration >= self.slow_after, now)
        self.bucket_ends_at = self.window.bucket_ends_at
        return None

    @property
    def consecutive_failures(self) -> int:
        """Failures since the last success."""
        self._credit_successes()
        return self._consecutive

    def counts(self, now: float) -> dict[str, object]:
        self._credit_successes()
        window = self.window
        window.forget(now)
        self.bucket_ends_at = window.bucket_ends_at
        return {
            "calls": window.calls,
            "failures": window.failures,
            "slow_calls": window.slow,
            "failures_in_a_row": self._consecutive,
        }

    def outcomes(self) -> int:
        self._credit_successes()
        return self._outcomes

    def _credit_successes(self) -> None:
        """Move the successes counted since the last time into the window."""
        # An `itertools.count` cannot be read without advancing it, so this read takes a number
        # like a success does. The last number handed out before it is `reading - 1`, and
        # `_credited` is the reading of the last time: the successes in between are the
        # difference of the two. Remembering `reading` leaves this read out of the next count.
        reading = self.count_success()
        successes = reading - 1 - self._credited
        self._credited = reading
        if successes:
            self._consecutive = 0
            self._outcomes += successes
            self.window.record_successes(successes)


class Closed(MetricsOnly):
    """Admits every call until a threshold of the window is reached."""

    __slots__ = ()
    state = BreakerState.CLOSED

    def record(self, failed: bool, duration: float, now: float) -> BreakerState | None:
        super().record(failed, duration, now)
        bad = failed or duration >= self.slow_after
        return BreakerState.OPEN if bad and self._reaches_threshold() else None

    def _reaches_threshold(self) -> bool:
        config, window = self.config, self.window
        if config.consecutive_failures and self._consecutive >= config.consecutive_failures:
            return True
        if window.calls < config.minimum_calls:
            return False
        failure_rate = config.failure_rate_threshold
        slow_rate = config.slow_call_rate_threshold
        return bool(
            (failure_rate and window.failures >= failure_rate * window.calls)
            or (slow_rate and window.slow >= slow_rate * window.calls)
        )


class Open(Phase):
    """Refuses every call until its time is over."""

    __slots__ = ("until",)
    state = BreakerState.OPEN
    admits_all = False

    def __init__(self, name: str, config: BreakerConfig, openings: int, now: float) -> None:
        super().__init__(name, config, openings)
        self.until = now + config.open_seconds_after(openings)

    def refusal(self, now: float) -> CircuitOpenError | None:
        remaining = self.until - now
        return CircuitOpenError(self.name, self.state, remaining) if remaining > 0 else None

    def admit(self, now: float) -> Phase:
        return HalfOpen(self.name, self.config, self.openings, now)

    def counts(self, now: float) -> dict[str, object]:
        return {"retry_after": max(0.0, self.until - now), "openings": self.openings}


class ForcedOpen(Phase):
    """Refuses every call until the breaker is moved to another state by hand."""

    __slots__ = ()
    state = BreakerState.FORCED_OPEN
    admits_all = False

    def refusal(self, now: float) -> CircuitOpenError | None:
        return CircuitOpenError(self.name, self.state, None)


class HalfOpen(Phase):
    """Admits a few trial calls and moves on by their outcomes.

    It opens with the first failure if `consecutive_failures` is set, else as soon as the failure
    rate of the trials is reached; it closes as soon as the trials still running cannot change that.
    """

    __slots__ = (
        "_max_trial_seconds",
        "_permits_left",
        "_trials_done",
        "_trials_expire_at",
        "_trials_failed",
    )
    state = BreakerState.HALF_OPEN
    admits_all = False

    def __init__(self, name: str, config: BreakerConfig, openings: int, now: float) -> None:
        super().__init__(name, config, openings)
        self.timed = True
        self.bucket_ends_at = float("-inf")  # every outcome goes through `record`
        self._permits_left = config.permitted_half_open_calls
        self._trials_done = self._trials_failed = 0
        self._max_trial_seconds = config.max_half_open_seconds or config.open_seconds
        self._trials_expire_at = now + self._max_trial_seconds

    def refusal(self, now: float) -> CircuitOpenError | None:
        if self._permits_left > 0 or now >= self._trials_expire_at:
            return None
        return CircuitOpenError(self.name, self.state, self._trials_expire_at - now)

    def admit(self, now: float) -> Phase:
        if self._permits_left > 0:
            self._permits_left -= 1
            self._trials_expire_at = now + self._max_trial_seconds
            return self
        # The trials are lost. A new phase replaces this one, so that they do not count any more
        # if they come back after all.
        return HalfOpen(self.name, self.config, self.openings, now)

    def outcomes(self) -> int:
        return self._trials_done

    def return_permit(self) -> None:
        self._permits_left += 1

    def record(self, failed: bool, duration: float, now: float) -> BreakerState | None:
        slow = duration >= self.config.slow_call_seconds
        self._trials_done += 1
        self._trials_failed += failed or (slow and self.config.slow_call_rate_threshold is not None)
        trials = self.config.permitted_half_open_calls
        failures_to_open = self._failures_to_open(trials)
        if self._trials_failed >= failures_to_open:
            return BreakerState.OPEN
        if self._trials_failed + trials - self._trials_done < failures_to_open:
            return BreakerState.CLOSED
        return None

    def counts(self, now: float) -> dict[str, object]:
        return {
            "trials_left": self._permits_left,
            "trials_done": self._trials_done,
            "trials_failed": self._trials_failed,
        }

    def _failures_to_open(self, trials: int) -> float:
        rate = self.config.failure_rate_threshold
        return 1 if self.config.consecutive_failures or rate is None else max(1.0, rate * trials)
