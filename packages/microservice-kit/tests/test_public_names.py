import subprocess
import sys

import pytest

import microservice_kit

# What an extra brings; a bare installation has none of them.
EXTRAS = ("yaml", "cryptography", "redis", "lane_router", "fastapi", "opentelemetry.sdk")


def test_every_name_in_all_is_there_and_sorted() -> None:
    assert list(microservice_kit.__all__) == sorted(microservice_kit.__all__)
    assert all(hasattr(microservice_kit, name) for name in microservice_kit.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(microservice_kit, "nonsense")  # noqa: B009 - a type checker knows that it is not there


def run(program: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return finished.stdout.strip()


def test_names_that_were_not_used_yet_are_listed() -> None:
    program = "import microservice_kit as kit; print(sorted(set(kit.__all__) - set(dir(kit))))"
    assert run(program) == "[]"


def test_a_star_import_needs_no_extra() -> None:
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r}))\n"
        "from microservice_kit import *\n"
        "print(MicroserviceModule.__name__, setup_telemetry.__name__, json_logs.__name__)"
    )
    assert run(program) == "MicroserviceModule setup_telemetry json_logs"
