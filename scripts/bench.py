"""Run the benchmarks of the packages named (all when none is): `benchmarks/PACKAGE/bench_*.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def main(wanted: list[str]) -> int:
    """Run each file as a program; 1 when one failed or there is none."""
    names = {plain(name) for name in wanted}
    files = sorted(
        path
        for path in BENCHMARKS.glob("*/bench_*.py")
        if not names or plain(path.parent.name) in names
    )
    if not files:
        there = sorted({path.parent.name for path in BENCHMARKS.glob("*/bench_*.py")})
        print(f"no benchmarks of {', '.join(wanted) or 'anything'}; there are: {', '.join(there)}")
        return 1
    codes = [run(path) for path in files]
    return 1 if any(codes) else 0


def plain(name: str) -> str:
    """A package's name however it is spelled."""
    return name.replace("_", "-").removeprefix("microservice-")


def run(path: Path) -> int:
    """Run one file; its exit code."""
    print(f"\n== {path.relative_to(BENCHMARKS.parent)}", flush=True)
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)}
    return subprocess.run([sys.executable, str(path)], check=False, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
