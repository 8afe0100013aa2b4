"""Build every package, then install each wheel alone, outside the workspace, and run its tests.

    python scripts/prove_wheels.py [PACKAGE ...]

Only here does a sibling range that refuses the sibling's version fail: inside a workspace uv does
not look at it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from workspace import ROOT, Member, select

UV = os.environ.get("UV_COMMAND", "uv")
DIST = ROOT / "dist"


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


def prove(member: Member, outside: Path) -> bool:
    """Install the wheel with all its extras in an empty environment and run its tests."""
    extras = f"[{','.join(member.extras)}]" if member.extras else ""
    command = [UV, "run", "--quiet", "--isolated", "--no-project", "--find-links", str(DIST)]
    for sibling in sorted(DIST.glob("*.whl")):
        command += ["--refresh-package", sibling.name.split("-")[0].replace("_", "-")]
    command += ["--with", f"{member.name}{extras} @ {wheel_of(member).as_uri()}"]
    for requirement in test_requirements():
        command += ["--with", requirement]
    command += ["--", "python", "-I", "-m", "pytest", "-q", "-m", "not slow"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(outside)]
    command += ["-p", "no:cacheprovider", str(copied_tests(member, outside))]
    print(f"\n== {wheel_of(member).name}", flush=True)
    began = time.monotonic()
    passed = subprocess.run(command, cwd=outside, check=False).returncode == 0
    verdict = "passed" if passed else "FAILED"
    print(f"== {wheel_of(member).name}: {verdict} in {time.monotonic() - began:.1f} s", flush=True)
    return passed


def copied_tests(member: Member, outside: Path) -> Path:
    """The member's tests and README at the same place relative to each other, without sources."""
    copy = outside / "packages" / member.folder.name
    shutil.copytree(member.folder / "tests", copy / "tests")
    shutil.copy(member.folder / "README.md", copy)
    return copy / "tests"


def main(wanted: list[str]) -> int:
    """Build all, prove those asked for, say which failed."""
    chosen = select(wanted)
    build()
    with tempfile.TemporaryDirectory() as outside:
        failed = [member.name for member in chosen if not prove(member, Path(outside))]
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nevery wheel works on its own")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
