import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_core import InvalidValueError
from microservice_lb import OutlierConfig, OutlierEjection, RoundRobin


class Host:
    weight = 1.0

    def __init__(self, number: int) -> None:
        self.instance_id = f"h{number}"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Diary:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_pick(self, endpoint: Any) -> None:
        raise AssertionError("not its business")

    def on_eject(self, endpoint: Any, reason: str) -> None:
        self.lines.append(f"-{endpoint.instance_id} {reason}")

    def on_return(self, endpoint: Any) -> None:
        self.lines.append(f"+{endpoint.instance_id}")

    def on_panic(self, panicking: bool) -> None:
        raise AssertionError("not its business")


class Fleet:
    """Hosts behind the stage, and a way to say how their calls end."""

    def __init__(self, size: int = 10, **settings: Any) -> None:
        self.clock, self.diary = Clock(), Diary()
        self.hosts = [Host(number) for number in range(size)]
        self.stage = OutlierEjection(
            RoundRobin[Host](),
            config=OutlierConfig(**settings),
            is_failure=lambda error: not isinstance(error, KeyError),
            clock=self.clock,
            observer=self.diary,
        )
        self.stage.update(self.hosts)

    def report(self, number: int, good: int = 0, bad: int = 0) -> None:
        for error in [None] * good + [OSError()] * bad:
            self.stage.on_outcome(self.hosts[number], 0.1, error)

    def end_interval(self) -> None:
        self.clock.now += self.stage.config.interval_seconds
        self.report(0, good=1)

    def collect_picks(self) -> set[str]:
        return {self.stage.pick().instance_id for _ in range(3 * len(self.hosts))}


def test_errors_in_a_row_eject_at_once() -> None:
    fleet = Fleet()
    fleet.report(3, bad=4)
    fleet.report(3, good=1)
    fleet.report(3, bad=4)
    assert fleet.stage.ejected_ids == frozenset()
    fleet.report(3, bad=1)
    assert fleet.stage.ejected_ids == {"h3"}
    assert "h3" not in fleet.collect_picks()
    assert fleet.diary.lines == ["-h3 consecutive_errors"]
    assert repr(fleet.stage).startswith("OutlierEjection(1 of 10 ejected) > ")


def test_leases_are_counted() -> None:
    fleet = Fleet(2)
    for _ in range(5):
        lease = fleet.stage.acquire(exclude={"h0"})
        lease.release(OSError())
        lease.release(OSError())
    assert fleet.stage.ejected_ids == {"h1"}


def test_cancellation_and_what_is_no_failure_do_not_count() -> None:
    fleet = Fleet()
    for error in (KeyboardInterrupt(), GeneratorExit(), KeyError()):
        for _ in range(20):
            fleet.stage.on_outcome(fleet.hosts[1], 0.1, error)
    for _ in range(20):
        fleet.stage.acquire(exclude={"h0"}).cancel()
    lease = fleet.stage.acquire()
    del lease
    fleet.stage.on_outcome(Host(99), 0.1, OSError())
    assert fleet.stage.ejected_ids == frozenset()


def test_each_ejection_lasts_longer_and_good_behaviour_shortens_the_next() -> None:
    fleet = Fleet(max_ejection_seconds=70)

    def time_out() -> float:
        fleet.report(3, bad=5)
        began = fleet.clock.now
        while "h3" not in fleet.collect_picks():
            fleet.clock.now += 5
        return fleet.clock.now - began

    assert [time_out() for _ in range(4)] == [30, 60, 70, 70]
    for _ in range(4):
        fleet.end_interval()
    assert time_out() == 30
    assert fleet.diary.lines[:4] == ["-h3 consecutive_errors", "+h3"] * 2


def test_a_worse_success_rate_than_the_others_ejects() -> None:
    fleet = Fleet(consecutive_errors=0)
    for number in range(10):
        fleet.report(number, good=99, bad=1)
    fleet.report(4, good=10, bad=40)
    assert fleet.stage.ejected_ids == frozenset()
    fleet.end_interval()
    assert fleet.stage.ejected_ids == {"h4"}
    assert fleet.diary.lines == ["-h4 success_rate"]


def test_everybody_equally_bad_is_no_outlier() -> None:
    fleet = Fleet(consecutive_errors=0, failure_percentage_threshold=0)
    for number in range(10):
        fleet.report(number, good=50, bad=50)
    fleet.end_interval()
    assert fleet.stage.ejected_ids == frozenset()


@pytest.mark.parametrize("hosts_with_volume", [4, 5])
def test_success_rates_need_enough_hosts_with_enough_calls(hosts_with_volume: int) -> None:
    fleet = Fleet(
        consecutive_errors=0, success_rate_stdev_factor=1.0, failure_percentage_threshold=0
    )
    for number in range(1, 1 + hosts_with_volume):
        fleet.report(number, good=100 if number > 1 else 70, bad=0 if number > 1 else 30)
    fleet.report(9, good=9, bad=90)
    fleet.end_interval()
    assert fleet.stage.ejected_ids == ({"h1"} if hosts_with_volume == 5 else set())


def test_a_failure_percentage_ejects() -> None:
    fleet = Fleet(
        consecutive_errors=0, success_rate_stdev_factor=0, failure_percentage_request_volume=50
    )
    for number in range(6):
        fleet.report(number, good=50)
    fleet.report(7, good=8, bad=42)
    fleet.report(8, good=7, bad=43)
    fleet.end_interval()
    assert fleet.stage.ejected_ids == {"h8"}
    assert fleet.diary.lines == ["-h8 failure_percentage"]


def test_counters_start_anew_each_interval() -> None:
    fleet = Fleet(consecutive_errors=0)
    for _ in range(3):
        for number in range(10):
            fleet.report(number, good=40 if number != 4 else 2, bad=0 if number != 4 else 38)
        fleet.end_interval()
    assert fleet.stage.ejected_ids == frozenset()


@pytest.mark.parametrize(("percent", "most"), [(0, 0), (10, 1), (25, 3), (100, 9)])
def test_no_more_than_the_share_allowed_are_ejected(percent: float, most: int) -> None:
    fleet = Fleet(max_ejection_percent=percent)
    for number in range(10):
        fleet.report(number, bad=5)
    assert len(fleet.stage.ejected_ids) == most
    assert len(fleet.collect_picks()) == 10 - most


def test_the_last_one_is_never_ejected() -> None:
    fleet = Fleet(1, max_ejection_percent=100)
    fleet.report(0, bad=50)
    assert fleet.collect_picks() == {"h0"}


def test_an_update_keeps_who_is_ejected_and_forgets_who_is_gone() -> None:
    fleet = Fleet()
    fleet.report(3, bad=5)
    fleet.stage.update([*fleet.hosts, Host(77)])
    assert fleet.stage.ejected_ids == {"h3"}
    assert "h3" not in fleet.collect_picks()
    fleet.stage.update(fleet.hosts[4:])
    assert fleet.stage.ejected_ids == frozenset()
    fleet.clock.now += 31
    assert "h3" not in fleet.collect_picks()
    assert len(fleet.stage.endpoints) == 6


def test_a_call_returns_those_whose_time_is_over_by_acquire_too() -> None:
    fleet = Fleet(2, max_ejection_percent=100)
    fleet.report(1, bad=5)
    fleet.clock.now += 30
    with fleet.stage.acquire():
        pass
    assert fleet.stage.ejected_ids == frozenset()


def test_without_an_observer_it_works_the_same() -> None:
    stage = OutlierEjection(RoundRobin[Host](), clock=(clock := Clock()))
    hosts = [Host(number) for number in range(3)]
    stage.update(hosts)
    for _ in range(5):
        stage.on_outcome(hosts[0], 0.1, OSError())
    assert stage.ejected_ids == {"h0"}
    clock.now += 30
    stage.pick()
    assert stage.ejected_ids == frozenset()


@given(
    moves=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["good", "bad", "wait", "update"])),
        max_size=150,
    ),
    percent=st.sampled_from([10.0, 50.0, 100.0]),
)
def test_whatever_happens_somebody_is_left_and_the_cap_holds(
    moves: list[tuple[int, str]], percent: float
) -> None:
    fleet = Fleet(6, max_ejection_percent=percent, consecutive_errors=2)
    for number, move in moves:
        if move == "wait":
            fleet.clock.now += 7 * number
        elif move == "update":
            fleet.stage.update(fleet.hosts)
        else:
            fleet.report(number, good=move == "good", bad=move == "bad")
        assert fleet.stage.pick().instance_id not in fleet.stage.ejected_ids
        assert len(fleet.stage.ejected_ids) <= min(5, 6 * percent / 100 + 1)
    fleet.clock.now += 1000
    assert len(fleet.collect_picks()) == 6


def test_threads_may_report_while_others_update() -> None:
    fleet = Fleet(6, max_ejection_percent=50, consecutive_errors=2, base_ejection_seconds=0.001)

    def report() -> None:
        for number in range(600):
            with fleet.stage.acquire() as lease:
                pass
            fleet.stage.on_outcome(lease.endpoint, 0.1, OSError() if number % 3 else None)
            fleet.clock.now += 0.001

    def update() -> None:
        for size in range(200):
            fleet.stage.update(fleet.hosts[: 2 + size % 5])

    threads = [threading.Thread(target=work) for work in (report, report, update)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fleet.stage.update(fleet.hosts)
    fleet.clock.now += 1000
    fleet.stage.pick()
    assert len(fleet.collect_picks()) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"consecutive_errors": -1}, "consecutive_errors must be a number from 0"),
        ({"interval_seconds": 0}, r"interval_seconds must be a number from 0\.001"),
        ({"max_ejection_percent": 101}, "max_ejection_percent must be a number from 0 to 100"),
        ({"failure_percentage_threshold": float("nan")}, "failure_percentage_threshold"),
        ({"base_ejection_seconds": 400.0}, "max_ejection_seconds must be at least base_ejection"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        OutlierConfig(**settings)


def test_calls_that_fail_after_the_ejection_do_not_count_after_the_return() -> None:
    fleet = Fleet(base_ejection_seconds=30)
    leases = [fleet.stage.acquire() for _ in range(200)]
    hung = [lease for lease in leases if lease.endpoint.instance_id == "h3"]
    for lease in hung:
        lease.release(TimeoutError())
    assert len(hung) == 20
    assert fleet.stage.ejected_ids == {"h3"}
    fleet.clock.now += 31
    assert "h3" in fleet.collect_picks()
    fleet.report(3, bad=4)
    assert fleet.stage.ejected_ids == frozenset()
    fleet.report(3, bad=1)
    assert fleet.stage.ejected_ids == {"h3"}
