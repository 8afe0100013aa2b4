"""What changed between two results of `make bench`.

    python scripts/bench_compare.py OLD NEW

Each is a file such as `benchmarks/results/lb.json`, or a folder of them. A figure is said to have
changed when its spread no longer meets the old one; `*` marks a bound that does not hold.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Figures = dict[tuple[str, str, str], dict[str, Any]]


def load(path: Path) -> tuple[Figures, set[str]]:
    """The figures by package, benchmark and name, and what they were measured with."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        sys.exit(f"{path} holds no results: `make bench` writes benchmarks/results/PACKAGE.json")
    figures: Figures = {}
    origins = set()
    for file in files:
        for benchmark, run in json.loads(file.read_text(encoding="utf-8")).items():
            machine = run["machine"]
            smoke = ", a smoke run" if run["smoke"] else ""
            origins.add(
                f"{run['commit'] or 'no commit'}, {machine['python']}, {machine['platform']}, "
                f"{machine['cores']} cores{smoke}"
            )
            for figure in run["figures"]:
                figures[file.stem, benchmark, figure["name"]] = figure
    return figures, origins


def verdict(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Better, worse, or within the spread of both."""
    if new["least"] <= old["greatest"] and old["least"] <= new["greatest"]:
        return "same"
    more = new["value"] > old["value"]
    return "better" if more == new["at_least"] else "worse"


def broken(figure: dict[str, Any]) -> bool:
    """Whether the figure does not keep its bound."""
    if figure["bound"] is None:
        return False
    if figure["at_least"]:
        return bool(figure["value"] < figure["bound"])
    return bool(figure["value"] > figure["bound"])


def shown(value: float) -> str:
    """Three digits, or as many as stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def row(key: tuple[str, str, str], old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    """One figure, before and after."""
    package, _, name = key
    before = shown(old["value"]) if old else "-"
    after = shown(new["value"]) + "*" * broken(new) if new else "-"
    unit = (new or old or {})["unit"]
    start = f"{package:20} {name:58} {before:>9} {after:>10} {unit:5}"
    if old is None or new is None:
        return f"{start} {'new' if old is None else 'gone'}"
    change = f"{(new['value'] / old['value'] - 1) * 100:+.0f} %" if old["value"] else ""
    return f"{start} {verdict(old, new):6} {change}"


def main(old_path: str, new_path: str) -> None:
    """Print every figure that is in either."""
    (old, old_origins), (new, new_origins) = load(Path(old_path)), load(Path(new_path))
    print("old:", *sorted(old_origins), sep="\n  ")
    print("new:", *sorted(new_origins), sep="\n  ")
    for key in sorted({*old, *new}):
        print(row(key, old.get(key), new.get(key)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
