import asyncio
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane_router import (
    InvalidLaneError,
    LaneClass,
    LaneClasses,
    LaneError,
    LaneUnavailableError,
    current_lane,
    lane_headers,
    lane_scope,
)
from lane_router.context.lane_context import is_lane
from microservice_core import InvalidValueError


def test_outside_of_any_scope_there_is_no_lane() -> None:
    assert current_lane() is None
    assert lane_headers() == {}


def test_a_scope_ends_with_its_block_also_when_that_raises() -> None:
    lanes: list[str | None] = []

    def work() -> None:
        with lane_scope("dev"):
            lanes.append(current_lane())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert lanes == ["dev"]
    assert current_lane() is None


def test_an_inner_scope_wins_and_restores_the_outer_one() -> None:
    with lane_scope("dev"):
        with lane_scope(None):
            assert current_lane() is None
        assert current_lane() == "dev"


def test_only_a_lane_other_than_prod_is_sent_to_the_next_hop() -> None:
    with lane_scope("dev"):
        assert lane_headers() == {"x-lane": "dev"}
        assert lane_headers(header="x-colour") == {"x-colour": "dev"}
    with lane_scope("prod"):
        assert current_lane() == "prod"
        assert lane_headers() == {}


async def test_tasks_and_worker_threads_keep_the_lane_they_were_started_in() -> None:
    async def read_lane() -> str | None:
        await asyncio.sleep(0)
        return current_lane()

    with lane_scope("dev"):
        task = asyncio.create_task(read_lane())
        assert await asyncio.to_thread(current_lane) == "dev"
    assert await task == "dev"


async def test_tasks_side_by_side_do_not_see_each_others_lane() -> None:
    async def visit(lane: str) -> bool:
        with lane_scope(lane):
            for _ in range(20):
                await asyncio.sleep(0)
                if current_lane() != lane:
                    return False
        return True

    assert all(await asyncio.gather(*(visit(f"lane-{n}") for n in range(50))))


@pytest.mark.parametrize(
    "lane", ["", "Dev", "1dev", "-dev", "dev-", "d_v", "d v", "dév", "a" * 64, "dev\n", "a,b"]
)
def test_what_cannot_be_a_dns_label_is_refused_and_changes_nothing(lane: str) -> None:
    with (
        pytest.raises(InvalidLaneError, match="lane must be a DNS label") as caught,
        lane_scope(lane),
    ):
        pass
    assert isinstance(caught.value, InvalidValueError)
    assert isinstance(caught.value, LaneError)
    assert current_lane() is None


@given(st.text(max_size=70))
def test_every_accepted_lane_is_safe_in_a_header_and_in_a_host_name(text: str) -> None:
    if is_lane(text):
        assert len(text) <= 63
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert text[0].isalpha()
        assert text[-1] != "-"


@pytest.mark.parametrize("error", [InvalidLaneError("A"), LaneUnavailableError("orders", "dev")])
def test_errors_survive_pickling(error: LaneError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__


def test_a_function_can_be_decorated_and_each_call_gives_the_lane_back() -> None:
    in_dev = lane_scope("dev")(current_lane)
    with lane_scope("outer"):
        assert [in_dev(), current_lane(), in_dev()] == ["dev", "outer", "dev"]


def test_a_scope_that_was_never_entered_ends_without_harm() -> None:
    lane_scope("dev").__exit__(None, None, None)
    assert current_lane() is None


@pytest.mark.parametrize("pattern", ["", "PPE-*", "a b", "a.b"])
def test_a_class_of_lanes_needs_a_pattern_of_lane_names(pattern: str) -> None:
    with pytest.raises(InvalidValueError, match="pattern must be a pattern of lane names"):
        LaneClass(pattern)


def test_classes_know_three_ends() -> None:
    with pytest.raises(InvalidValueError, match="otherwise must be"):
        LaneClasses(otherwise="loose")  # type: ignore[arg-type]
    assert LaneClasses(otherwise="strict").mode_of("dev", "permissive") == "strict"
    assert LaneClasses().mode_of("dev", "permissive") == "permissive"
    assert LaneClasses(otherwise="refuse").mode_of("dev", "permissive") is None


def test_trap_12_a_cache_that_has_the_lane_in_its_key_mixes_no_lanes() -> None:
    cache: dict[tuple[str | None, str], str] = {}

    def price(article: str) -> str:
        return cache.setdefault((current_lane(), article), f"{article} for {current_lane()}")

    for _ in range(2):
        for lane in ("dev", "test", None):
            with lane_scope(lane):
                assert price("tea") == f"tea for {lane}"
    assert len(cache) == 3
