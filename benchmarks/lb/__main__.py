"""Every speed bound of microservice-lb, as ratios to `nodes[randrange(n)].address` in this process.

    python benchmarks/lb [--rounds 9] [--check]

Each figure is the median over the rounds, with the least and the greatest; floor and candidate are
timed in turns, so that a change of clock speed meets both. Beside each stands what one would write
without the package, and uhashring where it does the same job. `--check` exits 1 when a bound does
not hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random, randrange
from statistics import median
from typing import Any

import naive
from uhashring import HashRing

from microservice_lb import (
    Balancer,
    LeastActive,
    Maglev,
    PeakEwma,
    PowerOfTwoChoices,
    RingHash,
    RoundRobin,
    SmoothWeightedRoundRobin,
    WeightedRandom,
    keyed_hash,
)

SIZES = (10, 100, 1000)
KEY = "user:12345"
SECRET = b"benchmark secret"


class Host:
    """An endpoint with plain attributes."""

    __slots__ = ("address", "instance_id", "weight")

    def __init__(self, number: int, weight: float = 1.0) -> None:
        self.instance_id = self.address = f"10.0.{number // 256}.{number % 256}:8080"
        self.weight = weight


@dataclass
class Row:
    """One thing timed at every size, and the bound the issue sets."""

    name: str
    bound: float | None
    make: Callable[[int], Callable[[], object]]
    only: tuple[int, ...] = SIZES
    ratios: dict[int, list[float]] = field(default_factory=dict)

    def verdict(self) -> str:
        if self.bound is None:
            return ""
        worst = max(median(ratios) for ratios in self.ratios.values())
        return f"<= {self.bound:g}x {'holds' if worst <= self.bound else 'OVER'}"


def even(count: int) -> list[Host]:
    return [Host(number) for number in range(count)]


def varied(count: int) -> list[Host]:
    """Weights from 1 to 10."""
    rng = Random(7)
    return [Host(number, rng.randint(1, 10)) for number in range(count)]


def awkward(count: int) -> list[Host]:
    """Weights whose period is far too long to write down."""
    return [Host(number, (997, 1009)[number % 2]) for number in range(count)]


def pick(kind: Callable[[], Balancer[Host]], hosts: Callable[[int], list[Host]] = even) -> Any:
    def make(count: int) -> Callable[[], object]:
        balancer = kind()
        balancer.update(hosts(count))
        return lambda: balancer.pick(KEY)

    return make


def used(count: int) -> Callable[[], object]:
    balancer = PeakEwma[Host]()
    balancer.update(even(count))
    return lambda: balancer.acquire().release()


def loaded(count: int) -> Callable[[], object]:
    """Least active with a call on half of the hosts."""
    balancer = LeastActive[Host]()
    balancer.update(even(count))
    leases = [balancer.acquire() for _ in range(count // 2)]
    return lambda: balancer.pick(KEY) and leases


def theirs(**options: Any) -> Callable[[int], Callable[[], object]]:
    def make(count: int) -> Callable[[], object]:
        ring = HashRing([host.instance_id for host in even(count)], **options)
        return lambda: ring.get_node(KEY)

    return make


def rows() -> list[Row]:
    keyed = keyed_hash(SECRET)
    return [
        Row("round robin", 0.6, pick(RoundRobin)),
        Row("  naive: counter % n", None, lambda n: naive.round_robin(even(n))),
        Row("smooth WRR, weights 1-10", 0.6, pick(SmoothWeightedRoundRobin, varied)),
        Row("  naive: nginx's loop", None, lambda n: naive.smooth_wrr(varied(n))),
        Row("smooth WRR, 997/1009", 4.0, pick(SmoothWeightedRoundRobin, awkward), only=(1000,)),
        Row("weighted random", 1.3, pick(WeightedRandom, varied)),
        Row("  naive: random.choices", None, lambda n: naive.weighted_random(varied(n))),
        Row("power of two choices", 1.7, pick(PowerOfTwoChoices)),
        Row("  naive: random.sample", None, lambda n: naive.two_choices(even(n))),
        Row("peak EWMA, pick", 2.5, pick(PeakEwma)),
        Row("peak EWMA, acquire + release", 7.0, used),
        Row("least active, fair ties", 4.0, loaded),
        Row("  naive: min(), first wins", None, lambda n: naive.least_active(even(n))),
        Row("ring, fast key hash", 2.2, pick(RingHash)),
        Row("ring, keyed hash", 5.5, pick(lambda: RingHash(hash=keyed))),
        Row("  ketama", None, pick(lambda: RingHash(compatible="ketama"))),
        Row("  naive: md5 and bisect", None, lambda n: naive.ring(even(n))),
        Row("  uhashring ketama", None, theirs(hash_fn="ketama")),
        Row("  uhashring default", None, theirs()),
        Row("Maglev, fast key hash", 0.8, pick(Maglev)),
        Row("Maglev, keyed hash", 4.5, pick(lambda: Maglev(hash=keyed))),
    ]


def loop_seconds(call: Callable[[], object], number: int) -> float:
    """Best of three runs of a loop; the empty loop is part of floor and candidate alike."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(number):
            call()
        best = min(best, time.perf_counter() - began)
    return best


def inline_seconds(statement: str, names: dict[str, object], number: int) -> float:
    """Best of three runs of a statement written into the loop, without a call around it."""
    space: dict[str, Any] = dict(names)
    source = f"def run(numbers):\n    for _ in numbers:\n        {statement}\n"
    exec(compile(source, "<benchmark>", "exec"), space)  # noqa: S102 - our own text
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        space["run"](range(number))
        best = min(best, time.perf_counter() - began)
    return best


def measure(table: list[Row], rounds: int) -> dict[int, float]:
    floors: dict[int, float] = {}
    for count in SIZES:
        nodes = even(count)
        candidates = [(row, row.make(count)) for row in table if count in row.only]
        seen = []
        for _ in range(rounds):
            for row, call in candidates:
                floor = (
                    inline_seconds(
                        "nodes[randrange(n)].address",
                        {"nodes": nodes, "randrange": randrange, "n": count},
                        10_000,
                    )
                    / 10_000
                )
                slow = row.name.startswith("  naive") and count == 1000
                number = 300 if slow else 10_000
                # The lambda around the call is not the candidate's doing: it is taken off.
                wrapped = loop_seconds(call, number) - loop_seconds(nothing, number)
                row.ratios.setdefault(count, []).append(wrapped / number / floor)
                seen.append(floor)
        floors[count] = median(seen)
    return floors


def nothing() -> None:
    """What an empty call costs."""


def cell(ratios: list[float] | None) -> str:
    if ratios is None:
        return f"{'':20}"
    return f"{median(ratios):7.2f} ({min(ratios):.2f}-{max(ratios):.2f})".ljust(20)
