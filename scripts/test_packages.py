"""Run each package's tests alone: only with what it declares, bare and with all its extras.

    python scripts/test_packages.py [--jobs N] [--python 3.14] [--legs bare,full] [PACKAGE ...]
                                    [-- PYTEST-ARGUMENT ...]

Tests that need an extra live in `tests/extras/`; the bare run leaves that folder out. Branch
coverage is measured in the run with all extras and gated at the package's own floor. The Python
blocks of the README run. Tests marked `slow` have a leg and a time limit of their own. Two legs run
at a time where there are two cores. A package that passed in full leaves a stamp for `make wheels`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import stamps
from environments import UV, Environment, interpreter
from side_by_side import Job, Outcome, Result, most_at_once, run_all, summarize
from workspace import ROOT, Member, select

DURATIONS = ROOT / ".tools" / "durations.json"
ALL_LEGS = ("bare", "full", "readme", "slow")


@dataclass(frozen=True, slots=True)
class Leg:
    """One way to run a package's tests."""

    member: Member
    name: str
    environment: Environment
    program: tuple[str, ...]
    """What `python` is parsed."""

    @property
    def title(self) -> str:
        """How it is called in the output."""
        return f"{self.member.name}, {self.name}"

    def run(self) -> Result:
        """Run it in its environment, which is made when it is not there."""
        problem = self.environment.prepare()
        if problem:
            return Result(False, f"the environment could not be made\n{problem}")
        done = subprocess.run(
            [str(self.environment.programs / "python"), *self.program],
            cwd=ROOT,
            env={**self.environment.variables, "COVERAGE_FILE": str(self._coverage_file)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        return Result(done.returncode == 0, done.stdout)

    @property
    def _coverage_file(self) -> Path:
        """One each, so that runs may meet."""
        return ROOT / f".coverage.{self.environment.folder.name}"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    packages: list[str]
    legs: tuple[str, ...]
    jobs: int
    python: str
    version: str
    coverage: bool
    pytest_arguments: list[str]

    @property
    def everything(self) -> bool:
        """Whether a package that passes has passed in full."""
        return set(self.legs) >= {"full", "readme", "slow"} and not self.pytest_arguments


def legs(member: Member, options: Options) -> list[Leg]:
    """Bare, with all extras and coverage, the README, the slow tests: those asked for."""
    tests = f"packages/{member.folder.name}/tests"
    coverage = (
        f"--cov={member.import_name}",
        "--cov-branch",
        f"--cov-fail-under={member.coverage_floor}",
    ) * options.coverage
    alone, full = (
        Environment(member, extras, options.python, options.version) for extras in (False, True)
    )

    def pytest(environment: Environment, name: str, *arguments: str) -> Leg:
        # A cache each: two at a time would overwrite each other's list of what failed last.
        cache = f"cache_dir=.pytest_cache/{environment.folder.name}-{name}"
        program = ("-m", "pytest", "-q", "-o", cache, *arguments, *options.pytest_arguments)
        return Leg(member, name, environment, program)

    readme = ("scripts/run_blocks.py", f"packages/{member.folder.name}/README.md")
    possible = [
        *(
            [pytest(alone, "bare", tests, f"--ignore={tests}/extras", "-m", "not slow")]
            if member.extras
            else []
        ),
        pytest(full, "full", tests, "-m", "not slow", *coverage),
        Leg(member, "readme", full, readme),
        *(
            [pytest(full, "slow", tests, "-m", "slow", "--timeout=600")]
            if has_slow_tests(member)
            else []
        ),
    ]
    return [leg for leg in possible if leg.name in options.legs]


def has_slow_tests(member: Member) -> bool:
    """Whether any test file of the package mentions the marker."""
    files = (member.folder / "tests").rglob("*.py")
    return any("mark.slow" in path.read_text(encoding="utf-8") for path in files)


def longest_first(chosen: list[Leg]) -> list[Leg]:
    """In the order of the last run's durations, so that no long one is left over at the end."""
    durations_by_leg = durations()

    def expected(leg: Leg) -> float:
        size = sum(path.stat().st_size for path in (leg.member.folder / "tests").rglob("*.py"))
        guess = 0.0 if leg.name == "readme" else size / 10_000
        return durations_by_leg.get(leg.title, guess)

    return sorted(chosen, key=expected, reverse=True)


def durations() -> dict[str, float]:
    """Seconds by leg, as far as it has ever run here."""
    try:
        durations_by_leg = json.loads(DURATIONS.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: float(seconds) for name, seconds in durations_by_leg.items()}


def keep_durations(outcomes: list[Outcome]) -> None:
    """For the next run's order."""
    durations_by_leg = durations() | {
        outcome.name: round(outcome.seconds, 1) for outcome in outcomes if outcome.passed
    }
    DURATIONS.parent.mkdir(parents=True, exist_ok=True)
    DURATIONS.write_text(json.dumps(durations_by_leg, indent=1, sort_keys=True), encoding="utf-8")


def keep_stamps(chosen: list[Leg], outcomes: list[Outcome], sources: dict[str, str]) -> None:
    """Note which packages have passed in full; `sources` as they were when it began."""
    passed = {outcome.name for outcome in outcomes if outcome.passed}
    by_package: dict[str, list[Leg]] = {}
    for leg in chosen:
        by_package.setdefault(leg.member.name, []).append(leg)
    for mine in by_package.values():
        member, environment = mine[0].member, mine[0].environment
        if all(leg.title in passed for leg in mine):
            stamps.write(member, environment.python_version, sources[member.name])
        elif (environment.folder / "pyvenv.cfg").exists():
            stamps.remove(member, environment.python_version)


def read(arguments: list[str]) -> Options:
    """What is behind `--` goes to pytest."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    parser.add_argument("--jobs", type=int, help="legs at a time; as many as cores unless given")
    parser.add_argument("--python", default="", metavar="VERSION", help="for example 3.14")
    parser.add_argument("--legs", default=",".join(ALL_LEGS), help="some of %(default)s")
    parser.add_argument(
        "--no-coverage",
        action="store_true",
        help="judge no coverage: measuring it doubles the time before Python 3.14",
    )
    parsed = parser.parse_args(arguments[:split])
    leg_names = tuple(parsed.legs.split(","))
    if unknown := set(leg_names) - set(ALL_LEGS):
        parser.error(f"no leg named {', '.join(sorted(unknown))}; there are: {', '.join(ALL_LEGS)}")
    python = interpreter(parsed.python) if parsed.python else ""
    return Options(
        packages=parsed.packages,
        legs=leg_names,
        jobs=most_at_once(parsed.jobs),
        python=python,
        version=parsed.python,
        coverage=not parsed.no_coverage,
        pytest_arguments=arguments[split + 1 :],
    )


def main(arguments: list[str]) -> int:
    """Run every leg of every package asked for, then say which failed."""
    options = read(arguments)
    # Once: what runs later takes the lock file as it is, several at a time.
    subprocess.run([UV, "lock", "--quiet"], cwd=ROOT, check=True)
    members = select(options.packages)
    # As they are now: somebody may go on writing while the tests run.
    sources = {member.name: stamps.fingerprint(member) for member in members}
    chosen = longest_first([leg for member in members for leg in legs(member, options)])
    outcomes = run_all([Job(leg.title, leg.run) for leg in chosen], at_once=options.jobs)
    keep_durations(outcomes)
    if options.everything:
        keep_stamps(chosen, outcomes, sources)
    return summarize(outcomes, good="every package passed on its own")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
