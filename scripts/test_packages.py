"""Run each package's tests alone: only with what it declares, bare and with all its extras.

    python scripts/test_packages.py [PACKAGE ...] [-- PYTEST-ARGUMENT ...]

Tests that need an extra live in `tests/extras/`; the bare run leaves that folder out. Branch
coverage is measured in the run with all extras and gated at the package's own floor. Then the
Python blocks of the README run. Tests marked `slow` run last, with a time limit of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass

from workspace import ROOT, Member, select

UV = os.environ.get("UV_COMMAND", "uv")


@dataclass(frozen=True, slots=True)
class Leg:
    """One way to run a package's tests."""

    name: str
    extras: bool
    arguments: tuple[str, ...]
    module: str = "pytest"


def legs(member: Member) -> list[Leg]:
    """Bare first, then with all extras and coverage, the README, then the slow tests."""
    tests = f"packages/{member.folder.name}/tests"
    coverage = (
        f"--cov={member.import_name}",
        "--cov-branch",
        f"--cov-fail-under={member.coverage_floor}",
    )
    bare = Leg("bare", False, (tests, f"--ignore={tests}/extras", "-m", "not slow"))
    extras = Leg("all extras", True, (tests, "-m", "not slow", *coverage))
    readme = Leg("README", True, (f"packages/{member.folder.name}/README.md",), "run_blocks")
    slow = Leg("slow", True, (tests, "-m", "slow", "--timeout=600"))
    return [
        *([bare] if member.extras else []),
        extras,
        readme,
        *([slow] if has_slow_tests(member) else []),
    ]


def has_slow_tests(member: Member) -> bool:
    """Whether any test file of the package mentions the marker."""
    return any("mark.slow" in path.read_text() for path in (member.folder / "tests").rglob("*.py"))


def run(member: Member, leg: Leg, extra_arguments: list[str]) -> bool:
    """Run one leg in an environment of its own; whether it passed."""
    command = [UV, "run", "--isolated", "--package", member.name, "--no-default-groups"]
    command += ["--group", "test", *(["--all-extras"] if leg.extras else []), "--", "python"]
    if leg.module == "pytest":
        command += ["-m", "pytest", "-q", *leg.arguments, *extra_arguments]
    else:
        command += [f"scripts/{leg.module}.py", *leg.arguments]
    print(f"\n== {member.name}, {leg.name}", flush=True)
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, check=False, env=environment(member))
    passed = done.returncode == 0
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
        if not run(member, leg, extra_arguments)
    ]
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nevery package passed on its own")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
