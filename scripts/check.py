"""Every static check of the repository, one line each; the output only of those that fail."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from workspace import ROOT, members

UV = os.environ.get("UV_COMMAND", "uv")

TEMPLATES = "examples/providers"

COMPOSE = ("--builtin-schema", "vendor.compose-spec")

Check = tuple[str, list[str]]


def checks() -> list[Check]:
    """Name and command of each check, the fast ones first."""
    everyone = members()
    sources = [f"packages/{member.folder.name}/src" for member in everyone]
    tests = [f"packages/{member.folder.name}/tests" for member in everyone]
    return [
        ("lock file", [UV, "lock", "--check", "--quiet"]),
        ("format", ["ruff", "format", "--check", "."]),
        ("lint", ["ruff", "check", "."]),
        ("spelling", ["codespell", "packages", "docs", "examples", "scripts", "README.md"]),
        ("compose file", ["check-jsonschema", *COMPOSE, "docker-compose.yml"]),
        ("workspace", [sys.executable, "scripts/check_workspace.py"]),
        ("public names", [sys.executable, "scripts/public_names.py", "--check"]),
        ("paths in the architecture", [sys.executable, "scripts/check_paths.py"]),
        ("circles of imports", [sys.executable, "scripts/check_cycles.py"]),
        ("translated guides", [sys.executable, "scripts/check_translations.py"]),
        ("sync faces", [sys.executable, "scripts/generate_sync.py", "--check"]),
        ("shared modules", [sys.executable, "scripts/copy_shared.py", "--check"]),
        ("layers", ["lint-imports", "--no-logo"]),
        *(
            (f"dependencies of {member.folder.name}", deptry(member.folder.name))
            for member in everyone
        ),
        ("types of the sources", ["mypy", *sources, "scripts"]),
        *((f"types of {path}", ["mypy", path]) for path in tests),
        ("types of examples", ["mypy", "examples", "--exclude", f"^{TEMPLATES}/"]),
        *(check for folder in templates() for check in template_checks(folder)),
        *((f"types of {name}", ["mypy", *files]) for name, files in integration_tests().items()),
    ]


def templates() -> list[str]:
    """The packages under examples/ that are there to be copied."""
    return sorted(
        str(path.parent.relative_to(ROOT)) for path in (ROOT / TEMPLATES).glob("*/pyproject.toml")
    )


def template_checks(folder: str) -> list[Check]:
    """A template is held to what a package is."""
    name = Path(folder).name
    return [
        (f"types of {name}", ["mypy", f"{folder}/src", f"{folder}/tests"]),
        (
            f"dependencies of {name}",
            ["deptry", f"{folder}/src", "--config", f"{folder}/pyproject.toml"],
        ),
    ]


def integration_tests() -> dict[str, list[str]]:
    """The files of each folder: mypy refuses two `conftest.py` in one run."""
    by_folder: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests-integration").rglob("*.py")):
        folder = str(path.parent.relative_to(ROOT))
        by_folder.setdefault(folder, []).append(str(path.relative_to(ROOT)))
    return by_folder


def deptry(folder: str) -> list[str]:
    """What the package imports is what it declares, and the other way round."""
    return ["deptry", f"packages/{folder}/src", "--config", f"packages/{folder}/pyproject.toml"]


def passes(name: str, command: list[str]) -> bool:
    """Run one check; its output is shown when it fails."""
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    verdict = "ok" if done.returncode == 0 else "FAILED"
    print(f"{name:38} {verdict:6} {time.monotonic() - began:5.1f} s", flush=True)
    if done.returncode != 0:
        print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0


def main() -> int:
    """Run all of them, whatever fails; 1 when one did."""
    failed = [name for name, command in checks() if not passes(name, command)]
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nall checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
