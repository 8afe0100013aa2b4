"""What every balancer promises, run over all of them."""

import gc
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from microservice_core import InvalidValueError, NoInstanceAvailableError, ServiceInstance
from microservice_lb import Balancer, Lease, create

NAMES = (
    "random",
    "weighted_random",
    "round_robin",
    "smooth_weighted_round_robin",
    "least_active",
    "power_of_two_choices",
    "peak_ewma",
    "ring_hash",
    "maglev",
    "rendezvous",
)
# A full table takes too long to fill hundreds of times on a busy machine.
OPTIONS = {"maglev": {"table_size": 1009}}
KEYS = [f"user:{number}" for number in range(200)]


@dataclass
class Host:
    instance_id: str
    weight: float = 1.0
    label: str = ""


@pytest.fixture(params=NAMES)
def balancer(request: pytest.FixtureRequest) -> Balancer[Host]:
    return create(
        request.param, name="orders", rng=random.Random(7), **OPTIONS.get(request.param, {})
    )


def collect_picks(balancer: Balancer[Host], exclude: frozenset[str] = frozenset()) -> set[str]:
    return {balancer.pick(key, exclude).instance_id for key in KEYS}


def test_every_endpoint_is_picked_sooner_or_later(balancer: Balancer[Host]) -> None:
    balancer.update([Host("a"), Host("b"), Host("c")])
    assert collect_picks(balancer) == {"a", "b", "c"}


def test_the_endpoint_comes_back_as_the_object_it_was(balancer: Balancer[Host]) -> None:
    host = Host("a")
    balancer.update([host])
    assert balancer.pick() is host
    assert list(balancer.endpoints) == [host]


def test_excluded_endpoints_are_not_picked(balancer: Balancer[Host]) -> None:
    balancer.update([Host(name) for name in "abcdef"])
    assert collect_picks(balancer, frozenset("ab")) == set("cdef")
    assert collect_picks(balancer, frozenset("abcde")) == {"f"}


def test_unknown_ids_in_exclude_change_nothing(balancer: Balancer[Host]) -> None:
    balancer.update([Host("a"), Host("b")])
    assert collect_picks(balancer, frozenset({"elsewhere"})) == {"a", "b"}


def test_weight_zero_drains(balancer: Balancer[Host]) -> None:
    balancer.update([Host("a"), Host("b", 0), Host("c")])
    assert collect_picks(balancer) == {"a", "c"}
    assert collect_picks(balancer, frozenset("a")) == {"c"}


def test_nobody_there_is_an_error_that_says_why(balancer: Balancer[Host]) -> None:
    with pytest.raises(NoInstanceAvailableError, match=r"'orders'.*there are no endpoints"):
        balancer.pick()
    balancer.update([Host("a", 0), Host("b", 0)])
    with pytest.raises(NoInstanceAvailableError, match="every endpoint has weight 0"):
        balancer.pick("key")
    balancer.update([Host("a"), Host("b", 0)])
    with pytest.raises(NoInstanceAvailableError, match=r"excluded \(1 ids\)"):
        balancer.pick("key", {"a"})
    with pytest.raises(NoInstanceAvailableError):
        balancer.acquire(exclude=["a"])


def test_the_last_endpoint_may_leave_and_come_back(balancer: Balancer[Host]) -> None:
    balancer.update([Host("a")])
    balancer.update([])
    with pytest.raises(NoInstanceAvailableError):
        balancer.pick()
    balancer.update([Host("a")])
    assert balancer.pick().instance_id == "a"


@pytest.mark.parametrize("name", NAMES)
def test_in_a_panic_drained_and_excluded_endpoints_serve(name: str) -> None:
    balancer: Balancer[Host] = create(name, panic=True, **OPTIONS.get(name, {}))
    balancer.update([Host("a", 0), Host("b", 0)])
    assert collect_picks(balancer) == {"a", "b"}
    assert collect_picks(balancer, frozenset("a")) == {"b"}
    assert collect_picks(balancer, frozenset("ab")) == {"a", "b"}
    balancer.update([])
    with pytest.raises(NoInstanceAvailableError):
        balancer.pick()


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), float("-inf"), "3"])
def test_a_weight_nobody_can_honour_is_refused_and_nothing_changes(
    balancer: Balancer[Host], weight: float
) -> None:
    balancer.update([Host("a")])
    with pytest.raises(InvalidValueError, match="weight of 'b' must be a finite number"):
        balancer.update([Host("c"), Host("b", weight)])
    assert collect_picks(balancer) == {"a"}


@pytest.mark.parametrize("ids", [["b", "c", "b"], ["b", ""]])
def test_duplicate_and_empty_ids_are_refused_and_nothing_changes(
    balancer: Balancer[Host], ids: list[str]
) -> None:
    balancer.update([Host("a")])
    with pytest.raises(InvalidValueError, match="instance_id must be a non-empty id"):
        balancer.update([Host(name) for name in ids])
    assert collect_picks(balancer) == {"a"}


def test_only_acquire_counts_as_active(balancer: Balancer[Host]) -> None:
    balancer.update([Host("a")])
    balancer.pick()
    assert balancer.active("a") == 0
    lease = balancer.acquire()
    assert (lease.endpoint.instance_id, balancer.active("a")) == ("a", 1)
    lease.release()
    assert balancer.active("a") == 0
    assert balancer.active("unknown") == 0


def test_a_lease_is_released_exactly_once(balancer: Balancer[Host]) -> None:
    balancer.update([Host("a")])
    with balancer.acquire(), balancer.acquire() as lease:
        assert "held" in repr(lease)
        lease.release()
        lease.release(ValueError())
        assert balancer.active("a") == 1
    assert balancer.active("a") == 0
    assert "'a', released" in repr(lease)


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), GeneratorExit()])
def test_a_with_block_releases_however_it_ends(
    balancer: Balancer[Host], error: BaseException
) -> None:
    balancer.update([Host("a")])
    with pytest.raises(type(error)), balancer.acquire():
        raise error
    assert balancer.active("a") == 0


def test_a_dropped_lease_is_released_by_collection(balancer: Balancer[Host]) -> None:
    balancer.update([Host("a")])
    cycle: list[object] = [balancer.acquire()]
    cycle.append(cycle)
    assert balancer.active("a") == 1
    del cycle
    gc.collect()
    assert balancer.active("a") == 0


def test_an_update_keeps_counters_of_those_that_stay(balancer: Balancer[Host]) -> None:
    balancer.update([Host("a"), Host("b", 0)])
    lease = balancer.acquire()
    balancer.update([Host("c", 0), Host("a", 3.0, "renewed")])
    assert balancer.active("a") == 1
    assert balancer.pick().label == "renewed"
    lease.release()
    assert balancer.active("a") == 0


def test_an_endpoint_that_leaves_and_returns_finds_its_calls_again(
    balancer: Balancer[Host],
) -> None:
    balancer.update([Host("a")])
    lease = balancer.acquire()
    balancer.update([Host("b")])
    assert balancer.active("a") == 0
    balancer.update([Host("a"), Host("b")])
    assert balancer.active("a") == 1
    lease.release()
    assert balancer.active("a") == 0


def test_a_service_instance_is_an_endpoint(balancer: Balancer[ServiceInstance]) -> None:
    balancer.update([ServiceInstance("orders", "10.0.0.1", 8080)])
    lease: Lease[ServiceInstance] = balancer.acquire()
    with lease as held:
        assert held.endpoint.base_url == "http://10.0.0.1:8080"


def run_in_threads(work: list[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def run_guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - handed to the test below
            failures.append(error)

    threads = [threading.Thread(target=run_guarded, args=(function,)) for function in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_picks_go_on_while_endpoints_come_and_go(balancer: Balancer[Host]) -> None:
    always = [Host("a", 2.0), Host("b", 3.0)]
    sometimes = [Host(f"s{number}", 1.0 + number) for number in range(20)]
    known = {host.instance_id for host in always + sometimes}
    balancer.update(always)
    left = iter(range(150))

    def churn() -> None:
        for size in left:
            balancer.update(always + sometimes[: size % 20])

    def call() -> None:
        for key in KEYS * 3:
            with balancer.acquire(key) as lease:
                assert lease.endpoint.instance_id in known
            assert balancer.pick(key, {"a"}).instance_id != "a"

    run_in_threads([churn, call, call, call])
    assert {host.instance_id: balancer.active(host.instance_id) for host in always} == {
        "a": 0,
        "b": 0,
    }


@pytest.mark.parametrize("name", NAMES)
def test_calls_in_the_middle_of_an_update_that_drains_go_on(name: str) -> None:
    """What another thread sees between two steps of `update`, in each of its steps."""
    balancer: Any = create(name, rng=random.Random(7), **OPTIONS.get(name, {}))
    hosts = [Host("a", 1), Host("b", 2), Host("c", 3)]
    balancer.update(hosts)

    class Interrupted(type(balancer)):  # type: ignore[misc]
        __slots__ = ()

        def _rebuild(self, nodes: Any) -> None:
            call()
            super()._rebuild(nodes)
            call()

    def call() -> None:
        for number in range(60):
            with balancer.acquire(f"user:{number}"):
                assert balancer.pick(f"user:{number}", {"a"}).instance_id != "a"
        held.pop().release()

    held = [balancer.acquire() for _ in range(40)]
    balancer.__class__ = Interrupted
    for drained in ("a", "b", "ab"):
        balancer.update([Host(h.instance_id, 0 if h.instance_id in drained else 9) for h in hosts])
        balancer.update(hosts)
    assert balancer.weights() == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    "weights",
    [[1e308, 1e308, 1.0], [1e308] * 3, [5e-324, 1e308, 1.0], [5e-324] * 3],
    ids=["two large", "large", "far apart", "small"],
)
def test_any_weights_above_0_can_be_balanced(
    balancer: Balancer[Host], weights: list[float]
) -> None:
    balancer.update([Host(name, weight) for name, weight in zip("abc", weights, strict=True)])
    assert collect_picks(balancer) <= set("abc")
    with balancer.acquire():
        assert collect_picks(balancer, frozenset("ab")) == {"c"}


def test_one_id_is_no_collection_of_ids(balancer: Balancer[Host]) -> None:
    balancer.update([Host("a"), Host("ab"), Host("abc")])
    with pytest.raises(InvalidValueError, match="exclude must be a collection of instance ids"):
        balancer.pick("user:1", "abc")
    with pytest.raises(InvalidValueError, match="exclude must be a collection of instance ids"):
        balancer.acquire("user:1", "abc")


def test_a_key_with_a_lone_surrogate_is_a_key(balancer: Balancer[Host]) -> None:
    balancer.update([Host("a"), Host("b")])
    assert balancer.pick("\ud800").instance_id in {"a", "b"}


def test_an_id_that_cannot_be_encoded_changes_nothing(balancer: Balancer[Host]) -> None:
    balancer.update([Host("a")])
    with pytest.raises(InvalidValueError, match="instance_id must be"):
        balancer.update([Host("a", 0), Host("\ud800")])
    assert collect_picks(balancer) == {"a"}
