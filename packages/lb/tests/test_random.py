import math
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from microservice_lb import (
    Balancer,
    LeastActive,
    PeakEwma,
    PowerOfTwoChoices,
    Random,
    WeightedRandom,
)

Fleet = Callable[..., list[Any]]


def chi_square(counts: Counter[str], shares: dict[str, float]) -> float:
    total, weight = sum(counts.values()), sum(shares.values())
    return sum(
        (counts[n] - total * s / weight) ** 2 / (total * s / weight) for n, s in shares.items()
    )


def critical(dof: int) -> float:
    """The chi-square value exceeded with probability 1e-6 (Wilson-Hilferty)."""
    return dof * (1 - 2 / (9 * dof) + 4.7534 * math.sqrt(2 / (9 * dof))) ** 3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_is_uniform_whatever_the_weights(fleet: Fleet, seed: int) -> None:
    balancer = Random[Any](rng=random.Random(seed))
    balancer.update(fleet([1, 5, 2, 9, 1, 1]))
    counts = Counter(balancer.pick().instance_id for _ in range(30_000))
    assert chi_square(counts, dict.fromkeys("abcdef", 1.0)) < critical(5)


@pytest.mark.parametrize(
    "weights", [[1, 2, 3, 4], [0.001, 1000, 10], [7] * 20, [1e308, 1e308, 5e307]]
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_weighted_random_follows_the_weights(fleet: Fleet, weights: list[float], seed: int) -> None:
    balancer = WeightedRandom[Any](rng=random.Random(seed))
    balancer.update(fleet(weights))
    counts = Counter(balancer.pick().instance_id for _ in range(30_000))
    shares = {h.instance_id: h.weight / max(weights) for h in fleet(weights)}
    assert chi_square(counts, shares) < critical(len(weights) - 1)


@pytest.mark.parametrize("kind", [PowerOfTwoChoices, PeakEwma, LeastActive])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_those_that_look_at_load_draw_uniformly_while_there_is_none(
    fleet: Fleet, kind: Callable[..., Balancer[Any]], seed: int
) -> None:
    balancer = kind(rng=random.Random(seed))
    balancer.update(fleet(11))
    counts = Counter(balancer.pick().instance_id for _ in range(30_000))
    assert chi_square(counts, dict.fromkeys(counts, 1.0)) < critical(10)
    assert len(counts) == 11


def test_weighted_random_follows_the_weights_of_those_not_excluded(fleet: Fleet) -> None:
    balancer = WeightedRandom[Any](rng=random.Random(1))
    balancer.update(fleet([9, 1, 2, 3]))
    counts = Counter(balancer.pick(exclude={"a"}).instance_id for _ in range(30_000))
    assert chi_square(counts, {"b": 1, "c": 2, "d": 3}) < critical(2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_workers_do_not_repeat_each_other(fleet: Fleet) -> None:
    balancer = Random[Any]()
    balancer.update(fleet(26))
    heard = []
    for _ in range(2):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, "".join(balancer.pick().instance_id for _ in range(40)).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        heard.append(os.read(reading, 100))
        os.close(reading)
    assert len(heard[0]) == 40
    assert heard[0] != heard[1]


def test_the_global_seed_makes_a_run_repeatable(fleet: Fleet) -> None:
    runs = []
    for _ in range(2):
        random.seed(5)
        balancer = Random[Any]()
        balancer.update(fleet(9))
        runs.append([balancer.pick().instance_id for _ in range(20)])
    assert runs[0] == runs[1]
    assert sys.modules["random"] is random
