"""The lane a process was started in, read in processes of their own."""

import os
import subprocess
import sys

import pytest

from lane_router import current_lane


def evaluate(expression: str, **environment: str) -> str:
    program = f"from lane_router import *; print({expression})"
    clean = {name: value for name, value in os.environ.items() if name != "LANE"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("variable", "lane", "prod"),
    [({}, "None", "True"), ({"LANE": ""}, "None", "True"), ({"LANE": "prod"}, "prod", "True"),
     ({"LANE": "dev"}, "dev", "False"), ({"LANE": "D E V"}, "None", "False")],
)  # fmt: skip
def test_what_a_process_does_on_its_own_behalf_is_in_its_lane(
    variable: dict[str, str], lane: str, prod: str
) -> None:
    assert evaluate("current_lane(), is_prod_lane()", **variable) == f"{lane} {prod}"


def test_trap_13_a_request_of_another_lane_is_not_prod_and_one_without_is_in_no_lane() -> None:
    assert evaluate("lane_scope('dev')(is_prod_lane)()") == "False"
    assert evaluate("lane_scope('prod')(is_prod_lane)()") == "True"
    assert evaluate("lane_scope(None)(current_lane)()", LANE="dev") == "None"
    assert evaluate("lane_scope(None)(is_prod_lane)()", LANE="dev") == "False"
    assert evaluate("lane_headers()", LANE="dev") == "{'x-lane': 'dev'}"


def test_threads_and_pools_of_a_lane_process_stay_in_its_lane() -> None:
    assert evaluate("LaneThreadPoolExecutor(1).submit(current_lane).result()", LANE="dev") == "dev"


IMPORTS = """
import sys, lane_router
heavy = {"httpx", "httpx2", "aiohttp", "requests", "urllib3", "grpc", "celery", "arq", "redis",
         "aio_pika", "aiokafka", "yaml", "opentelemetry", "asyncio", "ssl", "http.client"}
print(sorted(heavy & set(sys.modules)))
"""


def test_importing_the_package_imports_nothing_it_may_not_need() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    import lane_router

    assert [name for name in lane_router.__all__ if not hasattr(lane_router, name)] == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lane_router.nothing


@pytest.mark.parametrize(
    ("value", "expected"), [("dev", ("dev", False)), ("D", (None, False)), ("prod", ("prod", True))]
)
def test_the_variable_is_read_once(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: object
) -> None:
    import importlib

    from lane_router.context import process_lane

    monkeypatch.setenv("LANE", value)
    importlib.reload(process_lane)
    try:
        assert (process_lane.process_lane(), process_lane.process_is_prod()) == expected
        monkeypatch.setenv("LANE", "other")
        assert process_lane.process_lane() == expected[0]
        assert current_lane() == expected[0]
    finally:
        monkeypatch.undo()
        importlib.reload(process_lane)
