from collections.abc import Callable
from typing import Any

import pytest

from microservice_core import NoInstanceAvailableError
from microservice_lb import Maglev, PeakEwma, Rendezvous, RingHash, RoundRobin

Fleet = Callable[..., list[Any]]


def test_it_says_who_was_left_out_and_what_is_known_of_the_chosen(fleet: Fleet) -> None:
    balancer = RoundRobin[Any]()
    balancer.update(fleet([2, 0, 1]))
    lease = balancer.acquire(exclude={"c"})
    assert balancer.explain(exclude={"c"}).steps == (
        "RoundRobin(): 2 of weight above 0, 1 drained, 1 ids excluded",
        "'a': weight 2, 1 active",
    )
    lease.release()


def test_peak_ewma_shows_latency_success_and_load(fleet: Fleet) -> None:
    balancer = PeakEwma[Any](clock=lambda: 0.0)  # the latency shown decays with time
    balancer.update(fleet(1))
    assert "'a': 0 active, not measured yet" in str(balancer.explain())
    balancer.on_outcome(fleet(1)[0], 0.025, None)
    assert "'a': 0 active, latency 25 ms, success rate 1.00, cost" in str(balancer.explain())


@pytest.mark.parametrize(
    ("balancer", "words"),
    [
        (RingHash[Any](), "key hashes to 1896767405, the next point is"),
        (Maglev[Any](table_size=101), "key hashes to 1896767405, place"),
        (Rendezvous[Any](), "key hashes to 1896767405; '"),
    ],
    ids=["ring", "maglev", "rendezvous"],
)
def test_hash_balancers_show_where_the_key_fell(fleet: Fleet, balancer: Any, words: str) -> None:
    balancer.update(fleet(3))
    explanation = balancer.explain("user:12345")
    assert words in str(explanation)
    assert explanation.endpoint is balancer.pick("user:12345")
    assert "no key: " in str(balancer.explain())


def test_nobody_to_explain_is_an_error(fleet: Fleet) -> None:
    with pytest.raises(NoInstanceAvailableError):
        RoundRobin[Any]().explain()
