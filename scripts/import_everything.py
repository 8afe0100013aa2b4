"""Import every module of an installed package: `python -I import_everything.py IMPORT-NAME`."""

from __future__ import annotations

import importlib
import pkgutil
import sys


def main(name: str) -> int:
    """Print each module that cannot be imported; 1 when there is one."""
    package = importlib.import_module(name)
    # `__main__` is run, not imported.
    modules = [
        module.name
        for module in pkgutil.walk_packages(package.__path__, f"{name}.")
        if not module.name.endswith(".__main__")
    ]
    broken = 0
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is the answer
            broken += 1
            print(f"{module}: {type(problem).__name__}: {problem}")
    print(f"{len(modules)} modules of {name}, {broken} cannot be imported")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
