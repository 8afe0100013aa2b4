# Copied from packages/microservice-core/tests/test_public_surface.py by scripts/copy_shared.py: change it there.
"""The public names are those of public-names.txt, and all of them can be seen and imported."""

from importlib import import_module
from pathlib import Path

import pytest

HERE = Path(__file__).parent
IN_EXTRAS = HERE.name == "extras"  # there the modules are looked at that need an extra


def stored_names() -> dict[str, list[str]]:
    """The names of each public module, those that need an extra apart from the others."""
    path = next(folder for folder in HERE.parents if (folder / "public-names.txt").exists())
    modules: dict[str, list[str]] = {}
    names: list[str] = []
    for line in (path / "public-names.txt").read_text().splitlines():
        if line.startswith("    "):
            names.append(line.strip())
        elif not line.startswith("#"):
            module, _, mark = line.partition(" ")
            names = []
            if bool(mark) == IN_EXTRAS:
                modules[module] = names
    return modules


STORED = stored_names()


@pytest.mark.parametrize("module", STORED)
def test_the_exported_names_are_the_stored_ones(module: str) -> None:
    exported = import_module(module).__all__
    assert sorted(exported) == STORED[module], "run python scripts/public_names.py"


@pytest.mark.parametrize("module", STORED)
def test_every_name_can_be_seen_and_imported(module: str) -> None:
    assert set(STORED[module]) <= set(dir(import_module(module)))
    namespace: dict[str, object] = {}
    exec(f"from {module} import *", namespace)  # noqa: S102 - there is no other way to test it
    assert set(STORED[module]) <= set(namespace)
