"""The figures of the queue simulation that the documentation shows hold."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from microservice_lb import create


@pytest.fixture(scope="module")
def queues() -> ModuleType:
    path = Path(__file__).with_name("queue_simulation.py")
    spec = importlib.util.spec_from_file_location("queue_simulation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["queue_simulation"] = module
    spec.loader.exec_module(module)
    return module


def run(queues: ModuleType, name: str, *, seed: int = 1, **options: Any) -> Any:
    # Services of 10 ms: a second is a hundred service times.
    return queues.simulate(
        lambda rng, clock: create(name, rng=rng, clock=clock, **options), calls=20_000, seed=seed
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_peak_ewma_keeps_the_tail_at_least_five_times_shorter_than_random(
    queues: ModuleType, seed: int
) -> None:
    ewma = run(queues, "peak_ewma", decay_seconds=1000.0, seed=seed)
    assert ewma.p99 * 5 < run(queues, "random", seed=seed).p99
    assert ewma.share_of_slow < 0.02


def test_peak_ewma_that_forgets_too_soon_is_still_as_good_as_two_choices(
    queues: ModuleType,
) -> None:
    forgetful = run(queues, "peak_ewma", decay_seconds=10.0)
    assert forgetful.p99 < 1.5 * run(queues, "p2c").p99


def test_balancers_that_see_the_load_do_not_overload_the_slow_server(queues: ModuleType) -> None:
    random = run(queues, "random").p99
    assert run(queues, "p2c").p99 * 5 < random
    assert run(queues, "least_active").p99 * 5 < random


def test_random_ties_keep_many_clients_from_marching_together(queues: ModuleType) -> None:
    assert run(queues, "least_active").p50 < 3


def test_the_simulation_is_deterministic(queues: ModuleType) -> None:
    assert run(queues, "p2c") == run(queues, "p2c")
