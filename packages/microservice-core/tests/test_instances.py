import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_core import InstanceQuery, InvalidValueError, Metadata, ServiceInstance


def test_the_instance_id_is_the_address_unless_given() -> None:
    assert ServiceInstance("orders", "10.0.0.7", 8000).instance_id == "10.0.0.7:8000"
    assert ServiceInstance("orders", "10.0.0.7", 8000, instance_id="a").instance_id == "a"


def test_brackets_around_an_ipv6_address_are_no_part_of_it() -> None:
    instance = ServiceInstance("orders", "[::1]", 8000)
    assert (instance.ip, instance.address) == ("::1", "[::1]:8000")


def test_an_ipv6_address_is_bracketed() -> None:
    instance = ServiceInstance("orders", "::1", 8000)
    assert instance.address == "[::1]:8000"
    assert instance.base_url == "http://[::1]:8000"


def test_metadata_gives_version_lane_zone_and_scheme() -> None:
    instance = ServiceInstance(
        "orders",
        "10.0.0.7",
        443,
        metadata={"version": "2", "lane": "dev", "zone": "b", "secure": "True"},
    )
    assert (instance.version, instance.lane, instance.zone) == ("2", "dev", "b")
    assert instance.base_url == "https://10.0.0.7:443"


def test_an_instance_without_metadata_has_empty_labels_and_speaks_http() -> None:
    instance = ServiceInstance("orders", "10.0.0.7", 80)
    assert (instance.version, instance.lane, instance.zone, instance.secure) == ("", "", "", False)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.__setitem__("a", "2"),
        lambda m: m.__delitem__("a"),
        lambda m: m.update(a="2"),
        lambda m: m.clear(),
        lambda m: m.pop("a"),
        lambda m: m.popitem(),
        lambda m: m.setdefault("b", "2"),
        lambda m: m.__ior__({"b": "2"}),
    ],
    ids=["set", "delete", "update", "clear", "pop", "popitem", "setdefault", "ior"],
)
def test_metadata_refuses_every_change(change: object) -> None:
    metadata = ServiceInstance("orders", "10.0.0.7", 80, metadata={"a": "1"}).metadata
    assert callable(change)
    with pytest.raises(TypeError, match="read-only"):
        change(metadata)
    assert metadata == {"a": "1"}


def test_metadata_handed_in_later_changes_nothing() -> None:
    mine = {"a": "1"}
    instance = ServiceInstance("orders", "10.0.0.7", 80, metadata=mine)
    mine["a"] = "2"
    assert instance.metadata == {"a": "1"}


def test_metadata_counts_for_equality_but_not_for_the_hash() -> None:
    one = ServiceInstance("orders", "10.0.0.7", 80, metadata={"a": "1"})
    other = replace(one, metadata={"a": "2"})
    assert one != other
    assert hash(one) == hash(other)


@given(metadata=st.dictionaries(st.text(), st.text()), port=st.integers(0, 65535))
def test_an_instance_survives_pickling(metadata: dict[str, str], port: int) -> None:
    instance = ServiceInstance("orders", "10.0.0.7", port, metadata=metadata)
    again = pickle.loads(pickle.dumps(instance))  # noqa: S301 - our own bytes
    assert again == instance
    assert type(again.metadata) is Metadata


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"service_name": ""}, "service_name must be a non-empty name, not ''"),
        ({"ip": ""}, "ip must be a non-empty address"),
        ({"port": -1}, "port must be a number from 0 to 65535, not -1"),
        ({"port": 65536}, "port must be a number from 0 to 65535, not 65536"),
        ({"weight": -0.1}, "weight must be a finite number of at least 0, not -0.1"),
        ({"weight": float("nan")}, "weight must be a finite number"),
        ({"weight": float("inf")}, "weight must be a finite number"),
    ],
)
def test_a_broken_field_is_named_with_its_rule(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        replace(ServiceInstance("orders", "10.0.0.7", 80), **fields)  # type: ignore[arg-type]


INSTANCE = ServiceInstance(
    "orders", "10.0.0.7", 80, cluster_name="east", metadata={"version": "1", "zone": "a"}
)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (InstanceQuery(), True),
        (InstanceQuery(clusters=("east", "west")), True),
        (InstanceQuery(clusters=("west",)), False),
        (InstanceQuery(metadata={"version": "1"}), True),
        (InstanceQuery(metadata={"version": "1", "zone": "b"}), False),
        (InstanceQuery(healthy_only=True), True),
    ],
)
def test_a_query_matches_by_cluster_and_metadata(query: InstanceQuery, wanted: bool) -> None:
    assert query.matches(INSTANCE) is wanted


@pytest.mark.parametrize("fields", [{"healthy": False}, {"enabled": False}])
def test_healthy_only_leaves_out_the_unhealthy_and_the_disabled(fields: dict[str, bool]) -> None:
    instance = replace(INSTANCE, **fields)  # type: ignore[arg-type]
    assert InstanceQuery().matches(instance)
    assert not InstanceQuery(healthy_only=True).matches(instance)


def test_a_query_can_be_a_key_whatever_its_clusters_came_as() -> None:
    query = InstanceQuery(clusters=["east"], metadata={"a": "1"})  # type: ignore[arg-type]
    assert {query: 1}[InstanceQuery(clusters=("east",), metadata={"a": "1"})] == 1
