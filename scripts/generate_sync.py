"""Write nacos_client's sync faces from its async ones.

    python scripts/generate_sync.py [--check]

`--check` writes nothing and fails when a generated file is out of date.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "packages/nacos-client/src/nacos_client"

WORDS = (
    (r"\bAsync(?=[A-Z])", ""),
    (r"\bRunner\b", "SyncRunner"),
    (r"\basync (def|for|with) ", r"\1 "),
    (r"\bawait ", ""),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\b__aiter__\b", "__iter__"),
    (r"\b__anext__\b", "__next__"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\baclose\b", "close"),
    (r"sync=False", "sync=True"),
    (r"The async ", "The sync "),
    (r" May be used from several event loops;", " May be used from several threads;"),
)
HEADER = "# Generated from _async by scripts/generate_sync.py: change it there.\n"


def sync_of(text: str) -> str:
    """The sync version of an async module."""
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    return tidied(HEADER + text)


def tidied(text: str) -> str:
    """As the formatter would leave it."""
    name = "--stdin-filename=packages/nacos-client/src/nacos_client/_sync/generated.py"
    fixes = ["check", "--fix", "--unsafe-fixes", "--quiet", "--select=I,UP028", "--exit-zero"]
    for arguments in (fixes, ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, name, "-"]
        text = subprocess.run(
            command, input=text, capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
    return text


def generated() -> dict[Path, str]:
    """Every generated file with what has to be in it."""
    sources = sorted((SOURCE / "_async").glob("*.py"))
    files = {SOURCE / "_sync" / path.name: sync_of(path.read_text()) for path in sources}
    files[SOURCE / "_sync" / "__init__.py"] = HEADER + '"""The sync faces."""\n'
    return files


def main(arguments: list[str]) -> int:
    """Write what differs, or with `--check` name it."""
    stale = {
        path: text
        for path, text in generated().items()
        if not path.exists() or path.read_text() != text
    }
    if "--check" in arguments:
        for path in stale:
            print(f"{path.name} is out of date: run python scripts/generate_sync.py")
        return 1 if stale else 0
    for path, text in stale.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
