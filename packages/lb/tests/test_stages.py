import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from microservice_core import InvalidValueError, NoInstanceAvailableError
from microservice_lb import (
    Balancer,
    HealthFilter,
    ObservedBalancer,
    PeakEwma,
    PriorityLevels,
    RingHash,
    RoundRobin,
    SlowStart,
    SmoothWeightedRoundRobin,
    Subset,
    WeightedRandom,
    WeightFilter,
    ZonePreference,
    level_loads,
)


@dataclass(frozen=True)
class Host:
    instance_id: str
    weight: float = 1.0
    healthy: bool = True
    priority: int = 0
    zone: str = ""


class Diary:
    """An observer that writes down what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_pick(self, endpoint: Any) -> None:
        self.lines.append(f"picked {endpoint.instance_id}")

    def on_eject(self, endpoint: Any, reason: str) -> None:
        self.lines.append(f"ejected {endpoint.instance_id}: {reason}")

    def on_return(self, endpoint: Any) -> None:
        self.lines.append(f"returned {endpoint.instance_id}")

    def on_panic(self, panicking: bool) -> None:
        self.lines.append(f"panic {panicking}")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def hosts(healthy: int, sick: int = 0, **fields: Any) -> list[Host]:
    return [Host(f"{fields}{n}", healthy=n < healthy, **fields) for n in range(healthy + sick)]


def shares(balancer: Balancer[Host], picks: int = 4000) -> Counter[str]:
    return Counter(balancer.pick().instance_id for _ in range(picks))


def weighted() -> WeightedRandom[Host]:
    return WeightedRandom(rng=random.Random(4))


# --- every stage keeps the contract

STAGES: list[Callable[[], Balancer[Host]]] = [
    lambda: HealthFilter(weighted()),
    lambda: WeightFilter(weighted()),
    lambda: Subset(weighted(), client=0, clients=3),
    lambda: SlowStart(weighted()),
    lambda: PriorityLevels(weighted),
    lambda: ZonePreference(weighted, zone="here"),
    lambda: ObservedBalancer(weighted(), observer=Diary()),
    lambda: WeightFilter(HealthFilter(SlowStart(PeakEwma()))),
]
NAMES = ["health", "weight", "subset", "slow start", "priority", "zone", "observed", "stack"]


@pytest.fixture(params=STAGES, ids=NAMES)
def stage(request: pytest.FixtureRequest) -> Balancer[Host]:
    make: Callable[[], Balancer[Host]] = request.param
    return make()


def test_a_stage_picks_excludes_drains_and_counts_like_a_balancer(stage: Balancer[Host]) -> None:
    with pytest.raises(NoInstanceAvailableError):
        stage.pick()
    stage.update([Host("a"), Host("b"), Host("c", 0)])
    assert {stage.pick(f"key {n}").instance_id for n in range(60)} == {"a", "b"}
    assert {stage.pick("key", {"a"}).instance_id for _ in range(20)} == {"b"}
    with pytest.raises(NoInstanceAvailableError):
        stage.acquire("key", {"a", "b"})
    with stage.acquire("key", ["b"]) as lease:
        assert lease.endpoint.instance_id == "a"
        assert stage.active("a") == 1
    assert stage.active("a") == 0
    assert [host.instance_id for host in stage.endpoints] == ["a", "b", "c"]


def test_a_stage_refuses_what_a_balancer_refuses_and_nothing_changes(stage: Balancer[Host]) -> None:
    stage.update([Host("a")])
    bad: list[list[Host]] = [
        [Host("b"), Host("b")],
        [Host("b", -1.0)],
        [Host("b", float("nan"), healthy=False)],
    ]
    for endpoints in bad:
        with pytest.raises(InvalidValueError):
            stage.update(endpoints)
    with pytest.raises(InvalidValueError, match="weights must be one for each of 1, not 2"):
        stage.update([Host("b")], weights=[1.0, 2.0])
    assert [host.instance_id for host in stage.endpoints] == ["a"]
    assert stage.pick().instance_id == "a"


def test_a_stage_explains_itself_from_the_outside_in(stage: Balancer[Host]) -> None:
    stage.update([Host("a")])
    explanation = stage.explain("key")
    assert explanation.endpoint.instance_id == "a"
    assert type(stage).__name__ in explanation.steps[0]
    assert str(explanation).endswith("-> a")


def test_a_balancer_built_from_stages_prints_what_it_is() -> None:
    balancer = WeightFilter(
        HealthFilter(Subset(SlowStart(PeakEwma[Host]()), client=1, clients=4), panic_threshold=0.3)
    )
    assert repr(balancer) == (
        "WeightFilter() > HealthFilter(panic_threshold=0.3) > "
        "Subset(client=1, clients=4, size=12) > "
        "SlowStart(window_seconds=60.0, aggression=1.0) > PeakEwma(decay_seconds=10.0)"
    )
    levels = PriorityLevels(RingHash[Host])
    assert repr(levels).startswith("PriorityLevels({0: 100%}) > RingHash(")


# --- health and weight


def test_only_the_healthy_are_picked() -> None:
    balancer = HealthFilter(RoundRobin[Host]())
    balancer.update(hosts(3, 2))
    assert set(shares(balancer, 30)) == {host.instance_id for host in hosts(3)}


def test_below_the_threshold_health_is_ignored_and_the_observer_told() -> None:
    diary = Diary()
    balancer = HealthFilter(RoundRobin[Host](), panic_threshold=0.5, observer=diary)
    balancer.update(hosts(2, 2))
    assert (len(shares(balancer, 40)), balancer.panicking) == (2, False)
    balancer.update(hosts(1, 3))
    assert (len(shares(balancer, 40)), balancer.panicking) == (4, True)
    assert "panicking" in repr(balancer)
    balancer.update(hosts(1, 4))
    balancer.update(hosts(3, 1))
    assert len(shares(balancer, 40)) == 3
    assert diary.lines == ["panic True", "panic False"]


def test_with_threshold_zero_nobody_healthy_is_an_error() -> None:
    balancer = HealthFilter(RoundRobin[Host](), panic_threshold=0)
    balancer.update(hosts(0, 3))
    with pytest.raises(NoInstanceAvailableError):
        balancer.pick()
    assert len(balancer.endpoints) == 3


def test_health_may_come_from_anywhere() -> None:
    balancer = HealthFilter(RoundRobin[Host](), health=lambda host: host.zone == "up")
    balancer.update([Host("a", zone="up"), Host("b", zone="down")])
    assert set(shares(balancer, 10)) == {"a"}


def test_weights_may_come_from_anywhere() -> None:
    balancer = WeightFilter(weighted(), weight=lambda host: float(host.zone or 0))
    balancer.update([Host("a", zone="3"), Host("b", zone="1"), Host("c")])
    share = shares(balancer)
    assert share["a"] / share["b"] == pytest.approx(3, rel=0.15)
    assert share["c"] == 0


def test_the_drained_do_not_count_as_sick() -> None:
    inner = HealthFilter(RoundRobin[Host](), panic_threshold=0.5)
    balancer = WeightFilter(inner)
    drained = [replace(host, weight=0.0, healthy=False) for host in hosts(0, 5, zone="old")]
    balancer.update([*hosts(1, 1), *drained])
    assert not inner.panicking


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_share_is_refused(threshold: float) -> None:
    with pytest.raises(InvalidValueError, match="panic_threshold must be a share from 0 to 1"):
        HealthFilter(RoundRobin[Host](), panic_threshold=threshold)


# --- subsets


@given(
    endpoints=st.integers(1, 40),
    clients=st.integers(1, 25),
    size=st.integers(1, 20),
)
def test_all_clients_together_cover_all_endpoints_evenly(
    endpoints: int, clients: int, size: int
) -> None:
    total = Counter[str]()
    for client in range(clients):
        inner = weighted()
        Subset(inner, client=client, clients=clients, size=size).update(hosts(endpoints))
        shares = inner.weights()
        assert sum(shares.values()) >= min(size, endpoints) - 1e-9
        assert sum(shares.values()) <= max(size, 1) + endpoints / clients + 1e-9
        total.update(shares)
    assert len(total) == endpoints
    assert max(total.values()) == pytest.approx(min(total.values()))


def test_a_client_sees_the_same_subset_whatever_the_order() -> None:
    first = Subset(RoundRobin[Host](), client=2, clients=9, size=3)
    again = Subset(RoundRobin[Host](), client=2, clients=9, size=3)
    first.update(hosts(30))
    again.update(hosts(30)[::-1])
    assert set(shares(first, 90)) == set(shares(again, 90))
    assert 3 <= len(shares(first, 90)) <= 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"client": 0, "clients": 0}, "clients must be at least 1"),
        ({"client": 3, "clients": 3}, "client must be from 0 to 2"),
        ({"client": 0, "clients": 1, "size": 0}, "size must be at least 1"),
    ],
)
def test_subsets_that_cannot_be_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        Subset(RoundRobin[Host](), **options)


# --- priority levels, as in Envoy's documentation


@pytest.mark.parametrize(
    ("healthy", "loads"),
    [
        ((72, 72), [100, 0]),
        ((71, 100), [99, 1]),
        ((50, 60), [70, 30]),
        ((25, 100), [35, 65]),
        ((25, 25), [50, 50]),
        ((25, 25, 100), [35, 35, 30]),
        ((25, 25, 20), [36, 36, 28]),
        ((5, 65), [7, 93]),
        ((0, 100), [0, 100]),
        ((0, 0), [100, 0]),
        ((0, 1), [0, 100]),
        ((0, 0.5), [0, 100]),  # one healthy endpoint of 200; Envoy rounds it down to none
        ((0.1, 0, 0.1), [50, 0, 50]),
        ((100,), [100]),
    ],
)
def test_loads_are_envoys(healthy: tuple[float, ...], loads: list[int]) -> None:
    assert level_loads(healthy) == loads


@example(healthy=[0.0, 0.5])
@given(healthy=st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_loads_always_sum_up_to_everything(healthy: list[float]) -> None:
    loads = level_loads(healthy)
    assert sum(loads) == 100
    assert all(load >= 0 for load in loads)
    assert not any(healthy) or all(
        load == 0 for load, h in zip(loads, healthy, strict=True) if not h
    )


def two_levels(first: tuple[int, int], second: tuple[int, int], **options: Any) -> Any:
    balancer = PriorityLevels(RoundRobin[Host], rng=random.Random(2), **options)
    balancer.update([*hosts(*first, priority=0), *hosts(*second, priority=1)])
    return balancer


def level_share(balancer: Balancer[Host], **options: Any) -> float:
    picks = [balancer.pick(**options) for _ in range(4000)]
    return sum(host.priority == 0 for host in picks) / len(picks)


def test_the_next_level_takes_what_the_first_lacks() -> None:
    balancer = two_levels((5, 5), (10, 0))
    assert balancer.loads == {0: 70, 1: 30}
    assert level_share(balancer) == pytest.approx(0.7, abs=0.03)
    assert all(balancer.pick().healthy for _ in range(100))


def test_levels_short_of_capacity_panic_each_by_its_own_health() -> None:
    diary = Diary()
    balancer = two_levels((5, 95), (65, 35), observer=diary)
    assert balancer.panicking == (0,)
    assert diary.lines == ["panic True"]
    picks = [balancer.pick() for _ in range(4000)]
    assert any(not host.healthy for host in picks if host.priority == 0)
    assert all(host.healthy for host in picks if host.priority == 1)
    assert two_levels((25, 75), (25, 75)).panicking == (0, 1)
    assert two_levels((25, 75), (100, 0)).panicking == ()
    balancer.update(hosts(3))
    assert diary.lines == ["panic True", "panic False"]


def test_with_everybody_sick_the_first_level_serves_in_a_panic() -> None:
    balancer = two_levels((0, 3), (0, 3))
    assert level_share(balancer) == 1
    assert "panicking=(0, 1)" in repr(balancer)


def test_a_key_decides_on_the_level_too() -> None:
    balancer = PriorityLevels(RingHash[Host])
    balancer.update([*hosts(5, 5, priority=0), *hosts(10, priority=1)])
    picks = {f"user:{n}": balancer.pick(f"user:{n}") for n in range(2000)}
    assert all(balancer.pick(key) == host for key, host in picks.items())
    assert all(balancer.pick(key.encode()) == host for key, host in picks.items())
    assert sum(h.priority == 0 for h in picks.values()) / 2000 == pytest.approx(0.7, abs=0.05)


def test_when_a_whole_level_is_excluded_the_others_serve() -> None:
    balancer = two_levels((2, 0), (2, 0))
    first = {host.instance_id for host in hosts(2, priority=0)}
    assert level_share(balancer, exclude=first) == 0
    everybody = first | {host.instance_id for host in hosts(2, priority=1)}
    with pytest.raises(NoInstanceAvailableError):
        balancer.pick(exclude=everybody)


def test_an_endpoint_keeps_its_calls_when_a_level_empties_and_fills() -> None:
    balancer = two_levels((2, 0), (1, 0))
    lease = balancer.acquire()
    balancer.update(hosts(1, priority=1))
    assert balancer.pick().priority == 1
    balancer.update([*hosts(2, priority=0), *hosts(1, priority=1)])
    assert balancer.active(lease.endpoint.instance_id) == 1


@pytest.mark.parametrize("options", [{"overprovisioning": 0.5}, {"panic_threshold": 2}])
def test_level_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidValueError):
        PriorityLevels(RoundRobin[Host], **options)  # type: ignore[arg-type]


# --- zones


def zones(here: tuple[int, int], there: int) -> ZonePreference[Host]:
    balancer = ZonePreference(RoundRobin[Host], zone="here", rng=random.Random(2))
    balancer.update([*hosts(*here, zone="here"), *hosts(there, zone="there")])
    return balancer


def test_the_own_zone_serves_alone_while_it_is_well() -> None:
    assert {zones((8, 2), 10).pick().zone for _ in range(200)} == {"here"}


def test_other_zones_help_out_as_far_as_the_own_one_lacks() -> None:
    balancer = zones((5, 5), 10)
    share = sum(balancer.pick().zone == "here" for _ in range(4000)) / 4000
    assert share == pytest.approx(0.7, abs=0.03)


def test_without_anybody_in_the_own_zone_the_others_serve() -> None:
    assert {zones((0, 0), 3).pick().zone for _ in range(20)} == {"there"}


# --- slow start


def slow_start(clock: Clock, **options: Any) -> SlowStart[Host]:
    inner = SmoothWeightedRoundRobin[Host](rng=random.Random(1))
    balancer = SlowStart(inner, clock=clock, **options)
    balancer.update([Host("a"), Host("b")])
    return balancer


def share_of(balancer: Balancer[Host], name: str) -> float:
    return shares(balancer, 3000)[name] / 3000


def test_those_of_the_first_update_count_as_warm() -> None:
    assert share_of(slow_start(Clock()), "a") == pytest.approx(0.5, abs=0.01)


def test_a_new_endpoint_gets_its_share_by_and_by() -> None:
    clock = Clock()
    balancer = slow_start(clock, window_seconds=60, minimum=0.1)
    clock.now += 5
    balancer.update([Host("a"), Host("c")])
    seen = []
    for _ in range(5):
        part = share_of(balancer, "c")
        seen.append(part / (1 - part))
        clock.now += 15
    assert seen == pytest.approx([0.1, 0.25, 0.5, 0.75, 1.0], abs=0.02)


def test_aggression_makes_the_start_steeper() -> None:
    clock = Clock()
    balancer = slow_start(clock, window_seconds=60, aggression=2.0)
    balancer.update([Host("a"), Host("c")])
    clock.now += 15
    part = share_of(balancer, "c")
    assert part / (1 - part) == pytest.approx(0.5, abs=0.02)


def test_an_update_does_not_start_anybody_anew() -> None:
    clock = Clock()
    balancer = slow_start(clock, window_seconds=60)
    balancer.update([Host("a"), Host("c")])
    clock.now += 30
    balancer.update([Host("a"), Host("c"), Host("d", 0)])
    part = share_of(balancer, "c")
    assert part / (1 - part) == pytest.approx(0.5, abs=0.02)


def test_an_empty_list_in_between_does_not_make_everybody_new() -> None:
    clock = Clock()
    balancer = slow_start(clock)
    balancer.update([])
    balancer.update([Host("a"), Host("b")])
    clock.now += 1
    balancer.update([Host("a"), Host("b"), Host("c")])
    with balancer.acquire() as lease:
        assert lease.endpoint.instance_id in "abc"
    assert share_of(balancer, "c") < 0.1


@pytest.mark.parametrize(
    "options", [{"window_seconds": 0}, {"aggression": 0}, {"minimum": 1.5}], ids=str
)
def test_slow_start_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidValueError):
        SlowStart(RoundRobin[Host](), **options)  # type: ignore[arg-type]


# --- observers


def test_an_observer_hears_of_every_pick() -> None:
    diary = Diary()
    balancer = ObservedBalancer(RoundRobin[Host](), observer=diary)
    balancer.update([Host("a")])
    balancer.pick()
    balancer.acquire().release()
    assert diary.lines == ["picked a", "picked a"]
