"""Check that every file which docs/architecture.md names is there.

A section names its folder once, as `packages/X/src/Y/`; the other paths of the section are below it.
"""

from __future__ import annotations

import re
import sys

from workspace import ROOT

PAGE = ROOT / "docs" / "architecture.md"
_NAMED = re.compile(r"`([a-z0-9_./-]+(?:\.py|/))`")
_FOLDER = re.compile(r"packages/[a-z-]+/src/[a-z_]+/")


def missing_paths(text: str) -> list[str]:
    """The paths on the page that lead nowhere."""
    missing = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        folder = ROOT
        for path in _NAMED.findall(section):
            if _FOLDER.fullmatch(path):
                folder = ROOT / path
            if not (ROOT / path).exists() and not (folder / path).exists():
                missing.append(path)
    return missing


def main() -> int:
    """Print what is missing; 1 when something is."""
    missing = missing_paths(PAGE.read_text(encoding="utf-8"))
    for path in missing:
        print(f"docs/architecture.md names {path}, which does not exist")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
