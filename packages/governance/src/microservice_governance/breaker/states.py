"""The states of a breaker, each with what it counts.

A call is settled with the phase that admitted it. A phase that has ended ignores what still comes
in, which is how late results of an earlier time are dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from microservice_governance.errors import CircuitOpenError

from .config import BreakerConfig, BreakerState
from .outcome_window import CountWindow, TimeWindow, Window

__all__ = ("Closed", "Disabled", "ForcedOpen", "HalfOpen", "MetricsOnly", "Open", "Phase")


def _nothing() -> int:
    return 0


class Phase:
    """One stay in one state.

    Attributes:
        admits_all: no permit has to be asked for.
        timed: how long a call takes, or when it ends, makes a difference.
        slow_after: a call that takes so many seconds is more than `good`.
        turns_at: a call that ends from then on is more than `good`.
        good: notes a call that ended well, in one atomic step.
        openings: how often in a row the circuit has opened.
    """

    __slots__ = ("config", "good", "name", "openings", "slow_after", "timed", "turns_at")

    state: BreakerState
    admits_all = True

    def __init__(self, name: str, config: BreakerConfig, openings: int = 0) -> None:
        self.name = name
        self.config = config
        self.openings = openings
        self.timed = False
        self.slow_after = self.turns_at = float("inf")
        self.good: Callable[[], int] = _nothing

    def refusal(self, now: float) -> CircuitOpenError | None:
        """The answer to a call that may not be made, where no lock is needed to tell."""
        return None

    def admit(self, now: float) -> Phase:
        """This phase if it lets a call in, the next one if its time is over.

        Asked with the lock held, and only when there is no `refusal`.
        """
        return self

    def record(self, failed: bool, duration: float, now: float) -> BreakerState | None:
        """Count an outcome; the state that follows from it, if any."""

    def give_back(self) -> None:
        """An admitted call ended without an outcome."""

    def counts(self, now: float) -> dict[str, object]:
        """What it has counted, for a snapshot."""
        return {}


class Disabled(Phase):
    """Lets everything through and counts nothing."""

    __slots__ = ()
    state = BreakerState.DISABLED


class MetricsOnly(Phase):
    """Lets everything through and counts it.

    What ends well is counted by one atomic step and credited to the window only when a bad call
    has to be weighed against it, so that good calls need no lock.
    """

    __slots__ = ("_consecutive", "_credited", "window")
    state = BreakerState.METRICS_ONLY

    def __init__(self, name: str, config: BreakerConfig, now: float) -> None:
        super().__init__(name, config)
        size = config.sliding_window_size
        counted = config.sliding_window_type == "count"
        self.window: Window = CountWindow(size) if counted else TimeWindow(size, now)
        slow_counts = config.slow_call_rate_threshold is not None
        if slow_counts:
            self.slow_after = config.slow_call_seconds
        self.turns_at = self.window.turns_at
        self.timed = slow_counts or not counted
        self.good = count(1).__next__
        self._credited = 0
        self._consecutive = 0

    def record(self, failed: bool, duration: float, now: float) -> BreakerState | None:
        self._credit()
        self._consecutive = self._consecutive + 1 if failed else 0
        self.window.record(failed, duration >= self.slow_after, now)
        self.turns_at = self.window.turns_at
        return None

    @property
    def consecutive(self) -> int:
        """Failures in a row."""
        self._credit()
        return self._consecutive

    def counts(self, now: float) -> dict[str, object]:
        self._credit()
        window = self.window
        window.forget(now)
        self.turns_at = window.turns_at
        return {
            "calls": window.calls,
            "failures": window.failures,
            "slow_calls": window.slow,
            "failures_in_a_row": self._consecutive,
        }

    def _credit(self) -> None:
        counted = self.good()
        since = counted - 1 - self._credited
        self._credited = counted  # asking has counted as well
        if since:
            self._consecutive = 0
            self.window.record_good(since)


class Closed(MetricsOnly):
    """Lets everything through until the window is too bad."""

    __slots__ = ()
    state = BreakerState.CLOSED

    def record(self, failed: bool, duration: float, now: float) -> BreakerState | None:
        super().record(failed, duration, now)
        bad = failed or duration >= self.slow_after
        return BreakerState.OPEN if bad and self._too_bad() else None

    def _too_bad(self) -> bool:
        config, window = self.config, self.window
        if config.consecutive_failures and self._consecutive >= config.consecutive_failures:
            return True
        if window.calls < config.minimum_calls:
            return False
        failing = config.failure_rate_threshold
        slow = config.slow_call_rate_threshold
        return bool(
            (failing and window.failures >= failing * window.calls)
            or (slow and window.slow >= slow * window.calls)
        )


class Open(Phase):
    """Refuses everything until its time is over."""

    __slots__ = ("until",)
    state = BreakerState.OPEN
    admits_all = False

    def __init__(self, name: str, config: BreakerConfig, openings: int, now: float) -> None:
        super().__init__(name, config, openings)
        self.until = now + config.open_seconds_after(openings)

    def refusal(self, now: float) -> CircuitOpenError | None:
        left = self.until - now
        return CircuitOpenError(self.name, self.state, left) if left > 0 else None

    def admit(self, now: float) -> Phase:
        return HalfOpen(self.name, self.config, self.openings, now)

    def counts(self, now: float) -> dict[str, object]:
        return {"retry_after": max(0.0, self.until - now), "openings": self.openings}


class ForcedOpen(Phase):
    """Refuses everything until somebody moves the breaker on."""

    __slots__ = ()
    state = BreakerState.FORCED_OPEN
    admits_all = False

    def refusal(self, now: float) -> CircuitOpenError | None:
        return CircuitOpenError(self.name, self.state, None)


class HalfOpen(Phase):
    """Lets a few trial calls through and decides by them.

    With a threshold of consecutive failures, or one failure too many for the failure rate, it opens
    again; it closes as soon as the trials still out cannot change that.
    """

    __slots__ = ("_bad", "_done", "_left", "_patience", "_renew_at")
    state = BreakerState.HALF_OPEN
    admits_all = False

    def __init__(self, name: str, config: BreakerConfig, openings: int, now: float) -> None:
        super().__init__(name, config, openings)
        self.timed = True
        self.turns_at = float("-inf")
        self._left = config.permitted_half_open_calls
        self._done = self._bad = 0
        self._patience = config.max_half_open_seconds or config.open_seconds
        self._renew_at = now + self._patience

    def refusal(self, now: float) -> CircuitOpenError | None:
        if self._left > 0 or now >= self._renew_at:
            return None
        return CircuitOpenError(self.name, self.state, self._renew_at - now)

    def admit(self, now: float) -> Phase:
        if self._left > 0:
            self._left -= 1
            self._renew_at = now + self._patience
            return self
        # The trials are lost: a new stay, so that they cannot count any more if they do come back.
        return HalfOpen(self.name, self.config, self.openings, now)

    def give_back(self) -> None:
        self._left += 1

    def record(self, failed: bool, duration: float, now: float) -> BreakerState | None:
        slow = duration >= self.config.slow_call_seconds
        self._done += 1
        self._bad += failed or (slow and self.config.slow_call_rate_threshold is not None)
        trials = self.config.permitted_half_open_calls
        if self._bad >= self._too_many(trials):
            return BreakerState.OPEN
        if self._bad + trials - self._done < self._too_many(trials):
            return BreakerState.CLOSED
        return None

    def counts(self, now: float) -> dict[str, object]:
        return {"trials_left": self._left, "trials_done": self._done, "trials_failed": self._bad}

    def _too_many(self, trials: int) -> float:
        rate = self.config.failure_rate_threshold
        return 1 if self.config.consecutive_failures or rate is None else max(1.0, rate * trials)
