"""Write each package's `public-names.txt`: what it promises not to change without a notice.

    python scripts/public_names.py [--check]

Public is what the import package and the sub-packages named in `[tool.waystation]` of the package's
pyproject.toml list in `__all__`. `--check` writes nothing and fails when a file is out of date, or
was changed without a changelog fragment. Needs all extras installed.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

from workspace import ROOT, Member, members

HEADER = (
    "# What this package promises: written by scripts/public_names.py, "
    "changed only with a changelog fragment.\n"
)


def public_names(member: Member) -> str:
    """The text of the package's file: each public module, and its names indented below it."""
    modules = [(member.import_name, ""), *((name, "") for name in listed(member, "public-modules"))]
    modules += [(name, " (extra)") for name in listed(member, "public-modules-of-extras")]
    return HEADER + "".join(
        f"{module}{mark}\n" + "".join(f"    {name}\n" for name in sorted(exports(module)))
        for module, mark in modules
    )


def listed(member: Member, key: str) -> list[str]:
    """The modules that the package's pyproject.toml names under that key."""
    table = member.pyproject["tool"].get("waystation", {})
    return [str(name) for name in table.get(key, [])] if isinstance(table, dict) else []


def exports(module: str) -> tuple[str, ...]:
    """What the module lists in `__all__`."""
    names: tuple[str, ...] = import_module(module).__all__
    return names


def changed_without_fragment(member: Member) -> bool:
    """Whether no changelog fragment came with the last change of the file or after it."""
    file, fragments = f"{member.folder}/public-names.txt", f"{member.folder}/changelog.d"
    if git("status", "--porcelain", "--", file):
        return not git("status", "--porcelain", "--", fragments)
    commit = git("log", "-1", "--format=%H", "--", file)
    notes = (fragments, f"{member.folder}/CHANGELOG.md")
    # The parents of the commit are left out, so that the range begins with the commit itself.
    return bool(commit) and not git("log", "--oneline", "HEAD", f"^{commit}^@", "--", *notes)


def git(*arguments: str) -> str:
    """What git prints; empty outside a repository."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    """Write what differs, or with `--check` name it."""
    problems = []
    for member in members():
        path, text = member.folder / "public-names.txt", public_names(member)
        if "--check" not in arguments:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            problems.append(f"{member.name}: run python scripts/public_names.py")
        elif changed_without_fragment(member):
            problems.append(f"{member.name}: public-names.txt changed, but no changelog fragment")
    print("\n".join(problems) or "the public names are the stored ones")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
