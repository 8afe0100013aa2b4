import gzip
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lite_registry.conditional_response import VersionedDocument
from lite_registry.published_routes import PublishedRoutes
from lite_registry.request import Request
from lite_registry.route_deltas import RouteDeltas
from lite_registry.routes import NO_ROUTES, Route, RouteTable, Target, parse_routes

TABLE = parse_routes({"services": {"orders": {"port": 8000, "lanes": ["dev"]}}})
OTHER = parse_routes({"services": {"orders": {"port": 8001}}})


def served(published: PublishedRoutes) -> dict[str, object]:
    document = json.loads(published.render_all().body)
    assert isinstance(document, dict)
    return document


def test_publishing_the_same_again_refreshes_the_age_and_nothing_else() -> None:
    now = 1000.0
    published = PublishedRoutes(clock=lambda: now, wall_clock=lambda: now)
    published.publish(TABLE)
    first = served(published)
    now = 1060.0
    assert served(published)["age_seconds"] == 60
    now = 1061.0
    published.publish(TABLE)
    again = served(published)
    assert (again["version"], again["updated_at"]) == (first["version"], first["updated_at"])
    assert (again["age_seconds"], again["synced_at"]) == (0, "1970-01-01T00:17:41.000Z")


def test_a_change_has_a_new_version_and_a_new_time() -> None:
    now = 1000.0
    published = PublishedRoutes(wall_clock=lambda: now)
    published.publish(TABLE)
    first = served(published)
    now = 1001.0
    published.publish(OTHER)
    assert served(published)["version"] != first["version"]
    assert served(published)["updated_at"] == "1970-01-01T00:16:41.000Z"


def test_a_wall_clock_that_is_set_changes_no_age() -> None:
    now, wall = 0.0, 1000.0
    published = PublishedRoutes(clock=lambda: now, wall_clock=lambda: wall)
    published.publish(TABLE)
    for set_to in (10.0, 100_000.0):
        now, wall = now + 5.0, set_to
        assert published.age_seconds == now
        assert served(published)["age_seconds"] == now


def test_the_age_of_a_table_that_was_seen_earlier() -> None:
    published = PublishedRoutes(clock=lambda: 7.0, wall_clock=lambda: 1000.0)
    published.publish(TABLE)
    published.mark_fresh(990.0)
    assert published.age_seconds == 10.0
    published.mark_fresh(2000.0)  # of a clock that is ahead
    assert published.age_seconds == 0.0


def with_ready(base: int, dev: int) -> RouteTable:
    base_target, dev_target = Target("o", 80, ready=base), Target("o-dev", 80, ready=dev)
    return RouteTable({"orders": Route(base_target, {"dev": dev_target})})


def test_another_number_of_ready_endpoints_is_no_new_version() -> None:
    published = PublishedRoutes(wall_clock=lambda: 1.0)
    changes: list[bool] = []
    published.subscribe(lambda before, after: changes.append(before.version != after.version))
    published.publish(with_ready(3, 1))
    version = served(published)["version"]
    published.publish(with_ready(2, 4))
    after = served(published)
    assert after["version"] == version
    assert after["services"]["orders"]["base"]["ready"] == 2  # type: ignore[index]
    published.publish(with_ready(2, 0))
    assert served(published)["version"] != version
    assert changes == [True, False, True]
    published.publish(with_ready(2, 0))
    assert len(changes) == 3


def test_the_changes_after_a_version_are_told_while_they_are_known() -> None:
    published = PublishedRoutes(wall_clock=lambda: 1.0)
    services: dict[str, object] = {"orders": {"port": 80}, "users": {"port": 80}}

    def publish(**change: object) -> str:
        services.update(change)
        present = {name: part for name, part in services.items() if part is not None}
        published.publish(parse_routes({"services": present}))
        return published.table.version

    def changes(since: str) -> tuple[set[str], list[str]] | None:
        rendered = published.render_delta(since)
        if rendered is None:
            return None
        document = json.loads(rendered.body)
        assert document["since"] == since
        assert document["version"] == rendered.version == published.table.version
        return set(document["services"]), document["removed"]

    first = publish()
    second = publish(orders={"port": 81})
    assert changes(first) == ({"orders"}, [])
    assert changes(second) is None  # the present one: there is nothing to say
    publish(users=None, stock={"port": 80})
    assert changes(first) == ({"orders", "stock"}, ["users"])
    assert changes(second) == ({"stock"}, ["users"])
    assert changes("unknown") is None


def test_changes_are_kept_within_bounds() -> None:
    tables = [parse_routes({"services": {"orders": {"port": port}}}) for port in range(1, 6)]
    for deltas in (RouteDeltas(max_versions=2), RouteDeltas(max_services=2)):
        deltas.record(NO_ROUTES, tables[0])
        for before, after in pairwise(tables):
            deltas.record(before, after)
        known = [deltas.find_changed(table.version) is not None for table in tables]
        assert known == [False, False, True, True, False]


TABLES = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3), max_size=4), min_size=2, max_size=8
)


@given(TABLES, st.data())
def test_changes_applied_to_an_old_table_give_the_present_one(
    contents: list[dict[str, int]], data: st.DataObject
) -> None:
    tables = [
        parse_routes({"services": {name: {"port": port} for name, port in content.items()}})
        for content in contents
    ]
    published = PublishedRoutes(wall_clock=lambda: 1.0)
    for table in tables:
        published.publish(table)
    old, present = data.draw(st.sampled_from(tables)), tables[-1]
    rendered = published.render_delta(old.version)
    if rendered is None:
        return
    document = json.loads(rendered.body)
    kept = {n: part for n, part in old.documents.items() if n not in document["removed"]}
    assert {**kept, **document["services"]} == present.documents


def test_doubt_marks_and_confirmation_unmarks_without_a_new_version() -> None:
    published = PublishedRoutes(wall_clock=lambda: 1.0)
    published.publish(TABLE)
    version = served(published)["version"]
    published.mark_stale()
    assert served(published)["stale"] is True
    assert b"x-registry-stale: true" in published.render_all().respond_not_modified().head
    published.mark_fresh()
    assert (served(published)["stale"], served(published)["version"]) == (False, version)


def test_what_was_taken_from_a_snapshot_keeps_its_times() -> None:
    published = PublishedRoutes(wall_clock=lambda: 100.0)
    assert published.age_seconds == float("inf")
    published.restore(TABLE, 10.0, 20.0)
    assert published.times == (10.0, 20.0)
    assert (published.ready, published.live) == (True, False)
    assert served(published)["age_seconds"] == 80


def request(**headers: str) -> Request:
    fields = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Request("GET", b"/", fields)


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("br", False)],
)
def test_a_large_document_is_compressed_for_who_takes_it(accepted: str, compressed: bool) -> None:
    body = json.dumps(["x"] * 1000).encode()
    response = VersionedDocument("v", body).respond(request(accept_encoding=accepted))
    assert (b"content-encoding: gzip" in response.head) is compressed
    assert (gzip.decompress(response.body) if compressed else response.body) == body
    assert b"vary: accept-encoding" in response.head


def test_a_small_document_is_not_worth_it() -> None:
    response = VersionedDocument("v", b"[]").respond(request(accept_encoding="gzip"))
    assert response.body == b"[]"
