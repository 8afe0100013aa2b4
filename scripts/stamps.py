"""What has passed: a package's tests in full, for exactly these sources.

`make test` writes a stamp, `make wheels` believes it as long as nothing it stands for has changed.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

from workspace import ROOT, Member, members

FOLDER = ROOT / ".tools" / "stamps"
SHARED = ("pyproject.toml", "uv.lock")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write(member: Member, python_version: str, sources: str) -> None:
    """The sources with this fingerprint have passed on this Python, with all extras."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    stamp = {"sources": sources}
    _file(member, python_version).write_text(json.dumps(stamp), encoding="utf-8")


def remove(member: Member, python_version: str) -> None:
    """It has failed: whatever passed before says nothing."""
    _file(member, python_version).unlink(missing_ok=True)


def holds(member: Member, python_version: str) -> bool:
    """Whether exactly these sources have passed on this Python."""
    try:
        stamp = json.loads(_file(member, python_version).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(stamp, dict) and stamp.get("sources") == fingerprint(member)


def fingerprint(member: Member) -> str:
    """Of the package, of all packages of ours it stands on, and of the versions around them."""
    digest = sha256()
    for member_below in [member, *siblings_below(member)]:
        for folder in ("src", "tests"):
            for path in sorted((member_below.folder / folder).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    _add(digest, path)
        for name in ("pyproject.toml", "README.md"):
            _add(digest, member_below.folder / name)
    for name in SHARED:
        _add(digest, ROOT / name)
    return digest.hexdigest()


def siblings_below(member: Member) -> list[Member]:
    """The members it requires, directly or not, extras included; sorted by folder."""
    by_name = {member_below.name: member_below for member_below in members()}
    siblings: dict[str, Member] = {}
    waiting = [member]
    while waiting:
        for line in waiting.pop().requirements:
            name = NAME.match(line)
            sibling = by_name.get(name.group() if name else "")
            if sibling and sibling.name != member.name and sibling.name not in siblings:
                siblings[sibling.name] = sibling
                waiting.append(sibling)
    return sorted(siblings.values(), key=lambda member_below: member_below.folder)


def _add(digest, path: Path) -> None:  # type: ignore[no-untyped-def] # hashlib names no type
    content = path.read_bytes()
    digest.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode())
    digest.update(content)


def _file(member: Member, python_version: str) -> Path:
    return FOLDER / f"{member.folder.name}-{python_version}.json"
