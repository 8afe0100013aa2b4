"""Workers that are forked from one parent do not all send to the same endpoint."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from microservice_core import run_after_fork
from microservice_lb import Balancer, RoundRobin, SmoothWeightedRoundRobin

Fleet = Callable[..., list[Any]]


@pytest.mark.parametrize(
    "make", [RoundRobin, SmoothWeightedRoundRobin], ids=["round robin", "smooth"]
)
def test_a_rotation_goes_on_from_another_place_after_a_fork(
    make: Callable[..., Balancer[Any]], fleet: Fleet
) -> None:
    balancer, next_picks = make(rng=random.Random(7)), set[str]()
    run_after_fork()
    balancer.update(fleet(20))
    for _ in range(60):
        run_after_fork()
        next_picks.add(balancer.pick().instance_id)
    assert len(next_picks) > 10


def test_a_rotation_from_the_heaviest_stays_one(fleet: Fleet) -> None:
    balancer = SmoothWeightedRoundRobin[Any](random_start=False)
    balancer.update(fleet([5, 1, 1]))
    run_after_fork()
    assert [balancer.pick().instance_id for _ in range(7)] == list("aabacaa")
