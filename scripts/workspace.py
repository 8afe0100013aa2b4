"""The members of the workspace, as their pyproject.toml files describe them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Member:
    """One package of the workspace."""

    folder: Path
    pyproject: dict[str, dict[str, object]]

    @property
    def project(self) -> dict[str, object]:
        """The `[project]` table."""
        return self.pyproject["project"]

    @property
    def name(self) -> str:
        """The distribution's name."""
        return str(self.project["name"])

    @property
    def version(self) -> str:
        """The distribution's version."""
        return str(self.project["version"])

    @property
    def import_name(self) -> str:
        """The import package."""
        return self.name.replace("-", "_")

    @property
    def extras(self) -> dict[str, list[str]]:
        """Requirements by extra."""
        extras = self.project.get("optional-dependencies", {})
        return dict(extras) if isinstance(extras, dict) else {}

    @property
    def requirements(self) -> list[str]:
        """All requirements, those of the extras included."""
        own = self.project.get("dependencies", [])
        plain = list(own) if isinstance(own, list) else []
        return plain + [line for lines in self.extras.values() for line in lines]

    @property
    def coverage_floor(self) -> int:
        """The branch coverage in percent below which its tests fail."""
        coverage = self.pyproject["tool"]["coverage"]
        assert isinstance(coverage, dict)  # noqa: S101
        return int(coverage["report"]["fail_under"])

    @property
    def wheel_tests(self) -> list[str]:
        """Test files that the wheel has to pass even where all have just passed in the checkout.

        Empty when the package names none in `[tool.waystation]`: then it is all of them.
        """
        tools = self.pyproject.get("tool", {})
        table = tools.get("waystation", {})
        paths = table.get("wheel-tests", []) if isinstance(table, dict) else []
        return [str(name) for name in paths]


def members() -> list[Member]:
    """Every member, sorted by folder."""
    folders = sorted(path.parent for path in (ROOT / "packages").glob("*/pyproject.toml"))
    return [Member(folder, load(folder)) for folder in folders]


def load(folder: Path) -> dict[str, dict[str, object]]:
    """The member's pyproject.toml."""
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def select(names: list[str]) -> list[Member]:
    """The members named by folder, distribution or import name; all when none is named."""
    everyone = members()
    if not names:
        return everyone
    by_name = {
        name: member
        for member in everyone
        for name in (member.folder.name, member.name, member.import_name)
    }
    unknown = [name for name in names if name not in by_name]
    if unknown:
        available = ", ".join(member.folder.name for member in everyone)
        raise SystemExit(f"no package named {', '.join(unknown)}; there are: {available}")
    return [by_name[name] for name in names]
