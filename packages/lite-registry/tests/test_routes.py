import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lite_registry import SettingsError
from lite_registry.file_source import read_route_file
from lite_registry.routes import RouteTable, Target, is_dns_label, parse_routes


def only(service: object) -> dict[str, object]:
    return {"services": {"orders": service}}


def test_the_short_form_names_base_and_lanes_by_convention() -> None:
    route = parse_routes(only({"lanes": ["dev"], "port": 8000})).routes["orders"]
    assert route.base == Target("orders", 8000)
    assert route.lanes == {"dev": Target("orders-dev", 8000)}


def test_the_long_form_says_it_all() -> None:
    route = parse_routes(
        only(
            {
                "base": None,
                "lane": {"dev": {"name": "elsewhere", "port": 81, "ports": {"http": 81}}},
            }
        )
    ).routes["orders"]
    assert route.base is None
    assert route.lanes == {"dev": Target("elsewhere", 81, {"http": 81})}
    assert route.to_document()["port"] == 81


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "an object with an object `services`"),
        ({"services": []}, "an object with an object `services`"),
        ({"services": {"Orders": {}}}, "name must be a DNS label"),
        ({"services": {7: {}}}, "name must be a DNS label"),
        (only([]), "route must be an object"),
        (only({"port": 80, "lanes": "dev"}), "lanes must be a list"),
        (only({"port": 80, "lanes": ["d_v"]}), "lane must be a DNS label"),
        (only({"port": 80, "lanes": ["d" * 60]}), "at most 63 characters"),
        (only({"port": 80, "lane": []}), "lane must be an object"),
        (only({"port": 80, "lane": {"dev": 1}}), "base or lane must be an object"),
        (only({"port": 80, "base": {"ports": []}}), "ports must be an object"),
        (only({}), "port must be a whole number from 1 to 65535, not None"),
        (only({"port": 0}), "port must be a whole number from 1 to 65535, not 0"),
        (only({"port": True}), "port must be a whole number"),
        (only({"port": 1, "base": {"name": 7}}), "name must be a host name or an address"),
        (only({"port": 1, "base": {"name": "a b"}}), "name must be a host name or an address"),
        (only({"port": 1, "base": {"name": "\x1b[2J"}}), "name must be a host name or an address"),
        (only({"port": 1, "base": {"ready": "abc"}}), "ready must be a number of endpoints"),
        (only({"port": 1, "base": {"ready": float("nan")}}), "ready must be a number of endpoints"),
        (only({"port": 1, "base": {"ready": 10**400}}), "ready must be a number of endpoints"),
        (only({"port": 1, "base": {"ready": -1}}), "ready must be a number of endpoints"),
    ],
)
def test_a_rule_that_is_broken_is_named(document: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_routes(document)


labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
services = st.dictionaries(
    labels,
    st.fixed_dictionaries(
        {"port": st.integers(1, 65535), "lanes": st.lists(labels, unique=True, max_size=3)}
    ),
    max_size=4,
)


@given(services)
def test_what_is_served_can_be_read_back(described: dict[str, object]) -> None:
    table = parse_routes({"services": described})
    again = parse_routes({"services": json.loads(json.dumps(table.documents))})
    assert again.version == table.version
    assert again.routes == table.routes


@given(services, services)
def test_versions_are_equal_exactly_when_contents_are(
    one: dict[str, object], other: dict[str, object]
) -> None:
    tables = [parse_routes({"services": described}) for described in (one, other)]
    same = tables[0].documents == tables[1].documents
    assert (tables[0].version == tables[1].version) is same
    shuffled = RouteTable(dict(reversed(list(tables[0].routes.items()))))
    assert shuffled.version == tables[0].version


@pytest.mark.parametrize(
    ("value", "good"),
    [("a", True), ("a-1", True), ("0", True), ("a" * 63, True)]
    + [(bad, False) for bad in ("", "-a", "a-", "A", "a.b", "a_b", "a" * 64, "a\n", None, 7)],
)
def test_a_dns_label_is_recognised(value: object, good: bool) -> None:
    assert is_dns_label(value) is good


def test_a_file_that_is_too_large_or_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "routes.json"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="it must be UTF-8"):
        read_route_file(file)
    with file.open("wb") as sparse:
        sparse.truncate(17 * 1024 * 1024)
    with pytest.raises(SettingsError, match="at most 16777216 bytes"):
        read_route_file(file)
