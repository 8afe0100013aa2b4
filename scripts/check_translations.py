"""Check that every guide has its translation, with the same programs in it."""

from __future__ import annotations

import sys
from pathlib import Path

from run_blocks import blocks_of
from workspace import ROOT

GUIDES = ROOT / "docs" / "guides"
TRANSLATIONS = ROOT / "docs" / "zh" / "guides"


def problem(guide: Path) -> str:
    """What is wrong with the guide's translation; empty when nothing is."""
    translation = TRANSLATIONS / guide.name
    if not translation.exists():
        return f"{translation.relative_to(ROOT)} is missing"
    if [block.code for block in blocks_of(guide)] != [
        block.code for block in blocks_of(translation)
    ]:
        return (
            f"{translation.relative_to(ROOT)} has other Python blocks than the original: copy them"
        )
    return ""


def main() -> int:
    """Say what is wrong; 1 when something is."""
    problems = [message for guide in sorted(GUIDES.glob("*.md")) if (message := problem(guide))]
    for message in problems:
        print(message)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
