import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from microservice_lb import SmoothWeightedRoundRobin

Fleet = Callable[..., list[Any]]

# Long periods: no common divisor, or decimals.
AWKWARD = st.lists(
    st.one_of(st.integers(1, 2000), st.floats(0.01, 50).map(lambda w: round(w, 3))),
    min_size=1,
    max_size=12,
)


def turns(
    fleet: Fleet, weights: list[float], count: int, *, random_start: bool = False, seed: int = 0
) -> list[str]:
    balancer = SmoothWeightedRoundRobin[Any](random_start=random_start, rng=random.Random(seed))
    balancer.update(fleet(weights))
    return [balancer.pick().instance_id for _ in range(count)]


def worst_deviation(order: list[str], weights: dict[str, Fraction]) -> Fraction:
    """How many turns anybody was ever ahead of or behind its ideal share."""
    total, had, worst = sum(weights.values()), Counter[str](), Fraction(0)
    for count, turn in enumerate(order, 1):
        had[turn] += 1
        off = max(abs(had[name] - count * w / total) for name, w in weights.items())
        worst = max(worst, off)
    return worst


def shares(fleet: Fleet, weights: list[float]) -> dict[str, Fraction]:
    return {host.instance_id: Fraction(repr(host.weight)) for host in fleet(weights)}


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ([5, 1, 1], "aabacaa"),
        ([4, 2, 1], "abacaba"),
        ([10, 2, 2], "aabacaa"),
        ([0.5, 0.1, 0.1], "aabacaa"),
        ([1, 1, 1], "abc"),
        ([3], "a"),
    ],
)
def test_the_order_is_nginx_s(fleet: Fleet, weights: list[float], order: str) -> None:
    assert "".join(turns(fleet, weights, 2 * len(order))) == order * 2


def nginx(weights: list[int]) -> list[int]:
    """The rule as nginx writes it, one loop over all peers each turn."""
    current, order = [0] * len(weights), []
    for _ in range(sum(weights)):
        current = [c + w for c, w in zip(current, weights, strict=True)]
        best = current.index(max(current))
        current[best] -= sum(weights)
        order.append(best)
    return order


@given(weights=st.lists(st.integers(1, 10), min_size=1, max_size=25))
def test_the_order_is_that_of_the_plain_rule_unless_that_starves(
    fleet: Fleet, weights: list[int]
) -> None:
    names = [host.instance_id for host in fleet(weights)]
    expected = [names[index] for index in nginx(weights)]
    assume(worst_deviation(expected, shares(fleet, list(map(float, weights)))) < 1)
    assert turns(fleet, list(map(float, weights)), len(expected)) == expected


@given(weights=st.lists(st.integers(1, 12), min_size=1, max_size=15), seed=st.integers())
def test_a_period_holds_every_node_exactly_its_weight(
    fleet: Fleet, weights: list[int], seed: int
) -> None:
    order = turns(fleet, list(map(float, weights)), sum(weights), random_start=True, seed=seed)
    assert Counter(order) == {h.instance_id: h.weight for h in fleet(weights)}


@given(weights=AWKWARD)
@example(weights=[1, 1, 1, 1, 1, 5, 5])  # nginx's own order is a whole turn off
@example(weights=[997, 1009])
@example(weights=[100, 3, 2, 3, 1, 1, 1, 100, 3, 3, 100])  # nginx's own order is 1.36 turns off
@example(weights=[1e-9, 1e9, 1.0])
@example(weights=[1 / 3, 1.0, 2 / 3])
def test_nobody_is_ever_a_whole_turn_off_its_share(fleet: Fleet, weights: list[float]) -> None:
    order = turns(fleet, weights, 600)
    assert worst_deviation(order, shares(fleet, weights)) < 1


@given(weights=AWKWARD, seed=st.integers())
def test_from_any_start_nobody_is_ever_two_turns_off(
    fleet: Fleet, weights: list[float], seed: int
) -> None:
    order = turns(fleet, weights, 600, random_start=True, seed=seed)
    assert worst_deviation(order, shares(fleet, weights)) < 2


def test_a_long_period_holds_every_node_exactly_its_weight(fleet: Fleet) -> None:
    weights = [997.0, 1009.0, *range(500, 520)]
    period = int(sum(weights)) * 6
    order = turns(fleet, [w + 0.5 for w in weights], period, random_start=True, seed=3)
    exact = {h.instance_id: h.weight for h in fleet([w + 0.5 for w in weights])}
    scale = period / sum(exact.values())
    counts = Counter(order)
    assert all(abs(counts[name] - w * scale) < 2 for name, w in exact.items())


@pytest.mark.parametrize("weights", [[10.0, *[1.0] * 9], [10007.0, *[1009.0, 997.0] * 5]])
def test_a_hundred_fresh_clients_do_not_all_start_on_the_heaviest(
    fleet: Fleet, weights: list[float]
) -> None:
    firsts = Counter(
        turns(fleet, weights, 1, random_start=True, seed=seed)[0] for seed in range(100)
    )
    assert 30 < firsts["a"] < 70
    assert len(firsts) > 5


def test_an_update_that_changes_no_weight_goes_on_in_the_period(fleet: Fleet) -> None:
    balancer = SmoothWeightedRoundRobin[Any](random_start=False)
    order = ""
    for _ in range(7):
        balancer.update(fleet([5, 1, 1]))
        order += balancer.pick().instance_id
    assert order == "aabacaa"


def test_a_changed_weight_counts_at_once(fleet: Fleet) -> None:
    balancer = SmoothWeightedRoundRobin[Any](random_start=False)
    balancer.update(fleet([5, 1, 1]))
    balancer.update(fleet([1, 5, 1]))
    assert "".join(balancer.pick().instance_id for _ in range(7)) == "bbabcbb"


def test_excluding_keeps_the_proportion_of_the_others(fleet: Fleet) -> None:
    balancer = SmoothWeightedRoundRobin[Any](rng=random.Random(1))
    balancer.update(fleet([1000, 30, 10]))
    counts = Counter(balancer.pick(exclude={"a"}).instance_id for _ in range(2000))
    assert set(counts) == {"b", "c"}
    assert 2 < counts["b"] / counts["c"] < 4.5


def test_the_repr_says_what_it_is() -> None:
    assert repr(SmoothWeightedRoundRobin()) == "SmoothWeightedRoundRobin(random_start=True)"


def test_a_pick_does_not_wait_for_an_update_even_when_its_turns_have_run_out(fleet: Fleet) -> None:
    balancer = SmoothWeightedRoundRobin[Any]()
    picked: list[str] = []

    class Prober:
        """An endpoint that picks from the balancer when an update reads it."""

        weight, at_it = 1.0, False

        @property
        def instance_id(self) -> str:
            if not self.at_it:
                self.at_it = True
                picked.extend(balancer.pick().instance_id for _ in range(300))
                self.at_it = False
            return "prober"

    weights = [100_003.0, 99_991.0]
    balancer.update(fleet(weights))
    # The update reads ids while it holds the lock: a pick that waits for it hangs here.
    balancer.update([*fleet(weights), Prober()])
    assert set(picked) <= {"a", "b", "prober"}
    assert 0.4 < picked.count("a") / len(picked) < 0.6
