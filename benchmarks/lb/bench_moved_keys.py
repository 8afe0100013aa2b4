"""How many keys move when one endpoint of twenty goes, or changes its weight.

    python benchmarks/lb/bench_moved_keys.py [--check] [--smoke]

Counted, not timed, so every run gives the same figures. "all" are the keys that have another
endpoint than before; "between others" those that went from one endpoint to another although neither
has changed, which none has to. `--check` exits 1 when a bound does not hold.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.report import Report, arguments

from microservice_lb import Balancer, create

ENDPOINTS = 20
EQUAL = [1.0] * ENDPOINTS
MIXED = [1.0 + number % 3 for number in range(ENDPOINTS)]
CHANGES = {
    "equal, one goes": (EQUAL, [0.0, *EQUAL[1:]]),
    "equal, one to weight 2": (EQUAL, [2.0, *EQUAL[1:]]),
    "equal, one to weight 0.1": (EQUAL, [0.1, *EQUAL[1:]]),
    "weights 1 to 3, a 3 goes": (MIXED[::-1], [0.0, *MIXED[-2::-1]]),
    "weights 1 to 3, a 1 goes": (MIXED, [0.0, *MIXED[1:]]),
}
BOUNDS = {"ring_hash": 0.0, "maglev": 1.0, "rendezvous": 0.0}


@dataclass(frozen=True)
class Host:
    """An endpoint of the fleet."""

    instance_id: str
    weight: float


def homes(name: str, weights: list[float], keys: list[str]) -> list[str]:
    """The endpoint of each key."""
    balancer: Balancer[Host] = create(name)
    balancer.update([Host(f"10.0.0.{n}:80", weight) for n, weight in enumerate(weights)])
    return [balancer.pick(key).instance_id for key in keys]


def measure(report: Report, name: str, keys: list[str]) -> None:
    """Count the moves of each change."""
    for change, (before, after) in CHANGES.items():
        pairs = list(zip(homes(name, before, keys), homes(name, after, keys), strict=True))
        moved = [pair for pair in pairs if pair[0] != pair[1]]
        others = [pair for pair in moved if "10.0.0.0:80" not in pair]
        percent = 100 / len(keys)
        report.add(f"{name}, {change}: all", [percent * len(moved)], unit="%")
        report.add(
            f"{name}, {change}: between others",
            [percent * len(others)],
            unit="%",
            bound=BOUNDS[name],
        )


def main() -> int:
    """Count, print, and judge where that is asked for."""
    options = arguments(__doc__, rounds=1).parse_args()
    report = Report(__file__, options)
    keys = [f"user:{number}" for number in range(2_000 if options.smoke else 50_000)]
    for name in BOUNDS:
        measure(report, name, keys)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
