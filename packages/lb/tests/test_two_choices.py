import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from microservice_core import InvalidValueError
from microservice_lb import PeakEwma, PowerOfTwoChoices

Fleet = Callable[..., list[Any]]


class Clock:
    now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_ewma(hosts: list[Any], clock: Clock, **options: Any) -> PeakEwma[Any]:
    balancer = PeakEwma[Any](rng=random.Random(1), clock=clock, **options)
    balancer.update(hosts)
    return balancer


def teach(balancer: PeakEwma[Any], latencies: dict[str, float]) -> None:
    for host in balancer.endpoints:
        if host.instance_id in latencies:
            balancer.on_outcome(host, latencies[host.instance_id], None)


def counts(balancer: Any, picks: int = 2000, **options: Any) -> Counter[str]:
    return Counter(balancer.pick(**options).instance_id for _ in range(picks))


def test_of_two_the_idle_one_is_taken(fleet: Fleet) -> None:
    balancer = PowerOfTwoChoices[Any](rng=random.Random(1))
    balancer.update(fleet(2))
    lease = balancer.acquire()
    assert set(counts(balancer)) == set("ab") - {lease.endpoint.instance_id}


def test_the_two_are_always_different_so_the_busiest_is_never_taken(fleet: Fleet) -> None:
    balancer = PowerOfTwoChoices[Any](rng=random.Random(1))
    balancer.update(fleet(1))
    lease = balancer.acquire()
    balancer.update(fleet(5))
    assert set(counts(balancer)) == set("bcde")
    assert lease.endpoint.instance_id == "a"


@pytest.mark.parametrize("kind", [PowerOfTwoChoices, PeakEwma])
def test_idle_equals_share_evenly(fleet: Fleet, kind: type[PowerOfTwoChoices[Any]]) -> None:
    balancer = kind(rng=random.Random(3))
    balancer.update(fleet(8))
    assert all(150 < count < 350 for count in counts(balancer).values())
    assert len(counts(balancer)) == 8


@pytest.mark.parametrize("kind", [PowerOfTwoChoices, PeakEwma])
@pytest.mark.parametrize("excluded", [set(), {"d"}])
def test_idle_endpoints_share_by_weight(
    fleet: Fleet, kind: type[PowerOfTwoChoices[Any]], excluded: set[str]
) -> None:
    balancer = kind(rng=random.Random(3))
    balancer.update(fleet([6, 3, 1, 1e-9]))
    share = counts(balancer, 5000, exclude=excluded)
    assert [round(share[name] / 500) for name in "abc"] == [6, 3, 1]


def test_load_is_relative_to_weight(fleet: Fleet) -> None:
    balancer = PowerOfTwoChoices[Any](rng=random.Random(3))
    balancer.update(fleet([3, 1]))
    leases = [balancer.acquire() for _ in range(400)]
    assert (balancer.active("a"), balancer.active("b")) == (300, 100)
    assert len(leases) == 400


def test_a_giant_among_dwarfs_still_meets_a_second_choice(fleet: Fleet) -> None:
    balancer = PowerOfTwoChoices[Any](rng=random.Random(3))
    balancer.update(fleet([1e12, 1, 1]))
    assert set(counts(balancer, 200)) == {"a"}


def test_one_endpoint_needs_no_second(fleet: Fleet) -> None:
    balancer = PowerOfTwoChoices[Any]()
    balancer.update(fleet(1))
    assert balancer.pick().instance_id == "a"
    assert balancer.pick(exclude={"z"}).instance_id == "a"


def test_the_faster_of_two_is_taken(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(2), clock)
    teach(balancer, {"a": 0.010, "b": 0.040})
    assert set(counts(balancer)) == {"a"}


def test_calls_in_flight_outweigh_speed(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(2), clock)
    teach(balancer, {"a": 0.010, "b": 0.040})
    leases = [balancer.acquire() for _ in range(40)]
    # Costs level out where latency x (active + 1) does, from what is usual upwards.
    assert balancer.active("a") > 2 * balancer.active("b") > 0
    assert len(leases) == 40


def test_bad_news_counts_at_once_and_good_news_by_and_by(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(2), clock, decay_seconds=10.0)
    teach(balancer, {"a": 0.010})
    assert balancer.latency("a") == pytest.approx(0.010)
    teach(balancer, {"a": 0.500})
    assert balancer.latency("a") == pytest.approx(0.500)
    clock.now += 10.0
    teach(balancer, {"a": 0.010})
    assert balancer.latency("a") == pytest.approx(0.010 + 0.490 * 0.36788, rel=1e-3)
    assert balancer.latency("b") is None
    assert balancer.latency("unknown") is None


def test_a_lease_is_timed_from_acquire_to_release(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(1), clock)
    with balancer.acquire():
        clock.now += 0.25
    assert balancer.latency("a") == pytest.approx(0.25)
    with balancer.lease(balancer.pick()):
        clock.now += 0.5
    assert balancer.latency("a") == pytest.approx(0.5)


def test_a_slow_endpoint_is_tried_again_after_a_while(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(2), clock, decay_seconds=10.0)
    teach(balancer, {"a": 0.010, "b": 0.100})
    seen = []
    for _ in range(60):
        clock.now += 1.0
        with balancer.acquire() as lease:
            clock.now += 0.010
        seen.append(lease.endpoint.instance_id)
    assert seen[:5] == ["a"] * 5
    assert "b" in seen[10:40]


def test_an_idle_endpoint_becomes_usual_never_the_favourite(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(2), clock, decay_seconds=1.0)
    teach(balancer, {"a": 0.010, "b": 0.040})
    clock.now += 1000.0
    teach(balancer, {"a": 0.010})
    share = counts(balancer)
    assert share["a"] > 800


@pytest.mark.parametrize("failures", [1, 20])
def test_failing_fast_does_not_look_fast(fleet: Fleet, clock: Clock, failures: int) -> None:
    balancer = make_ewma(fleet(3), clock)
    teach(balancer, {"a": 0.050, "b": 0.050, "c": 0.050})
    for _ in range(failures):
        balancer.on_outcome(fleet(1)[0], 0.001, OSError("refused"))
    assert counts(balancer)["a"] == 0


def test_a_new_endpoint_that_fails_at_once_does_not_look_fast(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(1), clock)
    teach(balancer, {"a": 0.050})
    balancer.update(fleet(2))
    balancer.on_outcome(fleet(2)[1], 0.0001, OSError("refused"))
    assert counts(balancer)["b"] == 0


def test_a_success_rate_recovers(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(2), clock)
    teach(balancer, {"a": 0.050, "b": 0.050})
    for _ in range(20):
        balancer.on_outcome(fleet(1)[0], 0.001, OSError("refused"))
    teach(balancer, {"a": 0.050})
    assert counts(balancer)["a"] == 0
    for _ in range(300):
        teach(balancer, {"a": 0.050})
    assert 800 < counts(balancer)["a"] < 1200


def test_a_new_endpoint_gets_one_call_until_that_has_come_back(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(2), clock)
    teach(balancer, {"a": 0.010})
    balancer.update(fleet(2))
    leases = [balancer.acquire() for _ in range(30)]
    assert balancer.active("b") == 1
    for lease in leases:
        lease.release()
    leases = [balancer.acquire() for _ in range(30)]
    assert balancer.active("b") > 5


def test_a_cancelled_first_call_leaves_the_endpoint_new(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(2), clock)
    teach(balancer, {"a": 0.010})
    for _ in range(3):
        leases = [balancer.acquire() for _ in range(10)]
        assert balancer.active("b") == 1
        for lease in leases:
            lease.release(KeyboardInterrupt())
    assert balancer.latency("b") is None
    assert balancer.latency("a") == pytest.approx(0.010)


def test_a_call_that_was_not_made_after_all_teaches_nothing(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(1), clock)
    lease = balancer.acquire()
    clock.now += 1.0
    lease.cancel()
    lease.cancel()
    assert (balancer.latency("a"), balancer.active("a")) == (None, 0)


def test_outcomes_of_strangers_and_cancellations_teach_nothing(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(1), clock)
    balancer.on_outcome(fleet(2)[1], 1.0, None)
    balancer.on_outcome(fleet(1)[0], 1.0, GeneratorExit())
    assert (balancer.latency("a"), balancer.active("a")) == (None, 0)


def test_an_update_keeps_what_was_learned(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(2), clock)
    teach(balancer, {"a": 0.010, "b": 0.040})
    balancer.update(fleet([2, 2, 2]))
    assert balancer.latency("b") == pytest.approx(0.040)


def test_thousands_of_calls_in_flight_are_compared_too(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(2), clock)
    teach(balancer, {"a": 0.010, "b": 0.010})
    leases = [balancer.acquire() for _ in range(5000)]
    assert abs(balancer.active("a") - balancer.active("b")) < 50
    assert len(leases) == 5000


def test_a_call_of_no_time_at_all_is_measured(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(1), clock)
    balancer.acquire().release()
    assert balancer.latency("a") == pytest.approx(1e-6)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 86_400.5])
def test_a_decay_time_out_of_range_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidValueError, match=r"decay_seconds must be from 0\.001 to 86400"):
        PeakEwma(decay_seconds=seconds)


@pytest.mark.parametrize("excluded", [set(), {"c"}])
def test_what_was_measured_long_ago_has_faded_when_compared(
    fleet: Fleet, clock: Clock, excluded: set[str]
) -> None:
    balancer = make_ewma(fleet(3), clock, decay_seconds=10.0)
    for _ in range(200):
        teach(balancer, {"c": 0.001})
    teach(balancer, {"a": 0.040})
    clock.now += 10.0
    teach(balancer, {"b": 0.030})
    balancer.update(fleet(3 if excluded else 2))
    assert set(counts(balancer, exclude=excluded)) == {"a"}


def test_a_success_rate_counts_squared(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(3), clock)
    for _ in range(200):
        teach(balancer, {"c": 0.001})
    # One failure makes a's rate 0.9, so that it costs 1.23 times its latency.
    balancer.on_outcome(fleet(1)[0], 0.0100, OSError())
    teach(balancer, {"b": 0.0122})
    balancer.update(fleet(2))
    assert set(counts(balancer)) == {"b"}
    clock.now += 1e-9
    teach(balancer, {"b": 0.0125})
    assert set(counts(balancer)) == {"a"}


def test_calls_in_flight_multiply_the_cost(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(3), clock)
    for _ in range(200):
        teach(balancer, {"c": 0.001})
    teach(balancer, {"a": 0.0100, "b": 0.0290})
    balancer.update(fleet(2))
    leases = [balancer.acquire(), balancer.acquire()]
    assert (balancer.active("a"), balancer.active("b")) == (2, 0)
    assert set(counts(balancer)) == {"b"}
    assert len(leases) == 2


def test_calls_in_flight_count_relative_to_weight(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet([3, 1]), clock)
    teach(balancer, {"a": 0.010, "b": 0.010})
    leases = [balancer.acquire() for _ in range(400)]
    assert (balancer.active("a"), balancer.active("b")) == pytest.approx((300, 100), abs=3)
    assert len(leases) == 400


def test_with_unequal_weights_calls_in_flight_multiply_the_cost_too(
    fleet: Fleet, clock: Clock
) -> None:
    balancer = make_ewma(fleet([1, 1, 1, 2]), clock)
    for _ in range(200):
        teach(balancer, {"c": 0.001})
    teach(balancer, {"a": 0.010, "b": 0.019})
    leases = [balancer.lease(balancer.endpoints[0])]
    assert set(counts(balancer, exclude={"c", "d"})) == {"b"}
    assert len(leases) == 1


def test_a_lease_of_an_endpoint_picked_otherwise_counts_and_is_a_trial(
    fleet: Fleet, clock: Clock
) -> None:
    balancer = make_ewma(fleet(2), clock)
    teach(balancer, {"a": 0.010})
    busy = [balancer.lease(balancer.endpoints[0]) for _ in range(10)]
    leases = [balancer.lease(balancer.endpoints[1]) for _ in range(2)]
    assert balancer.active("b") == 2
    assert set(counts(balancer)) == {"a"}
    for lease in busy:
        lease.cancel()
    for lease in leases:
        lease.release(GeneratorExit())
    assert set(counts(balancer)) == {"a", "b"}


@pytest.mark.parametrize("seconds", [0.001, 86_400.0])
def test_the_ends_of_the_range_are_allowed(seconds: float) -> None:
    assert PeakEwma(decay_seconds=seconds).decay_seconds == seconds


def test_the_default_remembers_for_ten_seconds() -> None:
    assert repr(PeakEwma()) == "PeakEwma(decay_seconds=10.0)"


def test_a_clock_that_jumps_does_no_harm(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(2), clock, decay_seconds=0.001)
    for step in (1e9, -2e9, 0.0, 5.0, -1e12, 1e12):
        lease = balancer.acquire()
        clock.now += step
        lease.release()
        teach(balancer, {"a": 0.010, "b": 0.010})
        assert balancer.pick().instance_id in "ab"


def test_a_dead_endpoint_is_tried_again_within_five_decay_times(fleet: Fleet, clock: Clock) -> None:
    balancer = make_ewma(fleet(2), clock, decay_seconds=10.0)
    teach(balancer, {"a": 0.010, "b": 0.010})
    for _ in range(500):
        balancer.on_outcome(fleet(2)[1], 0.001, OSError("refused"))
    clock.now += 40.0
    teach(balancer, {"a": 0.010})
    assert counts(balancer)["b"] == 0
    clock.now += 10.0
    teach(balancer, {"a": 0.010})
    assert counts(balancer)["b"] > 0
