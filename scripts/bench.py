"""Run the benchmarks of the packages named, all when none is: `benchmarks/PACKAGE/bench_*.py`.

    python scripts/bench.py [PACKAGE ...] [-- ARGUMENT ...]

What stands behind `--` goes to each file; `--smoke` makes it end in seconds and judge nothing, and
then several packages run at a time. The figures of a package are written to
`benchmarks/results/PACKAGE.json`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

from side_by_side import Job, Result, most_at_once, run_all, summarize

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def main(arguments: list[str]) -> int:
    """Run each file as a program; 1 when one failed or there is none."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    packages, passed_on = arguments[:split], arguments[split + 1 :]
    names = {plain(name) for name in packages}
    files = sorted(
        path
        for path in BENCHMARKS.glob("*/bench_*.py")
        if not names or plain(path.parent.name) in names
    )
    if not files:
        known_names = sorted({path.parent.name for path in BENCHMARKS.glob("*/bench_*.py")})
        print(
            f"no benchmarks of {', '.join(packages) or 'anything'}; there are: {', '.join(known_names)}"
        )
        return 1
    if "--smoke" in passed_on:
        return run_side_by_side(files, passed_on)
    failed = [path for path in files if run(path, passed_on) != 0]
    for path in failed:
        print(f"failed: {path.relative_to(BENCHMARKS.parent)}")
    return 1 if failed else 0


def plain(name: str) -> str:
    """A package's name however it is spelled."""
    return name.replace("_", "-").removeprefix("microservice-")


def run(path: Path, arguments: list[str]) -> int:
    """Run one file; its exit code."""
    print(f"\n== {path.relative_to(BENCHMARKS.parent)}", flush=True)
    began = time.monotonic()
    code = subprocess.run([sys.executable, str(path), *arguments], check=False).returncode
    print(f"== {path.name}: {time.monotonic() - began:.1f} s", flush=True)
    return code


def run_side_by_side(files: list[Path], arguments: list[str]) -> int:
    """Nothing is judged, so they may disturb each other; those of a package one after the other."""

    def job(folder: Path, mine: list[Path]) -> Job:
        def work() -> Result:
            done = [run_file(path, arguments) for path in mine]
            return Result(
                all(result.passed for result in done), "\n".join(result.output for result in done)
            )

        return Job(folder.name, work)

    jobs = [
        job(folder, list(mine)) for folder, mine in groupby(files, key=lambda path: path.parent)
    ]
    outcomes = run_all(jobs, at_once=most_at_once())
    return summarize(outcomes, good="every benchmark runs")


def run_file(path: Path, arguments: list[str]) -> Result:
    """Run one file, its output kept."""
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    name = path.relative_to(BENCHMARKS.parent)
    return Result(done.returncode == 0, f"-- {name}\n{done.stdout}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
