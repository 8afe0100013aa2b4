"""Workers that are forked from one parent do not retry at the same moments."""

from typing import Any

from microservice_core import run_after_fork
from microservice_governance import ExponentialBackoff, Retry, RetryConfig, testing

CONFIG = RetryConfig(on=(OSError,), attempts=9, backoff=ExponentialBackoff())


def waits(retry: Retry) -> list[Any]:
    return [retry.wait_after(OSError(), attempt) for attempt in range(1, 6)]


def test_each_child_has_a_jitter_of_its_own() -> None:
    retry, with_testing = Retry(CONFIG), []
    with testing(seed=1):
        with_testing.append(waits(retry))
    with testing(seed=1):
        run_after_fork()  # what repeats in each run repeats in a child as well
        with_testing.append(waits(retry))
    assert with_testing[0] == with_testing[1]
    seen = []
    for _ in range(4):
        with testing(seed=1):
            run_after_fork()
        seen.append(waits(retry))  # what follows the block is the child's own
    assert len({tuple(one) for one in seen}) == 4
    with testing(seed=1):
        assert waits(retry) == with_testing[0]


def test_children_of_one_state_differ() -> None:
    from microservice_governance.testing_mode import rng

    retry, state, seen = Retry(CONFIG), rng.getstate(), set()
    for _ in range(4):
        rng.setstate(state)
        run_after_fork()
        seen.add(tuple(waits(retry)))
    assert len(seen) == 4
