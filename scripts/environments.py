"""An environment for each package and interpreter, which holds only what the package declares.

They lie in `.tools/envs` and stay there: `uv sync` takes away what is declared no longer, so an
import that nobody declared fails in an old environment as it does in a new one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from workspace import ROOT, Member

UV = os.environ.get("UV_COMMAND", "uv")
FOLDER = ROOT / ".tools" / "envs"

_guards: dict[Path, threading.Lock] = {}
_ready: set[Path] = set()
_guards_guard = threading.Lock()


def interpreter(version: str) -> str:
    """The Python of this version (`3.14`): the one PYTHON_3_14 names, else what uv finds."""
    variable = f"PYTHON_{version.replace('.', '_')}"
    named = os.environ.get(variable, "")
    if named:
        if not Path(named).exists():
            sys.exit(f"{variable} names {named}, which does not exist")
        return named
    printed = subprocess.run(
        [UV, "python", "find", "--no-project", version], capture_output=True, text=True, check=False
    )
    if printed.returncode != 0:
        sys.exit(
            f"there is no Python {version} here: install it (`uv python install {version}`, pyenv "
            f"or your system's packages), or name one: {variable}=/path/to/python{version}"
        )
    return printed.stdout.strip()


def python_version_of(environment: Path) -> str:
    """`3.14`, as the environment itself says."""
    lines = (environment / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    settings = dict(line.split(" = ", 1) for line in lines if " = " in line)
    return ".".join(settings["version_info"].split(".")[:2])


def programs_of(environment: Path) -> Path:
    """The folder of its programs."""
    return environment / ("Scripts" if os.name == "nt" else "bin")


@dataclass(frozen=True, slots=True)
class Environment:
    """Where one package is installed, alone or with all its extras, beside the group `test`."""

    member: Member
    extras: bool
    python: str = ""
    """The interpreter's path; empty for the one uv chooses."""
    version: str = ""
    """What to call that interpreter in the folder's name."""

    @property
    def folder(self) -> Path:
        """Where it lies."""
        kind = "all-extras" if self.extras else "bare"
        return FOLDER / f"{self.member.folder.name}-{kind}-{self.version or 'default'}"

    @property
    def programs(self) -> Path:
        """The folder of its programs."""
        return programs_of(self.folder)

    @property
    def variables(self) -> dict[str, str]:
        """This process's environment as it is with that one activated."""
        path = f"{self.programs}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, "VIRTUAL_ENV": str(self.folder), "PATH": path}

    @property
    def python_version(self) -> str:
        """`3.14`, once the environment is prepared."""
        return python_version_of(self.folder)

    def prepare(self) -> str:
        """Make it hold exactly what is declared; what went wrong, or nothing."""
        with _guards_guard:
            guard = _guards.setdefault(self.folder, threading.Lock())
        with guard:
            if self.folder in _ready:
                return ""
            done = subprocess.run(
                self._sync(),
                cwd=ROOT,
                env={
                    **{key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"},
                    "UV_PROJECT_ENVIRONMENT": str(self.folder),
                },
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                _ready.add(self.folder)
                return ""
            return done.stdout + done.stderr

    def _sync(self) -> list[str]:
        command = [UV, "sync", "--quiet", "--frozen", "--package", self.member.name]
        command += ["--no-default-groups", "--group", "test"]
        command += ["--all-extras"] if self.extras else []
        return [*command, "--python", self.python] if self.python else command
