"""The breaker against a model, under every order of calls, cancellations and clock steps."""

import threading
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from microservice_governance import (
    BreakerConfig,
    CircuitBreaker,
    CircuitOpenError,
    Permit,
    PolicyEvent,
    StateChanged,
)
from microservice_governance.breaker.outcome_window import CountWindow, TimeWindow


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class BreakerMachine(RuleBasedStateMachine):
    """Permits are taken and come back in any order."""

    @initialize(
        failures=st.integers(1, 4), permits=st.integers(1, 4), rate=st.sampled_from([None, 0.5])
    )
    def create(self, failures: int, permits: int, rate: float | None) -> None:
        self.clock = Clock()
        self.config = BreakerConfig(
            consecutive_failures=failures,
            failure_rate_threshold=rate,
            minimum_calls=4,
            sliding_window_size=6,
            open_seconds=5,
            permitted_half_open_calls=permits,
        )
        self.breaker = CircuitBreaker("model", self.config, clock=self.clock)
        self.events: list[PolicyEvent] = []
        self.breaker.subscribe(self.events.append)
        self.changes: list[tuple[str, str]] = []
        self.out: list[tuple[Permit, int]] = []
        self.stay = 0
        self.state = "closed"
        self.granted = 0

    @rule()
    def ask(self) -> None:
        before = self.breaker.current_state
        try:
            permit, rejection = self.breaker.acquire(), None
        except CircuitOpenError as error:
            permit, rejection = None, error
        if permit is None:
            assert before in {"open", "half-open"}
            assert rejection is not None
            assert rejection.retry_after is not None
            assert 0 < rejection.retry_after <= 5
            return
        # Beyond its permits, half-open lets a call in only after giving up those that are out.
        self.notice(lost=before == "half-open" and self.granted == self.permits())
        self.granted += 1
        self.out.append((permit, self.stay))

    @rule(which=st.integers(0, 20), outcome=st.sampled_from(["ok", "failed", "cancelled"]))
    @precondition(lambda self: bool(self.out))
    def come_back(self, which: int, outcome: str) -> None:
        permit, stay = self.out.pop(which % len(self.out))
        errors = {"ok": None, "failed": OSError(), "cancelled": KeyboardInterrupt()}
        permit.release(errors[outcome])
        changed = self.breaker.current_state != self.state
        assert not (changed and stay != self.stay), "a late result changed the state"
        assert not (changed and outcome == "cancelled"), "a cancellation changed the state"
        if outcome == "cancelled" and stay == self.stay:
            self.granted -= 1
        self.notice()

    @rule(outcomes=st.lists(st.sampled_from(["ok", "failed", "cancelled"]), min_size=2, max_size=4))
    @precondition(lambda self: len(self.out) >= 4)
    def come_back_at_once(self, outcomes: list[str]) -> None:
        """From as many threads, in whatever order they get their turn."""
        errors = {"ok": None, "failed": OSError(), "cancelled": KeyboardInterrupt()}
        returning = [(self.out.pop(0), errors[outcome]) for outcome in outcomes]
        fresh = [stay == self.stay for (_, stay), _ in returning]
        threads = [
            threading.Thread(target=permit.release, args=(error,))
            for (permit, _), error in returning
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.breaker.current_state == self.state:
            neutral = [outcome == "cancelled" for outcome in outcomes]
            self.granted -= sum(map(bool.__and__, fresh, neutral))
        else:
            assert any(fresh), "late results changed the state"
        self.notice()

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    def notice(self, *, lost: bool = False) -> None:
        if self.breaker.current_state != self.state or lost:
            self.stay += 1
            self.granted = 0
            if self.breaker.current_state != self.state:
                self.changes.append((self.state, self.breaker.current_state))
            self.state = self.breaker.current_state

    def permits(self) -> int:
        return self.config.permitted_half_open_calls

    def trials_out(self) -> int:
        return sum(stay == self.stay for _, stay in self.out)

    @invariant()
    def half_open_never_has_more_out_than_permitted(self) -> None:
        if getattr(self, "state", "") == "half-open":
            assert self.trials_out() <= self.permits()

    @invariant()
    def every_change_is_told_once_and_in_order(self) -> None:
        if hasattr(self, "events"):
            told = [(e.old, e.new) for e in self.events if isinstance(e, StateChanged)]
            assert [step for step in told if step[0] != step[1]] == self.changes

    def teardown(self) -> None:
        self.clock.now += 60
        for permit, _ in self.out:
            permit.release()
        self.clock.now += 60  # those that came back may have opened it
        for _ in range(20):
            if self.breaker.current_state == "closed":
                break
            self.breaker.acquire().release()
        assert self.breaker.current_state == "closed", "it never recovers"


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), max_size=80)


@given(
    runs=st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.booleans()), max_size=30),
    size=st.integers(1, 12),
)
def test_good_calls_may_be_counted_in_one_go(runs: list[tuple[int, bool, bool]], size: int) -> None:
    window, one_by_one = CountWindow(size), CountWindow(size)
    for good, failed, slow in runs:
        window.record_successes(good)
        window.record(failed, slow, 0.0)
        for _ in range(good):
            one_by_one.record(False, False, 0.0)
        one_by_one.record(failed, slow, 0.0)
        both = [(one.calls, one.failures, one.slow) for one in (window, one_by_one)]
        assert both[0] == both[1]


@given(outcomes=OUTCOMES, size=st.integers(1, 12))
def test_a_count_window_counts_the_last_calls(
    outcomes: list[tuple[bool, bool, int]], size: int
) -> None:
    window, kept = CountWindow(size), deque[tuple[bool, bool]](maxlen=size)
    for failed, slow, _ in outcomes:
        window.record(failed, slow, 0.0)
        kept.append((failed, slow))
        expected = (len(kept), sum(f for f, _ in kept), sum(s for _, s in kept))
        assert (window.calls, window.failures, window.slow) == expected


@given(outcomes=OUTCOMES, seconds=st.integers(1, 6), step_back=st.booleans())
def test_a_time_window_counts_the_last_seconds(
    outcomes: list[tuple[bool, bool, int]], seconds: int, step_back: bool
) -> None:
    now, newest = 50.0, 50.0
    window, log = TimeWindow(seconds, now), []
    for failed, slow, wait in outcomes:
        now += wait - (1 if step_back else 0)
        newest = max(newest, now)
        window.record(failed, slow, now)
        log.append((newest, failed, slow))
        kept = [entry for entry in log if entry[0] > newest - seconds]
        expected = (len(kept), sum(f for _, f, _ in kept), sum(s for _, _, s in kept))
        assert (window.calls, window.failures, window.slow) == expected
