from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_core import Jitter, backoff_seconds, jittered

SECONDS = st.floats(0.001, 3600)


def test_each_wait_is_the_multiple_of_the_previous_one_up_to_the_maximum() -> None:
    waits = [backoff_seconds(n, initial_seconds=0.5, max_seconds=3.0) for n in range(1, 6)]
    assert waits == [0.5, 1.0, 2.0, 3.0, 3.0]


@given(initial=SECONDS, longest=SECONDS, failures=st.integers(1, 10_000))
def test_no_number_of_failures_overflows_or_exceeds_the_maximum(
    initial: float, longest: float, failures: int
) -> None:
    wait = backoff_seconds(failures, initial_seconds=initial, max_seconds=longest)
    assert 0 < wait <= longest


@given(initial=SECONDS, longest=SECONDS, multiplier=st.floats(1, 100))
def test_waits_never_shrink(initial: float, longest: float, multiplier: float) -> None:
    waits = [
        backoff_seconds(n, initial_seconds=initial, max_seconds=longest, multiplier=multiplier)
        for n in range(1, 50)
    ]
    assert all(before <= after for before, after in pairwise(waits))


@pytest.mark.parametrize(
    ("jitter", "least", "most"), [("full", 0.0, 8.0), ("equal", 4.0, 8.0), ("none", 8.0, 8.0)]
)
def test_jitter_is_the_random_part_of_the_wait(jitter: Jitter, least: float, most: float) -> None:
    assert jittered(8.0, jitter, lambda: 0.0) == least
    assert jittered(8.0, jitter, lambda: 1.0) == most
