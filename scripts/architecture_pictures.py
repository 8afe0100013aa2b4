"""Draw who imports whom, from the imports themselves: one picture of the packages, one of each.

    python scripts/architecture_pictures.py FOLDER

The documentation calls this at each build, so that no picture can be out of date. What is drawn
lies above everything that it imports. An import that follows from two others is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path

import grimp

from check_cycles import Graph, child_of, module_graph
from workspace import members

_BOX_HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 34, 18, 46, 16
_LETTER = 7.9  # pixels; the width of a letter at 13 px in the monospaced fonts named below
_ROW_WIDTH = 960

_STYLE = """
  text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #1b2733; }
  rect { fill: #eef4fb; stroke: #5b7ea6; rx: 6px; }
  rect.folder { fill: #dcebf9; stroke-width: 2px; }
  path { fill: none; stroke: #8096ad; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4ecf4; } rect { fill: #24313f; stroke: #7d9cbd; }
    rect.folder { fill: #2c4055; } path { stroke: #66809b; }
  }
"""


@dataclass(frozen=True, slots=True)
class Box:
    """Where a module or folder is drawn, in pixels."""

    name: str
    is_folder: bool
    x: float
    y: float

    @property
    def width(self) -> float:
        """As wide as its name."""
        return width_of(self.name)


def width_of(name: str) -> float:
    """The width of the box around a name, in pixels."""
    return len(name) * _LETTER + 24


def package_graph() -> Graph:
    """Which package imports which; an adapter inside another package counts as one."""
    names = {member.import_name for member in members()}
    imports = grimp.build_graph(*sorted(names), exclude_type_checking_imports=False, cache_dir=None)
    graph: Graph = {}
    for module in imports.modules:
        importers = graph.setdefault(package_of(module), set())
        for imported in imports.find_modules_directly_imported_by(module):
            importers.add(package_of(imported))
    return {name: imported - {name} for name, imported in graph.items()}


def package_of(module: str) -> str:
    """The package a module is drawn in."""
    adapter = "lite_registry.provider"
    return adapter if module.startswith(adapter) else module.partition(".")[0]


def parts_graph(package: str) -> tuple[Graph, set[str]]:
    """Which part of a package imports which, by their names in it; and which are folders."""
    modules = module_graph(package)
    graph: Graph = {}
    folders: set[str] = set()
    for module, imported in modules.items():
        part = child_of(package, module)
        if part is None:
            continue
        if module != part:
            folders.add(name_in(package, part))
        others = {child_of(package, other) for other in imported} - {None, part}
        graph.setdefault(name_in(package, part), set()).update(
            name_in(package, other) for other in others if other
        )
    return {name: others - {"__main__"} for name, others in graph.items()}, folders


def name_in(package: str, module: str) -> str:
    """The module's name without its package's."""
    return module.removeprefix(f"{package}.")


def without_shortcuts(graph: Graph) -> Graph:
    """The graph without imports that follow from others."""
    reachable: Graph = {}
    for name in TopologicalSorter(graph).static_order():
        direct = graph.get(name, set())
        reachable[name] = direct.union(*(reachable[other] for other in direct))
    return {
        name: {
            other
            for other in imported
            if not any(other in reachable[between] for between in imported - {other})
        }
        for name, imported in graph.items()
    }


def rows_of(graph: Graph) -> list[list[str]]:
    """The names in rows, what imports above what is imported, no row wider than the page."""
    level: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        level[name] = 1 + max((level[other] for other in graph.get(name, ())), default=-1)
    rows: list[list[str]] = []
    for height in sorted(set(level.values()), reverse=True):
        rows.extend(wrapped(sorted(name for name in level if level[name] == height)))
    return rows


def wrapped(names: Sequence[str]) -> Iterator[list[str]]:
    """The names in as few rows as the page's width allows."""
    row: list[str] = []
    for name in names:
        if row and sum(width_of(each) + _GAP_X for each in [*row, name]) > _ROW_WIDTH:
            yield row
            row = []
        row.append(name)
    if row:
        yield row


def placed_boxes(graph: Graph, folders: set[str]) -> dict[str, Box]:
    """A box for each name, each row centred, and each name below what imports it."""
    rows = rows_of(graph)
    widths = [sum(width_of(name) + _GAP_X for name in row) - _GAP_X for row in rows]
    page = max(widths, default=0)
    boxes: dict[str, Box] = {}
    for number, (row, width) in enumerate(zip(rows, widths, strict=True)):
        x = _MARGIN + (page - width) / 2
        for name in sorted(row, key=lambda name: mean_x_of_importers(name, graph, boxes)):
            boxes[name] = Box(name, name in folders, x, _MARGIN + number * (_BOX_HEIGHT + _GAP_Y))
            x += width_of(name) + _GAP_X
    return boxes


def mean_x_of_importers(name: str, graph: Graph, boxes: dict[str, Box]) -> float:
    """How far to the right the boxes are whose modules import this one; the right edge if none."""
    centres = [boxes[other].x + boxes[other].width / 2 for other in boxes if name in graph[other]]
    return sum(centres) / len(centres) if centres else float(_ROW_WIDTH)


def drawn(title: str, graph: Graph, folders: set[str]) -> str:
    """The picture as SVG."""
    boxes = placed_boxes(graph, folders)
    width = max(box.x + box.width for box in boxes.values()) + _MARGIN
    height = max(box.y for box in boxes.values()) + _BOX_HEIGHT + _MARGIN
    edges = without_shortcuts(graph)
    lines = [
        arrow(boxes[name], boxes[other]) for name in sorted(edges) for other in sorted(edges[name])
    ]
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"'
                f' width="{width:.0f}" role="img" aria-label="{escape(title)}">'
            ),
            f"<title>{escape(title)}</title><style>{_STYLE}</style>",
            (
                '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
                ' markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8" /></marker></defs>'
            ),
            *lines,
            *(rectangle(box) for box in boxes.values()),
            "</svg>\n",
        ]
    )


def arrow(importer: Box, imported: Box) -> str:
    """A curve from the bottom of one box to the top of another."""
    x1, y1 = importer.x + importer.width / 2, importer.y + _BOX_HEIGHT
    x2, y2 = imported.x + imported.width / 2, imported.y
    bend = (y2 - y1) / 2
    return (
        f'<path d="M{x1:.0f} {y1:.0f} C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f}'
        f' {x2:.0f} {y2:.0f}" marker-end="url(#tip)" />'
    )


def rectangle(box: Box) -> str:
    """The box and its name; a folder's ends with a slash."""
    kind = ' class="folder"' if box.is_folder else ""
    label = f"{box.name}/" if box.is_folder else box.name
    return (
        f'<rect{kind} x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}"'
        f' height="{_BOX_HEIGHT}" /><text x="{box.x + box.width / 2:.0f}"'
        f' y="{box.y + _BOX_HEIGHT / 2 + 4:.0f}" text-anchor="middle">{escape(label)}</text>'
    )


def write_pictures(folder: Path) -> list[Path]:
    """Write `packages.svg` and one picture for each package; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"packages": drawn("Which package imports which", package_graph(), set())}
    for member in members():
        graph, folders = parts_graph(member.import_name)
        if len(graph) > 1:
            title = f"{member.name}: which part imports which"
            pictures[member.import_name] = drawn(title, graph, folders)
    paths = []
    for name, text in pictures.items():
        path = folder / f"{name}.svg"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    print(*write_pictures(Path(sys.argv[1])), sep="\n")
