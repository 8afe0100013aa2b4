"""Check what uv does not: every member complete, sibling ranges honest, entry points resolvable."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

from packaging.requirements import Requirement

from workspace import ROOT, Member, load, members

NEEDED = ("README.md", "LICENSE", "CHANGELOG.md", "changelog.d", "tests")


def missing_files(member: Member) -> list[str]:
    """What every published package has and this one lacks."""
    needed = [
        *NEEDED,
        f"src/{member.import_name}/__init__.py",
        f"src/{member.import_name}/py.typed",
    ]
    return [f"{name} is missing" for name in needed if not (member.folder / name).exists()]


def untested(member: Member) -> list[str]:
    """A package without a test file proves nothing."""
    test_files = list((member.folder / "tests").rglob("test_*.py"))
    return [] if test_files else ["tests/ holds no test_*.py"]


def dishonest_siblings(member: Member, versions: dict[str, str]) -> list[str]:
    """Sibling requirements without a range, or whose range refuses the sibling's version."""
    problems = []
    for line in member.requirements:
        requirement = Requirement(line)
        version = versions.get(requirement.name)
        if version is None:
            continue
        if not requirement.specifier:
            problems.append(f"{line!r} gives no range for a sibling")
        elif version not in requirement.specifier:
            problems.append(f"{line!r} refuses the sibling's version {version}")
    return problems


def broken_entry_points(member: Member) -> list[str]:
    """Entry points whose module or name does not exist in the sources."""
    groups = dict(member.project.get("entry-points", {}))  # type: ignore[call-overload]
    groups["scripts"] = member.project.get("scripts", {})
    return [
        f"entry point {group}:{name} = {target!r} does not resolve"
        for group, entries in groups.items()
        for name, target in entries.items()
        if not resolves(member, target)
    ]


def resolves(member: Member, target: str) -> bool:
    """Whether `module:name` exists, read from the source without importing it."""
    module, _, name = target.partition(":")
    path = member.folder / "src" / Path(*module.split("."))
    source = next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)
    return source is not None and name in top_level_names(source)


def top_level_names(source: Path) -> set[str]:
    """Names a module defines or imports at its top level."""
    names: set[str] = set()
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(t.id for t in node.targets if isinstance(t, ast.Name))
    return names


def unlisted(member: Member, sources: dict[str, object]) -> list[str]:
    """Members have to be workspace sources, or uv asks PyPI for them."""
    return [] if member.name in sources else ["is not in [tool.uv.sources] of the root"]


def bad_fragments(member: Member) -> list[str]:
    """Changelog fragments whose ending towncrier would ignore silently."""
    kinds = {"added", "changed", "deprecated", "removed", "fixed"}
    return [
        f"changelog.d/{path.name} is none of {', '.join(sorted(kinds))}"
        for path in (member.folder / "changelog.d").glob("*.md")
        if path.suffixes[-2:-1] and path.suffixes[-2].strip(".") not in kinds
    ]


def unknown_wheel_tests(member: Member) -> list[str]:
    """Files under `wheel-tests` that are not there: `make wheels` would prove less than it says."""
    return [
        f"[tool.waystation] wheel-tests names {name}, which is missing"
        for name in member.wheel_tests
        if not (member.folder / name).exists()
    ]


def pythons_of(member: Member) -> list[str]:
    """The classifiers that name a Python version, which is what `make test` is run on."""
    classifiers = member.project.get("classifiers", [])
    assert isinstance(classifiers, list)  # noqa: S101
    return sorted(str(line) for line in classifiers if "Programming Language :: Python" in line)


def uneven_pythons(everyone: list[Member]) -> list[str]:
    """Packages that do not promise the same Pythons as most of the others."""
    promised = Counter(tuple(pythons_of(member)) for member in everyone)
    common, _ = promised.most_common(1)[0]
    return [
        f"{member.folder.name}: Python classifiers differ from those of the others, which are: "
        + ", ".join(line.rpartition(" :: ")[2] for line in common)
        for member in everyone
        if tuple(pythons_of(member)) != common
    ]


def problems_of(member: Member, versions: dict[str, str], sources: dict[str, object]) -> list[str]:
    """Everything wrong with one member."""
    return [
        *missing_files(member),
        *untested(member),
        *unlisted(member, sources),
        *dishonest_siblings(member, versions),
        *broken_entry_points(member),
        *bad_fragments(member),
        *unknown_wheel_tests(member),
    ]


def main() -> int:
    """Print every problem; 1 when there is one."""
    everyone = members()
    versions = {member.name: member.version for member in everyone}
    sources: dict[str, object] = load(ROOT)["tool"]["uv"]["sources"]  # type: ignore[index]
    problems = [
        f"{member.folder.name}: {problem}"
        for member in everyone
        for problem in problems_of(member, versions, sources)
    ]
    problems += uneven_pythons(everyone)
    print("\n".join(problems) or f"{len(everyone)} packages are complete")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
