"""How long calls take under each balancer when one of 20 servers is four times slower.

    python benchmarks/lb/bench_queues.py [--svg docs/lb/queues.svg] [--smoke]

A deterministic simulation, so the figures are the same on every machine; the tests of the package
run the same one. Times are in mean service times of a normal server.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from html import escape
from math import log10
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, for benchmarks.*
from benchmarks.report import Report, arguments

from microservice_lb import Balancer, create

ROOT = Path(__file__).resolve().parent.parent.parent
SIMULATION = ROOT / "packages" / "lb" / "tests" / "queue_simulation.py"

# Services of 10 ms and the default decay of 10 s: a thousand service times.
BALANCERS: list[tuple[str, dict[str, Any]]] = [
    ("random", {}),
    ("round_robin", {}),
    ("ring_hash", {}),
    ("power_of_two_choices", {}),
    ("least_active", {}),
    ("peak_ewma", {"decay_seconds": 1000.0}),
]


def simulation() -> ModuleType:
    """The module the tests use."""
    spec = importlib.util.spec_from_file_location("queue_simulation", SIMULATION)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{SIMULATION} is missing; run this in a checkout")
    module = importlib.util.module_from_spec(spec)
    sys.modules["queue_simulation"] = module
    spec.loader.exec_module(module)
    return module


def maker(name: str, options: dict[str, Any]) -> Callable[..., Balancer[Any]]:
    """Makes a client's balancer from its random numbers and the clock."""
    return lambda rng, clock: create(name, rng=rng, clock=clock, **options)


def results(*, smoke: bool) -> list[tuple[str, Any, Any]]:
    """Name, result with the slow server, result without it."""
    queues = simulation()
    found = []
    for name, options in BALANCERS:
        # A hash ring is dear to build: fewer clients, who agree on every key anyway.
        clients = 5 if name == "ring_hash" or smoke else 50
        slow, alike = (
            queues.simulate(maker(name, options), clients=clients, slowness=slowness)
            for slowness in (4.0, 1.0)
        )
        found.append((name, slow, alike))
    return found


def svg(rows: list[tuple[str, Any, Any]]) -> str:
    """Bars on a logarithmic scale: p50 and p99 with the slow server."""
    left, width, height, top = 190, 420, 34, 50
    most = max(slow.p99 for _, slow, _ in rows)

    def length(value: float) -> float:
        return width * log10(max(value, 1.01)) / log10(most)

    size = f'width="{left + width + 90}" height="{top + height * len(rows) + 24}"'
    label = "Time of a call by balancer, one server four times slower"
    legend = "p50 (dark) and p99 (light), in service times, logarithmic"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}"',
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{left}" y="20" font-weight="bold">One of 20 servers is four times slower</text>',
        f'<text x="{left}" y="38" fill="#555555">{legend}</text>',
    ]
    for number, (name, slow, _) in enumerate(rows):
        y = top + number * height
        light, dark = length(slow.p99), length(slow.p50)
        figures = f"{slow.p50:.1f} / {slow.p99:,.0f}"
        bar = f'<rect x="{left}" y="{y + 5}" height="22"'
        parts += [
            f'<text x="{left - 8}" y="{y + 20}" text-anchor="end">{escape(name)}</text>',
            f'{bar} width="{light:.1f}" fill="#9cc3e6"/>',
            f'{bar} width="{dark:.1f}" fill="#1f5f9e"/>',
            f'<text x="{left + light + 6:.1f}" y="{y + 20}">{figures}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--svg", type=Path, help="also write the figure there")
    options = parser.parse_args()
    report = Report(__file__, options)
    rows = results(smoke=report.smoke)
    for name, slow, alike in rows:
        for what, result in (("one server 4x slower", slow), ("all alike", alike)):
            report.add(f"{name}, {what}, p50", [result.p50], unit="times")
            report.add(f"{name}, {what}, p99", [result.p99], unit="times")
        report.add(f"{name}, share of the slow server", [slow.share_of_slow], unit="")
    if options.svg is not None:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(svg(rows), encoding="utf-8")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
