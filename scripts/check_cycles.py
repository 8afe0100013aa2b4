"""No package imports in a circle: neither its modules nor its folders, type-only imports included.

python scripts/check_cycles.py [PACKAGE ...]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import grimp

from workspace import select

Graph = dict[str, set[str]]


def module_graph(package: str) -> Graph:
    """Which module of the package imports which, wherever the import stands."""
    imports = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    return {
        module: imports.find_modules_directly_imported_by(module) & imports.modules
        for module in imports.modules
    }


def folder_graphs(modules: Graph) -> Iterator[tuple[str, Graph]]:
    """Each folder with the imports between what lies in it, sub-folders taken as one."""
    for folder in sorted({module.rpartition(".")[0] for module in modules} - {""}):
        graph: Graph = {}
        for module, imported in modules.items():
            if (child := child_of(folder, module)) is not None:
                others = {child_of(folder, other) for other in imported} - {None, child}
                graph.setdefault(child, set()).update(other for other in others if other)
        yield folder, graph


def child_of(folder: str, module: str) -> str | None:
    """The direct child of the folder that holds the module; None for one elsewhere."""
    below = module.removeprefix(f"{folder}.")
    return f"{folder}.{below.partition('.')[0]}" if below != module else None


def cycle_in(graph: Graph) -> list[str]:
    """One circle of imports; empty when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(module) for module in error.args[1]]
    return []


def cycles_of(package: str) -> Iterator[str]:
    """Each circle found in the package, as a line."""
    modules = module_graph(package)
    graphs = [(package, modules), *folder_graphs(modules)]
    for place, graph in graphs:
        if cycle := cycle_in(graph):
            yield f"{place}: {' -> '.join(name.removeprefix(f'{package}.') for name in cycle)}"


def main(packages: list[str]) -> int:
    """Print every circle; 1 when there is one."""
    cycles = [line for member in select(packages) for line in cycles_of(member.import_name)]
    print("\n".join(cycles) or "no package imports in a circle")
    return 1 if cycles else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
