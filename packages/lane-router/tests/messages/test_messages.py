"""Lanes in message headers: written once, and all that a consumer believes."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane_router import InvalidLaneError, LaneRouter, current_lane, lane_scope
from lane_router.messages import ConsumerLane, lane_of, message_scope, with_lane
from microservice_core import InvalidValueError


def test_a_message_carries_the_lane_it_was_sent_in() -> None:
    with lane_scope("dev"):
        assert with_lane() == {"x-lane": "dev", "baggage": "lane=dev"}
    assert with_lane({"a": 1}) == {"a": 1}
    with lane_scope("prod"):
        assert with_lane() == {}


def test_headers_of_the_user_are_never_clobbered() -> None:
    with lane_scope("dev"):
        assert with_lane({"x-lane": "mine", "n": 7}) == {"x-lane": "mine", "n": 7}
        assert with_lane({"baggage": "user=7"}) == {"baggage": "user=7", "x-lane": "dev"}


def test_lesson_a_the_header_is_the_only_authority_on_consume() -> None:
    program = (
        "from lane_router import current_lane\n"
        "from lane_router.messages import message_scope, with_lane\n"
        "print(with_lane()['x-lane'])\n"
        "for headers in (None, {}, {'x-lane': 'test'}):\n"
        "    with message_scope(headers): print(current_lane())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LANE": "dev"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["dev", "None", "None", "test"]


def test_lesson_f_missing_and_empty_are_not_the_same_but_neither_is_a_lane(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with lane_scope("consumer"), caplog.at_level("WARNING", logger="lane_router"):
        with message_scope({"x-lane": ""}):
            assert current_lane() is None
        assert "not accepted: invalid" in caplog.text
        caplog.clear()
        with message_scope({"other": "x"}):
            assert current_lane() is None
        assert caplog.text == ""


def test_baggage_alone_is_enough() -> None:
    assert lane_of({"baggage": b"user=7,lane=dev"}) == "dev"


@given(st.dictionaries(st.sampled_from(["x-lane", "baggage", "a"]), st.text() | st.binary()))
def test_whatever_a_message_says_the_lane_is_valid_or_none(headers: dict[str, object]) -> None:
    lane = lane_of(headers)
    assert lane is None or lane.replace("-", "a").isalnum()


DOCUMENT = {"services": {"billing": {"lanes": ["dev"], "port": 80}}}


def test_the_base_skips_a_lane_that_lives_and_handles_all_others() -> None:
    router = LaneRouter.from_document(DOCUMENT)
    base = ConsumerLane("billing", service="billing", router=router)
    dev = ConsumerLane("billing", service="billing", router=router, lane="dev")
    assert (base.group, dev.group) == ("billing", "billing.dev")
    assert [base.handles(lane) for lane in (None, "prod", "dev", "other")] == [
        True,
        True,
        False,
        True,
    ]
    assert [dev.handles(lane) for lane in (None, "prod", "dev", "other")] == [
        False,
        False,
        True,
        False,
    ]
    router.mark_unreachable("billing", "dev")
    assert base.handles("dev")


def test_every_message_is_handled_by_exactly_one_of_base_and_lanes() -> None:
    router = LaneRouter.from_document(DOCUMENT)
    consumers = [
        ConsumerLane("g", service="billing", router=router, lane=lane) for lane in (None, "dev")
    ]
    for lane in (None, "prod", "dev", "other", "test"):
        assert sum(consumer.handles(lane) for consumer in consumers) == 1


def test_without_a_router_the_base_handles_everything() -> None:
    assert ConsumerLane("g", service="s").handles("dev")
    assert ConsumerLane("g", service="s", lane="prod").group == "g"


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(InvalidValueError, match="group must be a name"):
        ConsumerLane("", service="s")
    with pytest.raises(InvalidLaneError):
        ConsumerLane("g", service="s", lane="D")
