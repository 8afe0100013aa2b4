import random
from collections.abc import Callable
from itertools import islice
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from microservice_lb import RoundRobin

Fleet = Callable[..., list[Any]]


def pick_ids(balancer: RoundRobin[Any], count: int, **options: Any) -> str:
    return "".join(balancer.pick(**options).instance_id for _ in range(count))


def test_everybody_in_turn(fleet: Fleet) -> None:
    balancer = RoundRobin[Any](rng=random.Random(1))
    balancer.update(fleet(3))
    assert pick_ids(balancer, 6) in {"abcabc", "bcabca", "cabcab"}


def test_clients_start_at_different_endpoints(fleet: Fleet) -> None:
    starts = set()
    for seed in range(40):
        balancer = RoundRobin[Any](rng=random.Random(seed))
        balancer.update(fleet(4))
        starts.add(pick_ids(balancer, 1))
    assert starts == set("abcd")


def test_an_update_goes_on_where_the_last_pick_left_off(fleet: Fleet) -> None:
    balancer = RoundRobin[Any](rng=random.Random(1))
    balancer.update(fleet(5))
    while pick_ids(balancer, 1) != "b":
        pass
    balancer.update(fleet(5))
    assert pick_ids(balancer, 1) == "c"
    balancer.update([host for host in fleet(5) if host.instance_id not in "de"])
    assert pick_ids(balancer, 3) == "abc"


def test_an_update_to_strangers_starts_anew(fleet: Fleet) -> None:
    balancer = RoundRobin[Any](rng=random.Random(1))
    balancer.update(fleet(3))
    balancer.update(fleet(6)[3:])
    assert set(pick_ids(balancer, 3)) == set("def")


@given(size=st.integers(1, 30), rounds=st.integers(1, 5), seed=st.integers())
def test_after_whole_rounds_everybody_had_the_same(
    fleet: Fleet, size: int, rounds: int, seed: int
) -> None:
    balancer = RoundRobin[Any](rng=random.Random(seed))
    balancer.update(fleet(size))
    counts: dict[str, int] = {}
    for endpoint in islice(iter(balancer.pick, None), size * rounds):
        counts[endpoint.instance_id] = counts.get(endpoint.instance_id, 0) + 1
    assert set(counts.values()) == {rounds}
    assert len(counts) == size


def test_excluding_keeps_the_turns_of_the_others(fleet: Fleet) -> None:
    balancer = RoundRobin[Any](rng=random.Random(1))
    balancer.update(fleet(4))
    assert pick_ids(balancer, 6, exclude={"b", "d"}) in {"acacac", "cacaca"}


def test_an_update_in_the_middle_of_an_excluding_pick_still_gives_an_allowed_one(
    fleet: Fleet,
) -> None:
    """The exclude set is asked for every id; there another thread may come in with an update."""
    balancer = RoundRobin[Any](rng=random.Random(1))

    class Meddling(set[str]):
        def __contains__(self, instance_id: object) -> bool:
            balancer.update(fleet(9)[6:])
            return super().__contains__(instance_id)

    balancer.update(fleet(5))
    picked = {balancer.pick(exclude=Meddling({"a", "b", "h"})).instance_id for _ in range(9)}
    assert picked <= set("cdegi")
