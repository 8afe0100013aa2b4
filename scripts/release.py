"""Build what a tag such as `microservice-lb/v0.2.0` names, after proving its wheel.

    python scripts/release.py TAG

The files to upload end up in `dist/release/`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from workspace import ROOT, Member, select

DIST = ROOT / "dist"


def named_by(tag: str) -> Member:
    """The member a tag names, its version checked against pyproject.toml."""
    name, separator, version = tag.partition("/v")
    if not separator:
        sys.exit(f"{tag!r} is no release tag; it has to look like microservice-lb/v0.2.0")
    (member,) = select([name])
    if member.version != version:
        sys.exit(f"{tag!r} asks for {version}, but {name} is at {member.version}: bump it first")
    return member


def unreleased(member: Member) -> list[str]:
    """Changelog fragments that were not yet built into CHANGELOG.md."""
    return sorted(path.name for path in (member.folder / "changelog.d").glob("*.md"))


def main(tag: str) -> None:
    """Prove the wheel, then lay out its two files."""
    member = named_by(tag)
    left = unreleased(member)
    if left:
        sys.exit(f"build the changelog first (towncrier): {', '.join(left)} are left")
    prove = [sys.executable, str(ROOT / "scripts" / "prove_wheels.py"), member.folder.name]
    subprocess.run(prove, check=True)
    release = DIST / "release"
    release.mkdir()
    for path in DIST.glob(f"{member.import_name}-{member.version}*"):
        shutil.copy(path, release)
    print(f"{len(list(release.iterdir()))} files in {release.relative_to(ROOT)}/")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
