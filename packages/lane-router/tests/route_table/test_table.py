import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lane_router import LaneRouter, RouteTableError
from lane_router.route_table.table import parse_table, read_table


def test_the_short_form_of_the_predecessor_is_understood() -> None:
    table = parse_table({"services": {"orders": {"lanes": ["dev", "prod"], "port": 8000}}})
    route = table.services["orders"]
    assert route.base is not None
    assert (route.base.name, route.base.port) == ("orders", 8000)
    assert route.lanes["dev"].name == "orders-dev"
    assert table.size == 2


@pytest.mark.parametrize("document", [None, [], {}, {"services": []}, {"services": {"A b": 7}}])
def test_a_document_that_is_not_a_route_table_is_refused(document: object) -> None:
    with pytest.raises(RouteTableError):
        parse_table(document)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(RouteTableError):
        read_table(body)


@pytest.mark.parametrize(
    "target",
    [
        {"name": "evil.com/?", "port": 80},
        {"name": "a b", "port": 80},
        {"name": 7, "port": 80},
        {"name": "x", "port": 0},
        {"name": "x", "port": True},
        {"name": "x", "port": "80"},
        7,
    ],
)
def test_an_invalid_entry_is_skipped_and_the_others_are_used(target: object) -> None:
    table = parse_table(
        {
            "services": {
                "orders": {"lanes": ["dev", "Bad", "ok"], "port": 80, "lane": {"dev": target}},
                "users": {"lanes": [], "port": 81},
            }
        }
    )
    assert set(table.services["orders"].lanes) == {"ok"}
    assert set(table.skipped) == {"orders/dev", "orders/Bad"}
    assert "users" in table.services


def test_trap_5_a_lane_that_fits_no_label_is_ignored() -> None:
    long = "s" * 60
    table = parse_table({"services": {long: {"lanes": ["dev", "d.v", "D"], "port": 80}}})
    assert table.services[long].lanes == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
route_like = st.fixed_dictionaries(
    {},
    optional={
        "lanes": json_values | st.lists(st.text(alphabet="abc-", max_size=5)),
        "port": json_values,
        "base": json_values,
        "lane": st.dictionaries(st.text(alphabet="abc-", max_size=4), json_values) | json_values,
    },
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(alphabet="abc-", max_size=5), route_like | json_values))
def test_whatever_a_registry_sends_every_target_is_a_host_and_a_port(services: object) -> None:
    try:
        table = read_table(json.dumps({"services": services}).encode())
    except RouteTableError:
        return
    for name, route in table.services.items():
        for target in [*([route.base] if route.base else []), *route.lanes.values()]:
            assert set(target.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
            assert 1 <= target.port <= 65535
        assert set(name) <= set("abc-")


@given(
    st.text(max_size=40),
    st.none() | st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True),
)
def test_every_host_has_a_resolution(host: str, lane: str | None) -> None:
    routes = LaneRouter.from_document({"services": {"a": {"lanes": ["b"], "port": 1}}})
    resolution = routes.resolve(host, lane)
    assert resolution.in_mesh == (
        host.lower().split(".")[0] == "a" and resolution.outcome != "foreign"
    )
