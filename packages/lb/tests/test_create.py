import pytest

import microservice_lb
from microservice_core import InvalidValueError
from microservice_lb import create, names


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rr", "RoundRobin"),
        ("wrr", "SmoothWeightedRoundRobin"),
        ("Smooth-Weighted-Round-Robin", "SmoothWeightedRoundRobin"),
        ("random", "Random"),
        ("wr", "WeightedRandom"),
    ],
)
def test_names_and_aliases(name: str, kind: str) -> None:
    assert type(create(name)) is getattr(microservice_lb, kind)


def test_every_listed_name_makes_a_balancer() -> None:
    assert all(create(name) is not None for name in names())


def test_options_go_to_the_class() -> None:
    assert repr(create("wrr", random_start=False)).endswith("(random_start=False)")
    with pytest.raises(TypeError, match="speed"):
        create("rr", speed=3)


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InvalidValueError, match=r"name must be one of .*round_robin.*, not 'rrr'"):
        create("rrr")


def test_exports_are_what_the_list_says() -> None:
    assert sorted(microservice_lb.__all__) == list(microservice_lb.__all__)
    assert all(hasattr(microservice_lb, name) for name in microservice_lb.__all__)
