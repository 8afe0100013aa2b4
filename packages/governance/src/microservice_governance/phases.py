"""The states of a breaker, each with what it counts.

A call is settled with the phase that admitted it. A phase that has ended ignores what still comes
in, which is how late results of an earlier time are dropped.
"""

from __future__ import annotations

from .breaker_config import BreakerConfig, BreakerState
from .errors import CircuitOpenError
from .window import CountWindow, TimeWindow, Window

__all__ = ("Closed", "Disabled", "ForcedOpen", "HalfOpen", "MetricsOnly", "Open", "Phase")


class Phase:
    """One stay in one state.

    Attributes:
        admits_all: no permit has to be asked for.
        openings: how often in a row the circuit has opened.
    """

    __slots__ = ("config", "name", "openings")

    state: BreakerState
    admits_all = True

    def __init__(self, name: str, config: BreakerConfig, openings: int = 0) -> None:
        self.name = name
        self.config = config
        self.openings = openings

    def admit(self, now: float) -> Phase:
        """This phase if it lets a call in, the next one if its time is over.

        Raises:
            CircuitOpenError: the call may not be made.
        """
        return self

    def record(self, failed: bool, duration: float, now: float) -> BreakerState | None:
        """Count an outcome; the state that follows from it, if any."""

    def give_back(self) -> None:
        """An admitted call ended without an outcome."""


class Disabled(Phase):
    """Lets everything through and counts nothing."""

    __slots__ = ()
    state = BreakerState.DISABLED


class MetricsOnly(Phase):
    """Lets everything through and counts it."""

    __slots__ = ("consecutive", "window")
    state = BreakerState.METRICS_ONLY

    def __init__(self, name: str, config: BreakerConfig, now: float) -> None:
        super().__init__(name, config)
        size = config.sliding_window_size
        counted = config.sliding_window_type == "count"
        self.window: Window = CountWindow(size) if counted else TimeWindow(size, now)
        self.consecutive = 0

    def record(self, failed: bool, duration: float, now: float) -> BreakerState | None:
        self.consecutive = self.consecutive + 1 if failed else 0
        self.window.record(failed, duration >= self.config.slow_call_seconds, now)
        return None


class Closed(MetricsOnly):
    """Lets everything through until the window is too bad."""

    __slots__ = ()
    state = BreakerState.CLOSED

    def record(self, failed: bool, duration: float, now: float) -> BreakerState | None:
        super().record(failed, duration, now)
        bad = failed or duration >= self.config.slow_call_seconds
        return BreakerState.OPEN if bad and self._too_bad() else None

    def _too_bad(self) -> bool:
        config, window = self.config, self.window
        if config.consecutive_failures and self.consecutive >= config.consecutive_failures:
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

    def admit(self, now: float) -> Phase:
        if now >= self.until:
            return HalfOpen(self.name, self.config, self.openings, now)
        raise CircuitOpenError(self.name, self.state, self.until - now)


class ForcedOpen(Phase):
    """Refuses everything until somebody moves the breaker on."""

    __slots__ = ()
    state = BreakerState.FORCED_OPEN
    admits_all = False

    def admit(self, now: float) -> Phase:
        raise CircuitOpenError(self.name, self.state, None)


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
        self._left = config.permitted_half_open_calls
        self._done = self._bad = 0
        self._patience = config.max_half_open_seconds or config.open_seconds
        self._renew_at = now + self._patience

    def admit(self, now: float) -> Phase:
        if self._left > 0:
            self._left -= 1
            self._renew_at = now + self._patience
            return self
        if now < self._renew_at:
            raise CircuitOpenError(self.name, self.state, self._renew_at - now)
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

    def _too_many(self, trials: int) -> float:
        rate = self.config.failure_rate_threshold
        return 1 if self.config.consecutive_failures or rate is None else max(1.0, rate * trials)
