"""Every static check of the repository, one line each; the output only of those that fail.

Three rows of checks, each in its order, run side by side on as many cores as there are: mypy on the
packages, mypy on examples and integration tests with a cache of its own, and everything else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from side_by_side import most_at_once
from workspace import ROOT, members

UV = os.environ.get("UV_COMMAND", "uv")

TEMPLATES = "examples/providers"

COMPOSE = ("--builtin-schema", "vendor.compose-spec")

Check = tuple[str, list[str]]


# Two runs of mypy at a time must not share a cache.
OTHER_CACHE = ("--cache-dir", ".mypy_cache/examples")

_printing = threading.Lock()


def rows() -> list[list[Check]]:
    """Name and command of each check; the longest row first."""
    return [types_of_packages(), types_of_the_rest(), everything_else()]


def types_of_packages() -> list[Check]:
    """Sources all at once; tests by package, since mypy refuses two `conftest.py` in one run."""
    folders = [f"packages/{member.folder.name}" for member in members()]
    sources = [f"{folder}/src" for folder in folders]
    return [
        ("types of the sources", ["mypy", *sources, "scripts", "benchmarks/report.py"]),
        *((f"types of {folder}/tests", ["mypy", f"{folder}/tests"]) for folder in folders),
    ]


def types_of_the_rest() -> list[Check]:
    """Examples, templates, integration tests."""
    mypy = ["mypy", *OTHER_CACHE]
    return [
        ("types of examples", [*mypy, "examples", "--exclude", f"^{TEMPLATES}/"]),
        *(
            (f"types of {Path(folder).name}", [*mypy, f"{folder}/src", f"{folder}/tests"])
            for folder in templates()
        ),
        *((f"types of {name}", [*mypy, *files]) for name, files in integration_tests().items()),
    ]


def everything_else() -> list[Check]:
    """The fast ones."""
    return [
        ("lock file", [UV, "lock", "--check", "--quiet"]),
        ("format", ["ruff", "format", "--check", "."]),
        ("lint", ["ruff", "check", "."]),
        ("spelling", ["codespell", "packages", "docs", "examples", "scripts", "README.md"]),
        ("compose file", ["check-jsonschema", *COMPOSE, "docker-compose.yml"]),
        ("workspace", [sys.executable, "scripts/check_workspace.py"]),
        ("public names", [sys.executable, "scripts/public_names.py", "--check"]),
        ("paths in the architecture", [sys.executable, "scripts/check_paths.py"]),
        ("names", [sys.executable, "scripts/check_names.py"]),
        ("circles of imports", [sys.executable, "scripts/check_cycles.py"]),
        ("printed files", [sys.executable, "scripts/run_blocks.py", "--files-only", *pages()]),
        ("translated guides", [sys.executable, "scripts/check_translations.py"]),
        ("sync faces", [sys.executable, "scripts/generate_sync.py", "--check"]),
        ("shared modules", [sys.executable, "scripts/copy_shared.py", "--check"]),
        ("layers", ["lint-imports", "--no-logo"]),
        *(dependencies(f"packages/{member.folder.name}") for member in members()),
        *(dependencies(folder) for folder in templates()),
    ]


def dependencies(folder: str) -> Check:
    """What a package imports is what it declares, and the other way round."""
    command = ["deptry", f"{folder}/src", "--config", f"{folder}/pyproject.toml"]
    return f"dependencies of {Path(folder).name}", command


def pages() -> list[str]:
    """The READMEs and the pages of the documentation."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("packages/*/README.md"), *ROOT.glob("docs/**/*.md")]
    return sorted(str(path) for path in paths if "_build" not in path.parts)


def templates() -> list[str]:
    """The packages under examples/ that are there to be copied."""
    return sorted(
        str(path.parent.relative_to(ROOT)) for path in (ROOT / TEMPLATES).glob("*/pyproject.toml")
    )


def integration_tests() -> dict[str, list[str]]:
    """The files of each folder."""
    by_folder: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests-integration").rglob("*.py")):
        folder = str(path.parent.relative_to(ROOT))
        by_folder.setdefault(folder, []).append(str(path.relative_to(ROOT)))
    return by_folder


def passes(name: str, command: list[str]) -> bool:
    """Run one check; its output is shown when it fails."""
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    verdict = "ok" if done.returncode == 0 else "FAILED"
    with _printing:
        print(f"{name:42} {verdict:6} {time.monotonic() - began:5.1f} s", flush=True)
        if done.returncode != 0:
            print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0


def failed_in(row: list[Check]) -> list[str]:
    """Run a row in its order; the names of those that failed."""
    return [name for name, command in row if not passes(name, command)]


def main() -> int:
    """Run all of them, whatever fails; 1 when one did."""
    began = time.monotonic()
    with ThreadPoolExecutor(max_workers=most_at_once()) as pool:
        failed = [name for names in pool.map(failed_in, rows()) for name in names]
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nall checks passed", end="")
    print(f" ({time.monotonic() - began:.0f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
