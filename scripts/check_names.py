"""Names that say nothing: a function is a verb, a value a noun, a predicate a question.

    python scripts/check_names.py [PATH ...]

Bare participles, prepositions and pronouns are refused as names of functions, methods, arguments and
variables of the sources. The list is a floor, not a style guide: CONTRIBUTING.md has the rule.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from workspace import ROOT, members

_FUNCTIONS = frozenset(
    [
        "again",
        "alike",
        "anew",
        "apart",
        "asked",
        "aside",
        "away",
        "behind",
        "beside",
        "borne",
        "by",
        "enough",
        "found",
        "from_",
        "given",
        "gone",
        "heard",
        "how",
        "kept",
        "known",
        "later",
        "left",
        "made",
        "needed",
        "of",
        "off",
        "on",
        "one",
        "ours",
        "own",
        "placed",
        "quick",
        "rest",
        "said",
        "seen",
        "soon",
        "taken",
        "theirs",
        "told",
        "wanted",
        "went_well",
        "what",
        "when",
        "whence",
        "where",
        "which",
        "who",
        "whole",
        "whom",
        "whose",
        "why",
        "with_",
        "within",
        "without",
    ]
)
_VARIABLES = frozenset(
    [
        "again",
        "anew",
        "apart",
        "asked",
        "borne",
        "found",
        "given",
        "gone",
        "heard",
        "kept",
        "known",
        "made",
        "one",
        "ours",
        "said",
        "seen",
        "somebody",
        "someone",
        "taken",
        "theirs",
        "there",
        "told",
        "wanted",
        "whole",
        "whom",
        "why",
    ]
)


def refused_names(path: Path) -> Iterator[tuple[int, str]]:
    """Each refused name of a module with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name.strip("_") in _FUNCTIONS:
                    yield node.lineno, f"function {name}"
            case ast.arg(arg=name):
                if name.strip("_") in _VARIABLES:
                    yield node.lineno, f"argument {name}"
            case ast.Name(id=name, ctx=ast.Store()):
                if name.strip("_") in _VARIABLES:
                    yield node.lineno, f"variable {name}"


def sources() -> list[Path]:
    """Every module of every package, generated ones left out, and the scripts."""
    folders = [member.folder / "src" for member in members()]
    return sorted(path for folder in [*folders, ROOT / "scripts"] for path in folder.rglob("*.py"))


def main(arguments: list[str]) -> int:
    """Print each refused name; 1 when there is one."""
    paths = [Path(name).resolve() for name in arguments] or sources()
    problems = [
        f"{path.relative_to(ROOT)}:{line} {what}: say what it is or does"
        for path in paths
        for line, what in sorted(refused_names(path))
    ]
    print("\n".join(problems) or "no name is refused")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
