"""Two carriers, one lane: `x-lane` and W3C baggage."""

import string
from collections.abc import MutableMapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane_router.context.lane_classes import LaneClass, LaneClasses
from lane_router.propagation.baggage import read_members, with_member, without_member
from lane_router.propagation.carriers import Carriers
from microservice_core import InvalidValueError

keys = st.text(alphabet=string.ascii_lowercase, min_size=1, max_size=6)
values = st.text(alphabet=string.ascii_letters + "%20;=-", max_size=8)
pairs = st.lists(st.tuples(keys, values), max_size=6)


@pytest.mark.parametrize(
    ("lanes", "baggage", "lane", "problem"),
    [
        ([], [], None, None),
        (["dev"], [], "dev", None),
        ([], ["lane=dev"], "dev", None),
        ([], ["a=1, lane = dev ;p=1,b=2"], "dev", None),
        ([], ["a=1", "lane=dev"], "dev", None),
        ([], ["lanes=dev,plane=x"], None, None),
        ([], ["lane=d%65v"], "dev", None),
        (["dev"], ["lane=dev"], "dev", None),
        (["dev"], ["lane=test"], None, "conflict"),
        (["dev"], ["lane=dev,lane=dev"], None, "conflict"),
        ([], ["lane=dev,lane=dev"], None, "conflict"),
        ([], ["lane=D E V"], None, "invalid"),
        ([], ["lane"], None, "invalid"),
        (["Dev"], ["lane=dev"], None, "conflict"),
        (["dev", "dev"], [], None, "duplicate"),
        (["dev,dev"], [], None, "duplicate"),
        ([""], [], None, "invalid"),
        ([], ["lane=dev" + "," * 9000], None, None),
    ],
)
def test_what_a_request_says(
    lanes: list[str], baggage: list[str], lane: str | None, problem: str | None
) -> None:
    assert Carriers().read(lanes, baggage) == (lane, problem)


def test_a_preference_decides_when_the_two_disagree() -> None:
    assert Carriers(prefer="header").read(["dev"], ["lane=test"]).lane == "dev"
    assert Carriers(prefer="baggage").read(["dev"], ["lane=test"]).lane == "test"


def test_baggage_can_be_switched_off() -> None:
    carriers = Carriers(baggage_key=None)
    assert carriers.read([], ["lane=dev"]) == (None, None)
    assert carriers.headers_for("dev") == {"x-lane": "dev"}


def test_a_lane_of_no_class_is_refused_where_classes_are_closed() -> None:
    carriers = Carriers(classes=LaneClasses(LaneClass("ppe-*"), otherwise="refuse"))
    assert carriers.read(["dev"]) == (None, "refused")
    assert carriers.read(["ppe-1"]) == ("ppe-1", None)


def test_a_message_may_carry_bytes() -> None:
    carriers = Carriers()
    assert carriers.read_mapping({"x-lane": b"dev"}).lane == "dev"
    assert carriers.read_mapping({"baggage": b"lane=dev"}).lane == "dev"
    assert carriers.read_mapping({"x-lane": 7}).problem == "invalid"
    assert carriers.read_mapping({}) == (None, None)


def test_writing_appends_and_overwrites_nothing() -> None:
    headers: MutableMapping[str, str] = {"baggage": "user=7;p"}
    Carriers().write(headers, "dev")
    assert headers == {"x-lane": "dev", "baggage": "user=7;p,lane=dev"}
    Carriers().write(headers, "other")
    assert headers == {"x-lane": "dev", "baggage": "user=7;p,lane=dev"}


def test_stripping_takes_our_own_and_leaves_the_rest() -> None:
    headers: MutableMapping[str, str] = {"x-lane": "dev", "baggage": "user=7;p,lane=dev", "a": "b"}
    Carriers().strip(headers)
    assert headers == {"baggage": "user=7;p", "a": "b"}
    only: MutableMapping[str, str] = {"baggage": "lane=dev"}
    Carriers().strip(only)
    assert only == {}


def test_prod_and_no_lane_are_not_sent() -> None:
    assert Carriers().headers_for(None) == Carriers().headers_for("prod") == {}
    assert Carriers().headers_for("dev") == {"x-lane": "dev", "baggage": "lane=dev"}


def test_a_full_baggage_stays_as_it_is() -> None:
    full = "a=" + "x" * 8188
    assert with_member(full, "lane", "dev") == full
    many = ",".join(f"k{n}=v" for n in range(180))
    assert with_member(many, "lane", "dev") == many


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"header": "X-Lane"}, "header must be a header name in lower case"),
        ({"header": "baggage"}, "header must be a header name in lower case"),
        ({"baggage_key": "a b"}, "baggage_key must be a token"),
        ({"prefer": "both"}, "prefer must be"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        Carriers(**options)  # type: ignore[arg-type]


@given(pairs, st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True))
def test_a_lane_added_to_any_baggage_is_read_back_and_can_be_removed(
    others: list[tuple[str, str]], lane: str
) -> None:
    header = ",".join(f"{key}={value}" for key, value in others)
    extended = with_member(header, "lane", lane)
    assert read_members(extended, "lane") == [lane]
    rest = [part for part in header.split(",") if part.partition("=")[0] != "lane" and part]
    assert [part for part in without_member(extended, "lane").split(",") if part] == rest


@given(st.lists(st.text(max_size=60), max_size=3), st.lists(st.text(max_size=60), max_size=2))
def test_whatever_is_sent_the_lane_is_valid_or_none(lanes: list[str], baggage: list[str]) -> None:
    lane, problem = Carriers().read(lanes, baggage)
    assert lane is None or (problem is None and lane.islower())
