"""Every speed bound of microservice-lb, as ratios to `nodes[randrange(n)].address` in this process.

    python benchmarks/lb/bench_picks.py [--rounds 7] [--check] [--smoke]

Each figure is the median over the rounds, with the least and the greatest; floor and candidate are
timed in turns, so that a change of clock speed meets both, in CPU time, so that a busy machine
disturbs less. Beside each stands what one would write
without the package, and uhashring where it does the same job. `--check` exits 1 when a bound does
not hold.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, randrange
from statistics import median
from typing import Any

import naive  # type: ignore[import-not-found] # beside this file
from uhashring import HashRing  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.report import Report, arguments

from microservice_lb import (
    Balancer,
    LeastActive,
    Maglev,
    PeakEwma,
    PowerOfTwoChoices,
    Rendezvous,
    RingHash,
    RoundRobin,
    SmoothWeightedRoundRobin,
    WeightedRandom,
    keyed_hash,
)

SIZES = (10, 100, 1000)
LOOP = 8_000
KEYS = [f"user:{number}" for number in range(2000)]
LEASES: list[object] = []  # held, so that the hosts stay busy
SECRET = b"benchmark secret"


class Host:
    """An endpoint with plain attributes."""

    __slots__ = ("address", "instance_id", "weight")

    def __init__(self, number: int, weight: float = 1.0) -> None:
        self.instance_id = self.address = f"10.0.{number // 256}.{number % 256}:8080"
        self.weight = weight


@dataclass
class Row:
    """One statement timed at every size, and the bound it has to keep."""

    name: str
    bound: float | None
    statement: str
    make: Callable[[int], Any]
    sizes: tuple[int, ...] = SIZES
    ratios: dict[int, list[float]] = field(default_factory=dict)


Hosts = Callable[[int], list[Host]]


def even(count: int) -> list[Host]:
    return [Host(number) for number in range(count)]


def varied(count: int) -> list[Host]:
    """Weights from 1 to 10."""
    rng = Random(7)
    return [Host(number, rng.randint(1, 10)) for number in range(count)]


def awkward(count: int) -> list[Host]:
    """Weights whose period is far too long to write down."""
    return [Host(number, (997, 1009)[number % 2]) for number in range(count)]


def primes(count: int) -> list[Host]:
    """As many different weights as hosts, none divides another."""
    found = [n for n in range(2, 10_000) if all(n % d for d in range(2, int(n**0.5) + 1))]
    return [Host(number, found[number]) for number in range(count)]


def of(kind: Callable[[], Balancer[Host]], hosts: Hosts = even) -> Callable[[int], Any]:
    def make(count: int) -> Balancer[Host]:
        balancer = kind()
        balancer.update(hosts(count))
        return balancer

    return make


def half_busy(count: int) -> LeastActive[Host]:
    """Least active with a call on half of the hosts."""
    balancer = LeastActive[Host]()
    balancer.update(even(count))
    LEASES.extend(balancer.acquire() for _ in range(count // 2))
    return balancer


def theirs(**options: Any) -> Callable[[int], HashRing]:
    return lambda count: HashRing([host.instance_id for host in even(count)], **options)


def rows() -> list[Row]:
    pick, naively = "b.pick(key)", "b()"
    keyed = keyed_hash(SECRET)
    smooth = SmoothWeightedRoundRobin[Host]
    return [
        Row("round robin", 0.6, pick, of(RoundRobin)),
        Row("  naive: counter % n", None, naively, lambda n: naive.round_robin(even(n))),
        Row("smooth WRR, weights 1-10", 0.6, pick, of(smooth, varied)),
        Row("smooth WRR, 997/1009", 4.0, pick, of(smooth, awkward), sizes=(1000,)),
        Row("  smooth WRR, 1000 primes", None, pick, of(smooth, primes), sizes=(1000,)),
        Row("  naive: nginx's loop", None, naively, lambda n: naive.smooth_wrr(varied(n))),
        Row("weighted random", 1.3, pick, of(WeightedRandom, varied)),
        Row("  naive: random.choices", None, naively, lambda n: naive.weighted_random(varied(n))),
        Row("power of two choices", 1.7, pick, of(PowerOfTwoChoices)),
        Row("  naive: random.sample", None, naively, lambda n: naive.two_choices(even(n))),
        Row("peak EWMA", 2.5, pick, of(PeakEwma)),
        Row("peak EWMA, acquire + release", 7.0, "b.acquire().release()", of(PeakEwma)),
        Row("least active, fair ties", 4.0, pick, half_busy),
        Row("  naive: min(), first wins", None, naively, lambda n: naive.least_active(even(n))),
        Row("ring, fast key hash", 2.2, pick, of(RingHash)),
        Row("ring, keyed hash", 5.5, pick, of(lambda: RingHash(hash=keyed))),
        Row("  ring, ketama", None, pick, of(lambda: RingHash(compatible="ketama"))),
        Row("  naive: md5 and bisect", None, naively, lambda n: naive.ring(even(n))),
        Row("  uhashring, ketama", None, "b.get_node(key)", theirs(hash_fn="ketama")),
        Row("  uhashring, default", None, "b.get_node(key)", theirs()),
        Row("Maglev, fast key hash", 0.8, pick, of(Maglev)),
        Row("Maglev, keyed hash", 4.5, pick, of(lambda: Maglev(hash=keyed))),
        Row("  rendezvous", None, pick, of(Rendezvous)),
    ]


def seconds(statement: str, names: dict[str, object], rounds: int) -> float:
    """Per execution, best of three runs of a loop over the keys the statement is written into."""
    space = dict(names)
    source = f"def run(keys):\n    for key in keys:\n        {statement}\n"
    exec(compile(source, "<benchmark>", "exec"), space)  # noqa: S102 - our own text
    run: Any = space["run"]
    keys = KEYS[:rounds] if rounds < len(KEYS) else KEYS * (rounds // len(KEYS))
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        run(keys)
        best = min(best, time.process_time() - began)
    return best / len(keys)


def measure(table: list[Row], rounds: int, sizes: tuple[int, ...]) -> dict[int, float]:
    """Fill in the ratios; the floors in seconds by size."""
    floors = {}
    for count in sizes:
        names = {"nodes": even(count), "n": count, "randrange": randrange}
        candidates = [(row, row.make(count)) for row in table if count in row.sizes]
        seen = []
        for _ in range(rounds):
            for row, balancer in candidates:
                floor = seconds("nodes[randrange(n)].address", names, LOOP)
                number = 30_000 // count if "naive" in row.name or "rendez" in row.name else LOOP
                took = seconds(row.statement, {"b": balancer}, number)
                row.ratios.setdefault(count, []).append(took / floor)
                seen.append(floor)
        floors[count] = median(seen)
    return floors


def milliseconds(work: Callable[[], object], rounds: int) -> list[float]:
    """How long it took each time."""
    times = []
    for _ in range(rounds):
        gc.collect()
        began = time.process_time()
        work()
        times.append((time.process_time() - began) * 1000)
    return times


def updates(rounds: int) -> list[tuple[str, list[float], float | None]]:
    """Builds and changes at 1000 hosts: name, milliseconds, bound."""
    hosts = even(1000)
    ids = [host.instance_id for host in hosts]
    ring, maglev = RingHash[Host](), Maglev[Host]()
    ring.update(hosts)
    maglev.update(hosts)
    smooth = SmoothWeightedRoundRobin[Host]
    peer = milliseconds(lambda: HashRing(ids, hash_fn="ketama"), 3)
    grown = HashRing(ids, hash_fn="ketama")
    return [
        ("  uhashring ketama: build", peer, None),
        ("  uhashring ketama: add one", milliseconds(lambda: grown.add_node("new"), 1), None),
        (
            "ring: build 1000 x 160",
            milliseconds(lambda: RingHash[Host]().update(hosts), rounds),
            0.15 * median(peer),  # of uhashring's
        ),
        ("ring: remove one", alternate(ring, hosts[:-1], hosts, rounds), 10.0),
        ("ring: add one", alternate(ring, hosts, hosts[:-1], rounds), 10.0),
        ("  Maglev: change one", alternate(maglev, hosts[:-1], hosts, rounds), None),
        ("smooth WRR: 997/1009", fresh(smooth, awkward(1000), rounds), 20.0),
        ("smooth WRR: 1000 primes", fresh(smooth, primes(1000), rounds), 20.0),
        ("  smooth WRR: weights 1-10", fresh(smooth, varied(1000), rounds), None),
        ("  peak EWMA", fresh(PeakEwma, hosts, rounds), None),
    ]


def fresh(kind: Callable[[], Balancer[Host]], hosts: list[Host], rounds: int) -> list[float]:
    return milliseconds(lambda: kind().update(hosts), rounds)


def alternate(
    balancer: Balancer[Host], timed: list[Host], before: list[Host], rounds: int
) -> list[float]:
    """Only the update to `timed` counts."""
    times = []
    for _ in range(rounds):
        balancer.update(before)
        times += milliseconds(lambda: balancer.update(timed), 1)
    return times


def maglev_bytes() -> float:
    """In megabytes, what the table of 65537 places takes, endpoints not counted."""
    hosts = even(1000)
    Maglev[Host]().update(hosts)
    tracemalloc.start()
    balancer = Maglev[Host]()
    balancer.update(hosts)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / 1e6 if balancer.table else 0.0


def main() -> int:
    report = Report(__file__, arguments(__doc__, rounds=7).parse_args())
    table, sizes = rows(), SIZES[:1] if report.smoke else SIZES
    for count, floor in measure(table, report.rounds, sizes).items():
        report.note(f"nodes[randrange({count})].address takes {floor * 1e9:.0f} ns")
    for row in table:
        for size, ratios in row.ratios.items():
            report.add(f"{row.name.strip()}, n = {size}", ratios, bound=row.bound)
    report.note("update at n = 1000; the bound of the ring's build is 0.15 x uhashring's")
    for name, times, bound in updates(report.rounds):
        report.add(f"update, {name.strip()}", times, unit="ms", bound=bound)
    report.add("Maglev 65537, 1000 hosts", [maglev_bytes()], unit="MB", bound=1)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
