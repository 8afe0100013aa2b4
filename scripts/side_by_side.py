"""Run several jobs at a time; each one's output in one piece when it ends, and how far we are."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """How a job ended: whether it is good, and everything it printed."""

    passed: bool
    output: str


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do that takes a while."""

    name: str
    work: Callable[[], Result]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job that has ended."""

    name: str
    passed: bool
    seconds: float


def most_at_once(limit: int | None = None) -> int:
    """How many jobs at a time: the number asked for, else one a core."""
    return max(1, limit or os.cpu_count() or 1)


def run_all(jobs: Sequence[Job], *, at_once: int, all_output: bool = True) -> list[Outcome]:
    """Run them in this order, so many at a time; the outcomes in the order of `jobs`.

    With `all_output` false, only what fails is heard.
    """
    began = time.monotonic()
    by_future: dict[Future[tuple[Result, float]], int] = {}
    outcomes: dict[int, Outcome] = {}
    running: list[str] = []
    pool = ThreadPoolExecutor(max_workers=at_once)
    print(f"{len(jobs)} to run, {min(at_once, len(jobs))} at a time", flush=True)
    try:
        for number, job in enumerate(jobs):
            by_future[pool.submit(_timed, job, running)] = number
        for future in as_completed(by_future):
            result, seconds = future.result()
            job = jobs[by_future[future]]
            outcomes[by_future[future]] = Outcome(job.name, result.passed, seconds)
            if all_output or not result.passed:
                _print_block(job.name, result.output)
            verdict = "passed" if result.passed else "FAILED"
            begun = f"; running: {', '.join(running)}" if running else ""
            print(
                f"[{len(outcomes)}/{len(jobs)}, {time.monotonic() - began:4.0f} s] "
                f"{job.name:45} {verdict:6} {seconds:6.1f} s{begun}",
                flush=True,
            )
    finally:
        pool.shutdown(cancel_futures=True)
    return [outcomes[number] for number in sorted(outcomes)]


def _timed(job: Job, running: list[str]) -> tuple[Result, float]:
    running.append(job.name)
    began = time.monotonic()
    try:
        return job.work(), time.monotonic() - began
    finally:
        running.remove(job.name)


def _print_block(name: str, output: str) -> None:
    print(f"\n== {name}\n{output.rstrip()}", flush=True)


def summarize(outcomes: Sequence[Outcome], *, good: str) -> int:
    """Name what failed, or say `good`; the exit code."""
    failed = [outcome.name for outcome in outcomes if not outcome.passed]
    print(f"\nfailed: {', '.join(failed)}" if failed else f"\n{good}")
    sys.stdout.flush()
    return 1 if failed else 0
