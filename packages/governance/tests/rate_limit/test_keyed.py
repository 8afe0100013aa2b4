"""Breakers and limits by key: bounded, forgetting what is idle."""

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from microservice_core import InvalidValueError, OutcomeObserver, ServiceInstance
from microservice_governance import (
    BreakerConfig,
    CallRejected,
    CircuitOpenError,
    DeadlineExceededError,
    KeyedCircuitBreakers,
    KeyedLimit,
    KeyedRateLimiter,
    LimitConfig,
    OutcomeReport,
    PolicyEvent,
    RateLimitedError,
    RateLimiter,
    SlidingWindowLimiter,
    StateChanged,
    pipeline,
)

ONE_FAILURE = BreakerConfig(
    consecutive_failures=1, failure_rate_threshold=None, permitted_half_open_calls=1
)


def test_each_key_has_a_breaker_of_its_own(clock: Any) -> None:
    breakers = KeyedCircuitBreakers(ONE_FAILURE, name="orders", clock=clock)
    breakers.get("a").acquire().release(OSError())
    assert breakers.get("a").current_state == "open"
    assert breakers.get("b").current_state == "closed"
    assert breakers.get("a") is breakers.get("a")
    assert [breaker.name for breaker in breakers] == ["orders b", "orders a"]


def test_the_oldest_closed_one_goes_when_there_are_too_many(clock: Any) -> None:
    breakers = KeyedCircuitBreakers(ONE_FAILURE, max_keys=3, clock=clock)
    breakers.get("open").open()
    for key in ("a", "b", "c", "d"):
        breakers.get(key)
    assert sorted(str(breaker.name) for breaker in breakers) == ["c", "d", "open"]
    for number in range(1000):
        breakers.get(number)
        assert len(breakers) <= 3
    assert breakers.get("open").current_state == "open"
    for breaker in breakers:
        breaker.open()
    breakers.get("new")
    assert len(breakers) == 3


def test_what_nobody_asks_for_is_forgotten(clock: Any) -> None:
    breakers = KeyedCircuitBreakers(ONE_FAILURE, idle_seconds=60, clock=clock)
    kept = breakers.get("kept")
    for key in range(10):
        breakers.get(key)
    clock.advance(59)
    assert breakers.get("kept") is kept
    clock.advance(1)
    for _ in range(6):
        breakers.get("kept")
    assert list(breakers) == [kept]
    breakers.forget("kept")
    breakers.forget("unknown")
    assert len(breakers) == 0


def test_a_thousand_threads_get_one_breaker_per_key(clock: Any) -> None:
    breakers = KeyedCircuitBreakers(clock=clock)
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append(breakers.get("a"))) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, seen))) == 1


def test_events_of_all_come_to_one_listener(clock: Any) -> None:
    breakers = KeyedCircuitBreakers(ONE_FAILURE, clock=clock)
    before = breakers.get("before")
    events: list[PolicyEvent] = []
    unsubscribe = breakers.subscribe(events.append)
    before.open()
    breakers.get("after").open()
    unsubscribe()
    before.close()
    breakers.get("later").open()
    assert events == [
        StateChanged("circuit_breaker", "before", "closed", "open"),
        StateChanged("circuit_breaker", "after", "closed", "open"),
    ]
    snapshot: Any = breakers.snapshot()
    assert (snapshot["keys"], [one["name"] for one in snapshot["not_closed"]]) == (
        3,
        ["after", "later"],
    )


def instance(port: int) -> ServiceInstance:
    return ServiceInstance("orders", "10.0.0.1", port)


def fails(error: Exception, port: int) -> None:
    raise error


async def test_outcomes_reach_every_observer_by_protocol(clock: Any) -> None:
    heard: list[tuple[str, float, BaseException | None]] = []

    class Balancer:
        def on_outcome(self, endpoint: Any, seconds: float, error: BaseException | None) -> None:
            heard.append((endpoint.instance_id, seconds, error))

    class Broken:
        def on_outcome(self, endpoint: Any, seconds: float, error: BaseException | None) -> None:
            raise RuntimeError("observer")

    breakers = KeyedCircuitBreakers(ONE_FAILURE, clock=clock)
    observers: list[OutcomeObserver] = [Broken(), Balancer(), breakers]
    policy = OutcomeReport(observers, endpoint=lambda _, port: instance(port), clock=clock)
    down = OSError("down")
    with pytest.raises(OSError, match="down"):
        policy.run(fails, down, 80)
    assert breakers.get("10.0.0.1:80").current_state == "open"

    def slow(_: str, port: int) -> str:
        clock.advance(2)
        return "fine"

    assert policy.run(slow, "", 81) == "fine"
    assert heard == [("10.0.0.1:80", 0, down), ("10.0.0.1:81", 2, None)]
    for refusal in (CircuitOpenError("a", "open", 1), DeadlineExceededError()):
        with pytest.raises(type(refusal)):
            policy.run(fails, refusal, 80)
    assert len(heard) == 2

    fixed = OutcomeReport(observers, endpoint=instance(82), clock=clock)
    assert await fixed.arun(asyncio.sleep, 0, "fine") == "fine"

    async def fails_later() -> None:
        raise down

    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(OSError, match="down"):
        await fixed.arun(fails_later)
    with pytest.raises(asyncio.CancelledError):
        await fixed.arun(cancelled)
    assert heard[2:] == [("10.0.0.1:82", 0, None), ("10.0.0.1:82", 0, down)]
    with pytest.raises(TypeError, match="arun"):
        fixed.run(asyncio.sleep, 1)  # type: ignore[unused-coroutine]
    assert len(heard) == 4


def test_outcomes_without_permits_open_and_close(clock: Any) -> None:
    breakers = KeyedCircuitBreakers(ONE_FAILURE, clock=clock)
    breakers.on_outcome(instance(80), 0.1, OSError())
    breaker = breakers.get("10.0.0.1:80")
    breakers.on_outcome(instance(80), 0.1, None)
    assert breaker.current_state == "open"
    clock.advance(30)
    breakers.on_outcome(instance(80), 0.1, None)
    assert breaker.current_state == "closed"


def test_idle_seconds_have_to_be_positive() -> None:
    with pytest.raises(InvalidValueError, match="idle_seconds must be above 0"):
        KeyedCircuitBreakers(idle_seconds=0)
    with pytest.raises(InvalidValueError, match="max_keys must be"):
        KeyedCircuitBreakers(max_keys=0)


def test_each_key_has_a_limit_of_its_own_and_some_have_another(clock: Any) -> None:
    limiter = KeyedRateLimiter(
        LimitConfig(rate=2), overrides={"vip": LimitConfig(rate=4)}, clock=clock
    )
    assert [limiter.try_acquire("a").allowed for _ in range(3)] == [True, True, False]
    assert limiter.try_acquire("b").remaining == 1
    assert limiter.try_acquire("vip").remaining == 3
    limiter.reconfigure(LimitConfig(rate=1))
    assert limiter.try_acquire("c").remaining == 0
    assert limiter.snapshot()["keys"] == 4


@given(asked=st.lists(st.tuples(st.integers(0, 9), st.floats(0, 2), st.integers(0, 3))))
def test_a_keyed_limit_decides_as_one_limiter_per_key_does(
    asked: list[tuple[int, float, int]],
) -> None:
    now = [1000.0]
    config = LimitConfig(rate=3, burst=2)
    keyed = KeyedRateLimiter(config, max_keys=10, clock=lambda: now[0])
    single = {key: RateLimiter(config, clock=lambda: now[0]) for key in range(10)}
    for key, wait, cost in asked:
        now[0] += wait
        assert keyed.try_acquire(key, cost) == single[key].try_acquire(cost)


def test_memory_is_bounded_and_keys_at_rest_cost_nothing(clock: Any) -> None:
    limiter = KeyedRateLimiter(LimitConfig(rate=10), max_keys=100, clock=clock)
    for key in range(1000):
        limiter.try_acquire(key)
    assert len(limiter) == 100
    clock.advance(1)
    for _ in range(60):
        limiter.try_acquire("only")
    assert len(limiter) == 1
    with pytest.raises(InvalidValueError, match="cost must be at least 0"):
        limiter.try_acquire("a", -1)


@given(
    rate=st.integers(1, 30),
    period=st.floats(0.1, 10),
    part=st.floats(0, 0.99),
    waits=st.lists(st.floats(0, 3), max_size=200),
)
def test_a_hard_limit_never_lets_more_pass_in_any_period(
    rate: int, period: float, part: float, waits: list[float]
) -> None:
    now = [0.0]
    burst = max(1, min(rate - 1, int(rate * part)))
    config = LimitConfig(rate=rate, per_seconds=period, burst=burst, hard=True)
    limiters: list[Any] = [
        RateLimiter(config, clock=lambda: now[0]),
        SlidingWindowLimiter(LimitConfig(rate=rate, per_seconds=period), clock=lambda: now[0]),
    ]
    passed: list[list[float]] = [[], []]
    for wait in waits:
        now[0] += wait * period / 10
        for limiter, times in zip(limiters, passed, strict=True):
            if limiter.try_acquire().allowed:
                times.append(now[0])
    for times in passed:
        for first in times:
            assert sum(first <= time < first + period * (1 - 1e-9) for time in times) <= rate


def test_a_sliding_window_lets_the_whole_limit_pass_and_says_when_there_is_more(
    clock: Any,
) -> None:
    window = SlidingWindowLimiter(LimitConfig(rate=3, per_seconds=10), clock=clock)
    assert tuple(window.try_acquire()) == (True, 2, -1, 10)
    clock.advance(4)
    assert tuple(window.try_acquire(2)) == (True, 0, -1, 10)
    assert tuple(window.try_acquire()) == (False, 0, 6, 10)
    assert tuple(window.try_acquire(2)) == (False, 0, 10, 10)
    assert tuple(window.try_acquire(4)) == (False, 0, -1, 10)
    clock.advance(6)
    assert tuple(window.try_acquire()) == (True, 0, -1, 10)
    clock.advance(11)
    assert tuple(window.try_acquire(0)) == (True, 3, -1, 0)
    assert window.snapshot()["remaining"] == 3


@pytest.mark.parametrize(
    ("field", "config"),
    [
        ("rate", LimitConfig(rate=10_001)),
        ("burst", LimitConfig(rate=5, burst=2)),
    ],
)
def test_a_sliding_window_is_for_small_limits(field: str, config: LimitConfig) -> None:
    with pytest.raises(InvalidValueError, match=f"^{field} must be"):
        SlidingWindowLimiter(config)


def test_what_a_window_cannot_do_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="cost must be at least 0"):
        SlidingWindowLimiter(LimitConfig(rate=1)).try_acquire(-1)
    with pytest.raises(ValidationError, match=r"burst \(5\) must be below rate \(5\) with hard"):
        LimitConfig(rate=5, burst=5, hard=True)
    assert LimitConfig(rate=50, hard=True).capacity == 5


async def test_a_limit_by_key_is_a_policy_that_takes_the_key_from_the_arguments(clock: Any) -> None:
    limiter = KeyedRateLimiter(LimitConfig(rate=1), name="callers", clock=clock)
    policy = KeyedLimit(limiter, key=lambda caller, **_: f"caller:{caller}")
    events: list[PolicyEvent] = []
    policy.subscribe(events.append)

    @pipeline(policy)
    async def later(caller: int, *, text: str) -> str:
        return text

    plain = policy(lambda caller: caller)
    assert await later(7, text="fine") == "fine"
    assert plain(8) == 8
    for call in (lambda: policy.run(str, 7), lambda: plain(8)):
        with pytest.raises(
            RateLimitedError, match="'callers' \\(1 per 1 s\\) is exhausted"
        ) as caught:
            call()
        assert caught.value.retry_after == 1
    with pytest.raises(RateLimitedError):
        await later(7, text="again")
    assert events == [CallRejected("rate_limiter", "callers", 1.0)] * 3
    one_for_all = KeyedLimit(limiter, key="all")
    assert one_for_all.run(str, 1) == "1"
    clock.advance(1)
    with pytest.raises(TypeError, match="arun"):
        one_for_all.run(asyncio.sleep, 1)  # type: ignore[unused-coroutine]


def test_a_raised_limit_lets_every_key_pass_at_once(clock: Any) -> None:
    hourly, quick = LimitConfig(rate=10, per_seconds=3600), LimitConfig(rate=100)
    limiter = KeyedRateLimiter(hourly, overrides={"vip": hourly}, clock=clock)
    for key in ("u", "vip", "other"):
        limiter.try_acquire(key, 10)
    limiter.reconfigure(quick, overrides={"vip": LimitConfig(rate=20)})
    assert limiter.try_acquire("u").remaining == 89
    assert limiter.try_acquire("vip").remaining == 9
    limiter.reconfigure(hourly)
    assert not limiter.try_acquire("u").allowed
    assert limiter.try_acquire("other").retry_after == pytest.approx(360)


def test_a_window_can_be_changed_up_and_down(clock: Any) -> None:
    limiter = SlidingWindowLimiter(LimitConfig(rate=4, per_seconds=10), clock=clock)
    for _ in range(4):
        limiter.try_acquire()
        clock.advance(1)
    limiter.reconfigure(LimitConfig(rate=6, per_seconds=10))
    assert limiter.try_acquire().remaining == 1
    limiter.reconfigure(LimitConfig(rate=2, per_seconds=10))
    refused = limiter.try_acquire()
    assert (refused.allowed, refused.remaining, refused.retry_after) == (False, 0, 9)
    clock.advance(refused.retry_after)
    assert limiter.try_acquire().allowed
    with pytest.raises(InvalidValueError, match="rate"):
        limiter.reconfigure(LimitConfig(rate=10_001))


KEYS: st.SearchStrategy[Any] = st.recursive(
    st.text(st.characters(), max_size=8) | st.integers() | st.binary(max_size=8),
    lambda parts: st.lists(parts, max_size=3).map(tuple),
    max_leaves=6,
)


@given(one=KEYS, other=KEYS)
def test_keys_share_a_limit_only_if_they_are_equal(one: Any, other: Any) -> None:
    limiter = KeyedRateLimiter(LimitConfig(rate=1, per_seconds=60), clock=lambda: 1.0)
    assert limiter.try_acquire(one).allowed
    assert not limiter.try_acquire(one).allowed
    assert limiter.try_acquire(other).allowed == (one != other)


@pytest.mark.parametrize(
    "key",
    ["", "\ud800", 10**5000, -1, "k" * 10_000, (), ("a", (1, b"x"))],
    ids=["empty", "surrogate", "large", "negative", "long", "no parts", "nested"],
)
def test_a_key_may_be_odd(key: Any) -> None:
    limiter = KeyedRateLimiter(
        LimitConfig(rate=1), overrides={key: LimitConfig(rate=5)}, clock=lambda: 1.0
    )
    assert limiter.try_acquire(key).remaining == 4


@pytest.mark.parametrize("key", [None, 1.5, ("a", None), [1], ((((((((("deep",),),),),),),),),)])
def test_what_is_no_key_is_refused(key: Any) -> None:
    limiter = KeyedRateLimiter(LimitConfig(rate=1))
    with pytest.raises(InvalidValueError, match="key must be a str, int or bytes"):
        limiter.try_acquire(key)
    with pytest.raises(InvalidValueError, match="cost must be a whole number"):
        limiter.try_acquire("u", 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", ["forced-open", "disabled", "metrics-only"])
def test_what_an_operator_has_set_is_never_forgotten(clock: Any, state: str) -> None:
    breakers = KeyedCircuitBreakers(ONE_FAILURE, max_keys=3, idle_seconds=60, clock=clock)
    breakers.get("a").transition_to(state)
    for number in range(20):
        clock.advance(100)
        breakers.get(number)
    assert breakers.get("a").current_state == state
    for key in ("b", "c"):
        breakers.get(key).transition_to(state)
    stranger = breakers.get("d")
    assert breakers.get("d") is not stranger  # there is no room for it
    assert {breaker.name for breaker in breakers} == {"a", "b", "c"}


@pytest.mark.parametrize("error", [None, OSError("down")], ids=["successes", "failures"])
def test_a_breaker_that_a_decorator_holds_is_in_use_while_it_is_called(
    clock: Any, error: Exception | None
) -> None:
    config = BreakerConfig(consecutive_failures=1000, failure_rate_threshold=None)
    breakers = KeyedCircuitBreakers(config, idle_seconds=60, clock=clock)

    @breakers.get("orders")
    def call() -> None:
        if error is not None:
            raise error

    for _ in range(100):
        clock.advance(20)
        breakers.get("other")
        with contextlib.suppress(OSError):
            call()
    assert {breaker.name for breaker in breakers} == {"orders", "other"}
    for _ in range(3):
        clock.advance(61)
        breakers.get("other")
    assert {breaker.name for breaker in breakers} == {"other"}


def test_a_breaker_that_opens_and_tries_again_is_in_use(clock: Any) -> None:
    config = BreakerConfig(consecutive_failures=1, open_seconds=30)
    breakers = KeyedCircuitBreakers(config, idle_seconds=60, clock=clock)
    breaker = breakers.get("orders")
    for _ in range(100):
        clock.advance(20)
        breakers.get("other")
        with contextlib.suppress(CircuitOpenError, OSError), breaker.calling():
            raise OSError("down")
    assert breaker in list(breakers)
