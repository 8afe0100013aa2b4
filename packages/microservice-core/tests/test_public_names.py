import subprocess
import sys

import pytest

import microservice_core
from microservice_core import testing


@pytest.mark.parametrize("module", [microservice_core, testing])
def test_every_name_in_all_is_there_and_sorted(module: object) -> None:
    names = module.__all__  # type: ignore[attr-defined]
    assert list(names) == sorted(names)
    assert all(hasattr(module, name) for name in names)


def test_dir_shows_the_lazy_names_too() -> None:
    assert set(microservice_core.__all__) <= set(dir(microservice_core))


@pytest.mark.parametrize("module", [microservice_core, testing])
def test_a_name_that_is_not_there_is_an_attribute_error(module: object) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        module.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_loads_neither_asyncio_nor_the_providers() -> None:
    program = (
        "import sys, microservice_core; "
        "heavy = {'asyncio', 'importlib.metadata', 'logging', 'pathlib', 'microservice_core.memory',"
        " 'microservice_core.file', 'microservice_core.providers', 'microservice_core.delivery'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _with_this_path(program)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "[]"


def _with_this_path(program: str) -> str:
    folder = str(microservice_core.__path__[0]).removesuffix("microservice_core")
    return f"import sys; sys.path.insert(0, {folder!r}); {program}"
