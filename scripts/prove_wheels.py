"""Build every package, then install each wheel alone, outside the workspace, and prove it there.

    python scripts/prove_wheels.py [--jobs N] [--python 3.14] [PACKAGE ...]

Every module is imported, the README's blocks run, then the tests: all of them, or, where `make test`
has just passed for exactly these sources on this Python, those in the package's pyproject.toml under
`[tool.waystation] wheel-tests`. Only here does a sibling range that refuses the sibling's
version fail: inside a workspace uv does not look at it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from functools import partial
from pathlib import Path

import stamps
from environments import FOLDER, UV, interpreter, programs_of, python_version_of
from side_by_side import Job, Result, most_at_once, run_all, summarize
from workspace import ROOT, Member, select

DIST = ROOT / "dist"
SCRIPTS = ROOT / "scripts"


def build() -> None:
    """Fresh wheels and source archives of every member."""
    shutil.rmtree(DIST, ignore_errors=True)
    command = [UV, "build", "--quiet", "--all-packages", "--no-sources", "--out-dir", str(DIST)]
    subprocess.run(command, cwd=ROOT, check=True)
    print(f"built {len(list(DIST.glob('*.whl')))} wheels into dist/", flush=True)


def wheel_of(member: Member) -> Path:
    """The member's freshly built wheel."""
    (wheel,) = DIST.glob(f"{member.import_name}-{member.version}-*.whl")
    return wheel


def test_requirements() -> list[str]:
    """The root's `test` group."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [str(line) for line in groups["dependency-groups"]["test"]]


def prove(member: Member, outside: Path, python: str) -> Result:
    """Install the wheel with all its extras in an empty environment, and use it there."""
    environment = FOLDER / f"{member.folder.name}-wheel"
    folder = copied(member, outside)
    make = [UV, "venv", "--quiet", "--clear", str(environment)]
    printed = ""
    for command in (
        [*make, "--python", python] if python else make,
        install(member, environment),
    ):
        done = run(command, outside)
        printed += done.output
        if not done.passed:
            return Result(False, printed)
    for command in programs(member, folder, python_version_of(environment)):
        done = run([str(programs_of(environment) / "python"), *command], outside)
        printed += done.output
        if not done.passed:
            return Result(False, printed)
    return Result(True, printed)


def install(member: Member, environment: Path) -> list[str]:
    """The command that puts the wheel and what tests need into the environment."""
    extras = f"[{','.join(member.extras)}]" if member.extras else ""
    command = [UV, "pip", "install", "--quiet", "--find-links", str(DIST)]
    command += ["--python", str(environment)]
    for sibling in sorted(DIST.glob("*.whl")):
        command += ["--refresh-package", sibling.name.split("-")[0].replace("_", "-")]
    return [*command, f"{member.name}{extras} @ {wheel_of(member).as_uri()}", *test_requirements()]


def programs(member: Member, folder: Path, python_version: str) -> list[list[str]]:
    """What `python` is given: the imports, the README, the tests."""
    pytest = ["-I", "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    pytest += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder.parent.parent)]
    return [
        ["-I", str(SCRIPTS / "import_everything.py"), member.import_name],
        [str(SCRIPTS / "run_blocks.py"), str(folder / "README.md")],
        [*pytest, *(str(folder / name) for name in chosen_tests(member, python_version))],
    ]


def chosen_tests(member: Member, python_version: str) -> list[str]:
    """All tests; a few where these very sources have just passed all of them."""
    proved = stamps.holds(member, python_version)
    return member.wheel_tests if proved and member.wheel_tests else ["tests"]


def run(command: list[str], folder: Path) -> Result:
    """Run it there; what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return Result(done.returncode == 0, done.stdout)


def copied(member: Member, outside: Path) -> Path:
    """The member's tests and README at the same place relative to each other, without sources."""
    copy = outside / "packages" / member.folder.name
    shutil.copytree(member.folder / "tests", copy / "tests")
    for name in ("README.md", "public-names.txt"):
        shutil.copy(member.folder / name, copy)
    return copy


def main(arguments: list[str]) -> int:
    """Build all, prove those asked for, say which failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    parser.add_argument("--jobs", type=int, help="wheels at a time; as many as cores unless given")
    parser.add_argument("--python", default="", metavar="VERSION", help="for example 3.14")
    options = parser.parse_args(arguments)
    chosen = select(options.packages)
    python = interpreter(options.python) if options.python else ""
    build()
    with tempfile.TemporaryDirectory() as outside:
        jobs = [
            Job(f"{wheel_of(member).name}", partial(prove, member, Path(outside), python))
            for member in chosen
        ]
        outcomes = run_all(jobs, at_once=most_at_once(options.jobs))
    return summarize(outcomes, good="every wheel works on its own")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
