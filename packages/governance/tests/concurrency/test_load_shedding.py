import asyncio
from typing import Any

import pytest

from microservice_core import InvalidValueError
from microservice_governance import Bulkhead, LoadShedding, LoadShedError, Priority, priority


@pytest.mark.parametrize(
    ("load", "passing"),
    [
        (0.5, ["critical", "high", "normal", "low"]),
        (0.6, ["critical", "high", "normal"]),
        (0.85, ["critical", "high"]),
        (0.95, ["critical"]),
        (7.0, ["critical"]),
    ],
)
async def test_what_matters_least_is_refused_first(load: float, passing: list[str]) -> None:
    policy = LoadShedding(lambda: load)
    passed: list[str] = []
    refused: list[tuple[str, float]] = []
    for one in Priority:
        with priority(one):
            try:
                passed.append(policy.run(str, one))
                assert await policy.arun(asyncio.sleep, 0, one) == one
            except LoadShedError as error:
                refused.append((error.priority, error.load))
    assert passed == passing
    assert refused == [(one.value, load) for one in Priority if one not in passing]
    assert policy.snapshot()["refused"] == [one.value for one in Priority if one not in passing]


async def test_tasks_inherit_the_priority_and_blocks_nest() -> None:
    async def read() -> Priority:
        return priority.current()

    assert await asyncio.create_task(read()) == "normal"
    low = priority("low")
    with low, priority("critical"):
        assert await asyncio.create_task(read()) == "critical"
        with low:
            assert await read() == "low"
    assert priority.current() == "normal"


async def test_the_load_of_a_bulkhead_is_a_measure() -> None:
    bulkhead = Bulkhead(2)
    policy = LoadShedding(lambda: bulkhead.load, thresholds={"normal": 0.5})
    policy.run(str)
    async with bulkhead:
        with pytest.raises(
            LoadShedError, match=r"sheds calls of priority normal at a load of 0\.50"
        ):
            policy.run(pytest.fail)


def test_a_coroutine_function_is_refused_by_run() -> None:
    with pytest.raises(TypeError, match="arun"):
        LoadShedding(lambda: 0).run(asyncio.sleep, 1)  # type: ignore[unused-coroutine]


@pytest.mark.parametrize(
    ("field", "thresholds"),
    [
        ("thresholds", {"low": 0}),
        ("thresholds", {"low": 0.9, "normal": 0.5}),
        ("priority", {"urgent": 0.5}),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(field: str, thresholds: Any) -> None:
    with pytest.raises(InvalidValueError, match=f"^{field} must be"):
        LoadShedding(lambda: 0, thresholds=thresholds)
