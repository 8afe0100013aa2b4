"""Print the path of a usable uv; install one from PyPI into `.tools/` when the machine has none."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
PINNED = "0.13.9"


def required_version() -> tuple[int, ...]:
    """The floor that pyproject.toml's `required-version` asks for."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return numbers(settings["tool"]["uv"]["required-version"])


def numbers(version: str) -> tuple[int, ...]:
    """The first dotted number in a text, as integers."""
    match = re.search(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def good_enough(uv: str) -> bool:
    """Whether this uv runs and is new enough."""
    try:
        answer = subprocess.run([uv, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return numbers(answer.stdout) >= required_version()


def install() -> str:
    """Install the pinned uv from PyPI into `.tools/`."""
    print(f"uv is missing: installing uv {PINNED} from PyPI into .tools/", file=sys.stderr)
    requirement = f"uv=={PINNED}"
    try:
        venv.create(TOOLS, with_pip=True, clear=True)
        pip = [str(TOOLS / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement]
    except (OSError, subprocess.CalledProcessError):
        # Debian ships Python without ensurepip; its pip, if there, can still fill a folder.
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(TOOLS)]
        pip.append(requirement)
    if subprocess.run(pip, check=False, stdout=sys.stderr).returncode != 0:
        sys.exit(
            "uv could not be installed from PyPI: check the network, or install uv yourself "
            "(https://docs.astral.sh/uv/getting-started/installation/)"
        )
    return str(TOOLS / "bin" / "uv")


def main() -> None:
    """Prefer the uv on PATH, then the one in `.tools/`, then a fresh one."""
    for candidate in (shutil.which("uv"), str(TOOLS / "bin" / "uv")):
        if candidate and good_enough(candidate):
            print(candidate)
            return
    print(install())


if __name__ == "__main__":
    main()
