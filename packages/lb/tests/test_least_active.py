import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_lb import Lease, LeastActive

Fleet = Callable[..., list[Any]]


def make_balancer(hosts: list[Any], seed: int = 1) -> LeastActive[Any]:
    balancer = LeastActive[Any](rng=random.Random(seed))
    balancer.update(hosts)
    return balancer


def test_the_one_with_the_fewest_calls_is_next(fleet: Fleet) -> None:
    balancer = make_balancer(fleet(3))
    leases = [balancer.acquire() for _ in range(6)]
    assert {name: balancer.active(name) for name in "abc"} == {"a": 2, "b": 2, "c": 2}
    freed = leases[0].endpoint.instance_id
    leases[0].release()
    assert {balancer.pick().instance_id for _ in range(20)} == {freed}


def test_ties_are_settled_at_random(fleet: Fleet) -> None:
    balancer = make_balancer(fleet(4))
    counts = Counter(balancer.pick().instance_id for _ in range(4000))
    assert all(900 < counts[name] < 1100 for name in "abcd")


def test_ties_of_unequal_weights_follow_the_weights(fleet: Fleet) -> None:
    balancer = make_balancer(fleet([3, 1]))
    counts = Counter(balancer.pick().instance_id for _ in range(4000))
    assert 2800 < counts["a"] < 3200


def test_a_hundred_fresh_clients_do_not_all_choose_the_same(fleet: Fleet) -> None:
    firsts = {make_balancer(fleet(20), seed).pick().instance_id for seed in range(100)}
    assert len(firsts) > 10


def test_load_is_relative_to_weight(fleet: Fleet) -> None:
    balancer = make_balancer(fleet([4, 2, 1]))
    leases = [balancer.acquire() for _ in range(70)]
    assert {name: balancer.active(name) for name in "abc"} == {"a": 40, "b": 20, "c": 10}
    assert len(leases) == 70


def test_a_changed_weight_counts_for_calls_in_flight(fleet: Fleet) -> None:
    balancer = make_balancer(fleet([1, 1]))
    leases = [balancer.acquire() for _ in range(4)]
    balancer.update(fleet([10, 1]))
    assert {balancer.pick().instance_id for _ in range(20)} == {"a"}
    assert len(leases) == 4


def test_a_light_endpoint_gets_the_call_it_can_bear_and_no_more(fleet: Fleet) -> None:
    balancer = make_balancer(fleet([1e6, 1e6, 1e-3]))
    leases = [balancer.acquire() for _ in range(40)]
    assert balancer.active("c") == 1
    assert {balancer.pick(exclude={"a", "b"}).instance_id} == {"c"}
    assert len(leases) == 40


def test_light_endpoints_among_drained_heavy_ones_are_still_found(fleet: Fleet) -> None:
    balancer = make_balancer(fleet([1e9, *[1.0] * 30]))
    heavy = next(iter(balancer.endpoints))
    leases = [balancer.lease(heavy) for _ in range(3)]
    picked = {balancer.pick().instance_id for _ in range(300)}
    assert len(picked) > 20
    assert len(leases) == 3


@given(
    moves=st.lists(
        st.one_of(
            st.just("acquire"),
            st.integers(0, 30),
            st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=8),
        ),
        max_size=80,
    ),
    seed=st.integers(),
)
def test_the_pick_is_always_one_of_the_least_loaded(
    fleet: Fleet, moves: list[Any], seed: int
) -> None:
    balancer = make_balancer(fleet(5), seed)
    leases: list[Lease[Any]] = []
    for move in moves:
        usable = [host for host in balancer.endpoints if host.weight > 0]
        if move == "acquire" and usable:
            leases.append(balancer.acquire())
        elif isinstance(move, int) and leases:
            leases.pop(move % len(leases)).release()
        elif isinstance(move, list):
            balancer.update(fleet(move))
        usable = [host for host in balancer.endpoints if host.weight > 0]
        if usable:
            loads = {h.instance_id: balancer.active(h.instance_id) / h.weight for h in usable}
            assert loads[balancer.pick().instance_id] == min(loads.values())


@pytest.mark.parametrize("excluded", ["a", "ab"])
def test_excluding_falls_back_to_the_least_of_the_others(fleet: Fleet, excluded: str) -> None:
    balancer = make_balancer(fleet(4))
    leases = [balancer.acquire() for _ in range(3)]
    free = next(name for name in "abcd" if balancer.active(name) == 0)
    rest = set("abcd") - set(excluded)
    expected = {free} if free in rest else rest
    assert {balancer.pick(exclude=set(excluded)).instance_id for _ in range(60)} == expected
    assert len(leases) == 3


def test_with_the_least_loaded_excluded_load_is_relative_to_weight_too(fleet: Fleet) -> None:
    balancer = make_balancer(fleet([4, 2, 1, 1]))
    hosts = dict(zip("abcd", balancer.endpoints, strict=True))
    leases = [balancer.lease(hosts[name]) for name in "aaaaabc"]
    assert {balancer.pick(exclude={"d"}).instance_id for _ in range(40)} == {"b"}
    assert len(leases) == 7
