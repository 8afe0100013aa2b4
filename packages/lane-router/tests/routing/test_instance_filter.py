from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from lane_router import (
    InvalidLaneError,
    LaneClass,
    LaneClasses,
    LaneCounts,
    LaneInstanceFilter,
    LaneUnavailableError,
    lane_scope,
)
from microservice_core import InstanceFilter, InvalidValueError, ServiceInstance


@dataclass
class Call:
    """A request context as a client would hand it in."""

    service_name: str = "orders"
    headers: Mapping[str, str] = field(default_factory=dict)


def instance(port: int, lane: str = "", **fields: Any) -> ServiceInstance:
    return ServiceInstance(
        "orders", "10.0.0.1", port, metadata={"lane": lane} if lane else {}, **fields
    )


BASE = [instance(1), instance(2)]
DEV = [instance(3, "dev")]
PROD = [instance(4, "prod")]
CALL = Call()


def test_it_is_an_instance_filter() -> None:
    narrowing: InstanceFilter = LaneInstanceFilter()
    assert narrowing([], CALL) == []


def test_without_a_lane_only_the_base_is_chosen() -> None:
    assert LaneInstanceFilter()([*BASE, *DEV, *PROD], CALL) == [*BASE, *PROD]
    assert LaneInstanceFilter()(DEV, CALL) == []


def test_when_everybody_is_base_the_sequence_itself_comes_back() -> None:
    assert LaneInstanceFilter()(BASE, CALL) is BASE


def test_in_prod_the_base_is_chosen() -> None:
    with lane_scope("prod"):
        assert LaneInstanceFilter(mode="strict")([*BASE, *DEV, *PROD], CALL) == [*BASE, *PROD]


def test_in_a_lane_its_instances_are_chosen() -> None:
    with lane_scope("dev"):
        assert LaneInstanceFilter()([*BASE, *DEV], CALL) == DEV


@pytest.mark.parametrize(
    "members", [[], [instance(3, "dev", healthy=False)], [instance(3, "dev", weight=0)]]
)
def test_a_lane_where_nobody_can_answer_falls_back_to_the_base(
    members: list[ServiceInstance],
) -> None:
    with lane_scope("dev"):
        assert LaneInstanceFilter()([*BASE, *members], CALL) == BASE


@pytest.mark.parametrize("members", [[], [instance(3, "dev", enabled=False)]])
def test_a_strict_lane_where_nobody_can_answer_is_an_error(members: list[ServiceInstance]) -> None:
    with lane_scope("dev"), pytest.raises(LaneUnavailableError, match="start one in the lane") as e:
        LaneInstanceFilter(mode="strict")([*BASE, *members], CALL)
    assert (e.value.service_name, e.value.lane) == ("orders", "dev")


def test_a_lane_on_the_request_goes_before_that_of_the_context() -> None:
    call = Call(headers={"x-lane": "dev"})
    with lane_scope("other"):
        assert LaneInstanceFilter()([*BASE, *DEV], call) == DEV
    assert LaneInstanceFilter()([*BASE, *DEV], Call(headers={"x-lane": "D E V"})) == BASE


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(InvalidValueError, match="mode must be"):
        LaneInstanceFilter(mode="loose")  # type: ignore[arg-type]


def test_classes_give_a_lane_its_mode_and_closed_ones_refuse_the_others() -> None:
    classes = LaneClasses(LaneClass("ppe-*", "strict"), LaneClass("dev"), otherwise="refuse")
    narrowing = LaneInstanceFilter(classes=classes)
    with lane_scope("dev"):
        assert narrowing(BASE, CALL) == BASE
    with lane_scope("ppe-1"), pytest.raises(LaneUnavailableError):
        narrowing(BASE, CALL)
    with lane_scope("other"), pytest.raises(InvalidLaneError, match="a lane of one of the classes"):
        narrowing(BASE, CALL)


def test_its_outcomes_are_counted_as_those_of_the_router() -> None:
    counts = LaneCounts()
    narrowing = LaneInstanceFilter(observer=counts)
    strict = LaneInstanceFilter(mode="strict", observer=counts)
    for lane in (None, "dev", "other"):
        with lane_scope(lane):
            narrowing([*BASE, *DEV], CALL)
    with lane_scope("other"), pytest.raises(LaneUnavailableError):
        strict(BASE, CALL)
    assert counts.resolutions == {
        ("orders", "", "base"): 1,
        ("orders", "dev", "lane"): 1,
        ("orders", "other", "base_fallback"): 1,
        ("orders", "other", "strict_miss"): 1,
    }
