"""What a benchmark measured: printed as a table, judged by its bounds, written down as JSON.

    options = arguments(__doc__, rounds=9).parse_args()
    report = Report(__file__, options)
    report.add("breaker, count window", ratios, bound=6.5)
    sys.exit(report.finish())

`--smoke` makes a run end in seconds: one round, nothing judged. The figures of a package lie in
`benchmarks/results/PACKAGE.json`, those of a smoke run in `benchmarks/results/smoke`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
NAME_WIDTH = 58


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of what was measured, how far it was spread, and the bound it has to keep."""

    name: str
    value: float
    unit: str
    least: float
    greatest: float
    bound: float | None
    at_least: bool
    """The bound is a floor: more is better."""

    def holds(self) -> bool:
        """Whether the bound is kept; so it is where there is none."""
        if self.bound is None:
            return True
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def line(self, *, judged: bool) -> str:
        """One row of the table."""
        figure = f"{shown(self.value):>9} {self.unit:5}"
        spread = f"({shown(self.least)} to {shown(self.greatest)})"
        row = f"{self.name:{NAME_WIDTH}} {figure} {spread:22}"
        if self.bound is None:
            return row.rstrip()
        verdict = ("holds" if self.holds() else "OVER") if judged else "not judged"
        return f"{row} {'>=' if self.at_least else '<='} {self.bound:g} {verdict}"


def shown(value: float) -> str:
    """Three digits, or as many as stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def arguments(
    description: str | None, *, rounds: int = 7, smoke_rounds: int = 1
) -> argparse.ArgumentParser:
    """The options that every benchmark has; a file adds its own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help=f"how often each is measured ({rounds})")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bound is not kept")
    parser.add_argument("--smoke", action="store_true", help="only see that it runs, in seconds")
    parser.set_defaults(usual_rounds=rounds, smoke_rounds=smoke_rounds)
    return parser


class Report:
    """Collects the figures of one benchmark file; each is printed as soon as it is known."""

    def __init__(self, file: str, options: argparse.Namespace) -> None:
        self.file = Path(file).resolve()
        self.smoke: bool = options.smoke
        self.rounds: int = options.rounds or (
            options.smoke_rounds if self.smoke else options.usual_rounds
        )
        self.figures: list[Figure] = []
        self._check: bool = options.check
        machine = describe_machine()
        print(
            f"{machine['python']}, {machine['platform']}, {machine['cores']} cores, "
            f"{self.rounds} rounds{', a smoke run' if self.smoke else ''}: median (spread)"
        )

    def choose(self, usual: float, smoke: float) -> float:
        """How long or how much: the usual, or so little that a smoke run ends soon."""
        return smoke if self.smoke else usual

    def count(self, usual: int, smoke: int) -> int:
        """The same for what is counted."""
        return smoke if self.smoke else usual

    def add(
        self,
        name: str,
        values: Sequence[float],
        *,
        unit: str = "x",
        bound: float | None = None,
        at_least: bool = False,
    ) -> Figure:
        """One figure, from what the rounds gave; the unit is `x` for a ratio within the run."""
        figure = Figure(
            name.strip(), median(values), unit, min(values), max(values), bound, at_least
        )
        self.figures.append(figure)
        print(figure.line(judged=not self.smoke), flush=True)
        return figure

    def note(self, text: str) -> None:
        """Something to be read that is no figure."""
        print(text, flush=True)

    def finish(self) -> int:
        """Write the figures down; the exit code, 1 when `--check` found a bound broken."""
        path = (RESULTS / "smoke" if self.smoke else RESULTS) / f"{package_of(self.file)}.json"
        write(path, self.file.stem, self.figures, smoke=self.smoke)
        broken = not self.smoke and not all(figure.holds() for figure in self.figures)
        return 1 if self._check and broken else 0


def write(path: Path, benchmark: str, figures: Sequence[Figure], *, smoke: bool) -> None:
    """Put one benchmark's figures into the package's file, beside those of the others."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        document = {}
    document[benchmark] = {
        "commit": commit(),
        "machine": describe_machine(),
        "smoke": smoke,
        "figures": [asdict(figure) for figure in figures],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def package_of(file: Path) -> str:
    """The folder under packages/ that the benchmark belongs to."""

    def plain(name: str) -> str:
        return name.replace("_", "-").removeprefix("microservice-")

    folder = file.parent.name
    packages = (path.parent.name for path in (ROOT / "packages").glob("*/pyproject.toml"))
    return next((name for name in packages if plain(name) == plain(folder)), folder)


def describe_machine() -> dict[str, str | int]:
    """What a figure depends on besides the code."""
    return {
        "cores": os.cpu_count() or 1,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str:
    """What is checked out, with a plus where files were changed since; empty outside git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()
