"""Run every Python block of Markdown files, each as a program of its own in an empty folder.

    python scripts/run_blocks.py [--files-only] FILE [...]

A block opened with ```python file=examples/app.py is no program of its own: it has to be that
file, to the letter, and the file's own test runs it. `--files-only` looks at those and runs nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python *(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
TIME_LIMIT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Block:
    """One block and where it stands."""

    path: Path
    line: int
    info: str
    code: str

    def problem(self) -> str:
        """Why it is no good; empty when it is."""
        if self.info.startswith("file="):
            return self._difference(ROOT / self.info.removeprefix("file="))
        with tempfile.TemporaryDirectory() as folder:
            return self._run(Path(folder))

    def _difference(self, file: Path) -> str:
        if not file.exists():
            return f"{file.relative_to(ROOT)} does not exist"
        same = file.read_text(encoding="utf-8").strip() == self.code.strip()
        return "" if same else f"differs from {file.relative_to(ROOT)}: copy the file here"

    def _run(self, folder: Path) -> str:
        program = folder / "block.py"
        program.write_text(self.code, encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-W", "error::DeprecationWarning:__main__", str(program)],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIME_LIMIT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"did not end within {TIME_LIMIT_SECONDS} s"
        return "" if done.returncode == 0 else done.stdout + done.stderr


def blocks_of(path: Path) -> list[Block]:
    """The Python blocks of a file, in order."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(path, text.count("\n", 0, match.start()) + 1, match["info"], match["code"])
        for match in BLOCK.finditer(text)
    ]


def main(names: list[str]) -> int:
    """Run them all; 1 when one failed."""
    files_only = "--files-only" in names
    blocks = [
        block
        for name in names
        if not name.startswith("--")
        for block in blocks_of(Path(name))
        if not files_only or block.info.startswith("file=")
    ]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = zip(blocks, pool.map(Block.problem, blocks), strict=True)
        problems = [(block, problem) for block, problem in results if problem]
    for block, problem in problems:
        print(f"{block.path}:{block.line} {problem}")
    print(f"{len(blocks)} Python blocks, {len(problems)} broken")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
