"""What the gate did: how long each step took, and, loudly, what did not run.

    python scripts/gate_summary.py FOLDER EXIT-CODE

In the folder: `steps` (name, seconds, verdict), `left-out` (step, reason), `not-run` (server, test,
reason), lines with tabs between.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

AIM_MINUTES = 60
LINE = "#" * 72


def rows(file: Path, columns: int) -> list[list[str]]:
    """The lines of a file that may be missing, each cut into so many columns."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.split("\t", columns - 1) for line in lines if line.count("\t") >= columns - 1]


def times(steps: list[list[str]]) -> list[str]:
    """The table of times, with the sum."""
    total = sum(int(seconds) for _, seconds, _ in steps)
    return [
        *(f"{name:30} {clock(int(seconds)):>6}  {verdict}" for name, seconds, verdict in steps),
        f"{'together':30} {clock(total):>6}  of {AIM_MINUTES}:00",
    ]


def clock(seconds: int) -> str:
    """Minutes and seconds."""
    return f"{seconds // 60}:{seconds % 60:02}"


def missing(left_out: list[list[str]], not_run: list[list[str]]) -> list[str]:
    """What did not run: steps first, then tests by what they lacked."""
    by_server = Counter(server for server, _, _ in not_run)
    reasons = {server: reason for server, _, reason in reversed(not_run)}
    return [
        *(f"left out: {step}: {reason}" for step, reason in left_out),
        *(
            f"skipped: {count} tests for want of {server} (the first: {reasons[server]})"
            for server, count in sorted(by_server.items())
        ),
    ]


def main(folder: Path, code: str) -> None:
    """Print both."""
    steps = rows(folder / "steps", 3)
    unproved = missing(rows(folder / "left-out", 2), rows(folder / "not-run", 3))
    print(f"\n{LINE}", *times(steps), sep="\n")
    if unproved:
        print(LINE, "NOT RUN:", *unproved, sep="\n")
    failed = ", ".join(name for name, _, verdict in steps if verdict != "passed")
    print(
        LINE, "the gate has passed" if code == "0" else f"the gate has FAILED: {failed}", sep="\n"
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])
