"""The templates under examples/providers as somebody finds who copies one: installed from a wheel,
outside of this checkout, with nothing but what they declare.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TEMPLATES = ("config-center-template", "service-registry-template")


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def uv() -> str:
    return run(sys.executable, "scripts/bootstrap_uv.py", folder=ROOT).strip()


@pytest.fixture(scope="module", params=TEMPLATES)
def copy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, uv: str) -> Path:
    """A copy of the template beside an environment in which its wheel is installed."""
    place = tmp_path_factory.mktemp("copy")
    folder = place / str(request.param)
    shutil.copytree(ROOT / "examples/providers" / folder.name, folder)
    wheels = place / "wheels"
    for source in (ROOT / "packages/microservice-core", folder):
        run(uv, "build", "--quiet", "--wheel", "--out-dir", wheels, source, folder=place)
    run(uv, "venv", "--quiet", "--python", sys.executable, place / "env", folder=place)
    core, template = sorted(wheels.glob("*.whl"), key=lambda path: "template" in path.name)
    run(
        *(uv, "pip", "install", "--quiet", "--python", place / "env/bin/python"),
        *(f"microservice-core[testing] @ {core.as_uri()}", f"{template}[test]"),
        folder=place,
    )
    shutil.rmtree(folder / "src")  # what is installed is what is tested
    return folder


def test_its_own_tests_pass_the_contract_suite_among_them(copy: Path) -> None:
    python = copy.parent / "env/bin/python"
    said = run(python, "-I", "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=copy)
    assert "skipped" not in said


def test_its_readme_opens_it_by_name_and_what_it_says_works(copy: Path) -> None:
    python = copy.parent / "env/bin/python"
    said = run(python, ROOT / "scripts/run_blocks.py", copy / "README.md", folder=copy.parent)
    assert said == "1 Python blocks, 0 broken\n"
