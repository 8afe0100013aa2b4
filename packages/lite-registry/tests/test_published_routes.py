import gzip
import json

import pytest

from lite_registry.conditional_response import VersionedDocument
from lite_registry.published_routes import PublishedRoutes
from lite_registry.request import Request
from lite_registry.routes import parse_routes

TABLE = parse_routes({"services": {"orders": {"port": 8000, "lanes": ["dev"]}}})
OTHER = parse_routes({"services": {"orders": {"port": 8001}}})


def served(published: PublishedRoutes) -> dict[str, object]:
    document = json.loads(published.render_all().body)
    assert isinstance(document, dict)
    return document


def test_publishing_the_same_again_refreshes_the_age_and_nothing_else() -> None:
    now = 1000.0
    published = PublishedRoutes(wall_clock=lambda: now)
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


def test_a_clock_that_is_set_back_makes_no_negative_age() -> None:
    now = 1000.0
    published = PublishedRoutes(wall_clock=lambda: now)
    published.publish(TABLE)
    now = 10.0
    assert served(published)["age_seconds"] == 0
    assert published.age_seconds == 0.0


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
