"""Run each package's tests alone: only with what it declares, bare and with all its extras.

    python scripts/test_packages.py [PACKAGE ...] [-- PYTEST-ARGUMENT ...]

Tests that need an extra live in `tests/extras/`; the bare run leaves that folder out. Branch
coverage is measured in the run with all extras and gated at the package's own floor. Tests marked
`slow` run last, with a time limit of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass

from workspace import ROOT, Member, select

UV = os.environ.get("UV_COMMAND", "uv")
NOTHING_COLLECTED = 5


@dataclass(frozen=True, slots=True)
class Leg:
    """One way to run a package's tests."""

    name: str
    extras: bool
    arguments: tuple[str, ...]
    empty_is_fine: bool = False


def legs(member: Member) -> list[Leg]:
    """Bare first, then with all extras and coverage, then the slow ones."""
    tests = f"packages/{member.folder.name}/tests"
    coverage = (
        f"--cov={member.import_name}",
        "--cov-branch",
        f"--cov-fail-under={member.coverage_floor}",
    )
    all_extras = Leg("extras", True, (tests, "-m", "not slow", *coverage))
    slow = Leg("slow", True, (tests, "-m", "slow", "--timeout=600"), empty_is_fine=True)
    if not member.extras:
        return [all_extras, slow]
    bare = Leg("bare", False, (tests, f"--ignore={tests}/extras", "-m", "not slow"))
    return [bare, all_extras, slow]


def has_slow_tests(member: Member) -> bool:
    """Whether any test file of the package mentions the marker."""
    return any("mark.slow" in path.read_text() for path in (member.folder / "tests").rglob("*.py"))


def run(member: Member, leg: Leg, extra_arguments: list[str]) -> bool:
    """Run one leg in an environment of its own; whether it passed."""
    command = [UV, "run", "--isolated", "--package", member.name, "--no-default-groups"]
    command += ["--group", "test", *(["--all-extras"] if leg.extras else [])]
    command += ["--", "python", "-m", "pytest", "-q", *leg.arguments, *extra_arguments]
    print(f"\n== {member.name}, {leg.name}", flush=True)
    began = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, check=False, env=environment(member)).returncode
    passed = code == 0 or (leg.empty_is_fine and code == NOTHING_COLLECTED)
    verdict = "passed" if passed else "FAILED"
    print(
        f"== {member.name}, {leg.name}: {verdict} in {time.monotonic() - began:.1f} s", flush=True
    )
    return passed


def environment(member: Member) -> dict[str, str]:
    """This environment, with a coverage file per package so that runs may meet."""
    return {**os.environ, "COVERAGE_FILE": str(ROOT / f".coverage.{member.folder.name}")}


def main(arguments: list[str]) -> int:
    """Run every leg of every package asked for, then say which failed."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    wanted, extra_arguments = arguments[:split], arguments[split + 1 :]
    failed = [
        f"{member.name} ({leg.name})"
        for member in select(wanted)
        for leg in legs(member)
        if leg.name != "slow" or has_slow_tests(member)
        if not run(member, leg, extra_arguments)
    ]
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nevery package passed on its own")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
