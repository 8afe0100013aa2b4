"""Each row of the fallback table of lane routing, by name."""

import math

import pytest

from lane_router import (
    InvalidLaneError,
    LaneClass,
    LaneClasses,
    LaneCounts,
    LaneRouter,
    LaneUnavailableError,
    lane_scope,
)
from lane_router.resolution import Outcome

DOCUMENT = {
    "services": {
        "orders": {
            "lanes": ["dev", "empty"],
            "port": 8000,
            "base": {"name": "orders", "port": 8000, "ports": {"http": 8000, "grpc": 9000}},
            "lane": {
                "dev": {"name": "orders-of-dev", "port": 8001, "ports": {"http": 8001, "grpc": 9001}, "ready": 1},
                "empty": {"name": "orders-empty", "port": 8000, "ports": {}, "ready": 0},
                "gone": {"name": "orders-gone", "port": 8000, "ports": {}, "ready": 0},
            },
        },
        "users": {"lanes": ["dev"], "port": 3000},
        "only-lane": {"base": None, "lanes": ["dev"], "port": 3000},
    }
}  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def router(mode: str = "permissive", **options: object) -> LaneRouter:
    return LaneRouter.from_document(DOCUMENT, mode=mode, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("lane", [None, "prod"])
def test_row_none_or_prod_is_the_base_and_no_lane_is_sent(lane: str | None) -> None:
    for routes in (router(), router("strict"), router(age_seconds=10_000.0)):
        with lane_scope(lane):
            resolution = routes.resolve("orders")
        assert (resolution.url, resolution.lane, resolution.outcome) == (
            "http://orders:8000",
            None,
            "base",
        )


def test_row_none_takes_the_port_from_the_static_defaults_when_the_table_has_none() -> None:
    resolution = LaneRouter(services={"orders": 8000}).resolve("orders")
    assert (resolution.url, resolution.outcome) == ("http://orders:8000", "base")


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_row_fresh_and_ready_is_the_lane_as_published_with_its_own_port(mode: str) -> None:
    resolution = router(mode).resolve("orders", "dev")
    assert (resolution.host, resolution.port, resolution.url) == (
        "orders-of-dev",
        8001,
        "http://orders-of-dev:8001",
    )
    assert (resolution.lane, resolution.outcome, resolution.in_lane) == ("dev", "lane", True)


@pytest.mark.parametrize("lane", ["absent", "empty", "gone"])
def test_row_fresh_and_absent_or_not_ready_permissive_is_the_base_and_the_lane_is_still_sent(
    lane: str,
) -> None:
    resolution = router().resolve("orders", lane)
    assert (resolution.url, resolution.lane, resolution.outcome) == (
        "http://orders:8000",
        lane,
        "base_fallback",
    )


@pytest.mark.parametrize("lane", ["absent", "empty"])
def test_row_fresh_and_absent_strict_is_an_error(lane: str) -> None:
    counts = LaneCounts()
    with pytest.raises(LaneUnavailableError, match="'orders' has no ready instance in lane"):
        router("strict", observer=counts).resolve("orders", lane)
    assert counts.resolutions == {("orders", lane, "strict_miss"): 1}


def test_row_stale_permissive_keeps_the_last_good_decision() -> None:
    old = router(age_seconds=200.0)
    outcomes = [old.resolve("orders", lane).outcome for lane in ("dev", "absent")]
    assert outcomes == ["lane_stale", "base_stale"]
    assert [old.resolve("orders", lane).lane for lane in ("dev", "absent")] == ["dev", "absent"]


def test_row_stale_strict_keeps_a_lane_and_refuses_what_was_not_there() -> None:
    old = router("strict", age_seconds=200.0)
    assert old.resolve("orders", "dev").outcome == "lane_stale"
    with pytest.raises(LaneUnavailableError):
        old.resolve("orders", "absent")


def test_a_table_that_is_not_refreshed_becomes_stale_and_shows_its_age() -> None:
    clock = Clock()
    routes = router(clock=clock)
    fresh = routes.resolve("orders", "dev")
    assert routes.resolve("orders", "dev") is fresh
    clock.now += 179.0
    assert (routes.resolve("orders", "dev").outcome, fresh.age_seconds) == ("lane", 179.0)
    clock.now += 2.0
    assert routes.resolve("orders", "dev").outcome == "lane_stale"
    assert routes.resolve("orders", "dev").age_seconds == 181.0


def test_row_never_loaded_permissive_is_the_base_with_the_static_port() -> None:
    resolution = LaneRouter(services={"orders": 8000}).resolve("orders", "dev")
    assert (resolution.url, resolution.lane, resolution.outcome) == (
        "http://orders:8000",
        "dev",
        "base_no_table",
    )
    assert resolution.age_seconds == math.inf


def test_row_never_loaded_strict_is_an_error() -> None:
    with pytest.raises(LaneUnavailableError):
        LaneRouter(services={"orders": 8000}, mode="strict").resolve("orders", "dev")


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_row_unknown_service_is_foreign_and_sent_no_lane(mode: str) -> None:
    resolution = router(mode).resolve("payments", "dev")
    assert (resolution.host, resolution.lane, resolution.outcome) == ("payments", None, "foreign")
    assert not resolution.in_mesh


def test_a_service_only_known_statically_has_no_lanes() -> None:
    resolution = router(services={"mail": 25}).resolve("mail", "dev")
    assert (resolution.url, resolution.lane, resolution.outcome) == (
        "http://mail:25",
        "dev",
        "base_fallback",
    )


@pytest.mark.parametrize("lane", ["Dev", "", "d_v", "a,b", "x" * 64])
def test_row_invalid_lane_never_gets_this_far(lane: str) -> None:
    with pytest.raises(InvalidLaneError):
        router().resolve("orders", lane)


@pytest.mark.parametrize(
    ("host", "outcome"),
    [
        ("orders.shop.svc", "lane"),
        ("orders.shop.svc.cluster.local", "lane"),
        ("orders.shop.svc.cluster.local.", "lane"),
        ("ORDERS", "lane"),
        ("orders.shop", "foreign"),
        ("orders.com", "foreign"),
        ("orders.shop.svc.evil.com", "foreign"),
        ("10.0.0.1", "foreign"),
        ("::1", "foreign"),
        ("http://orders", "foreign"),
        ("", "foreign"),
    ],
)
def test_row_hosts_only_service_names_belong_to_the_mesh(host: str, outcome: Outcome) -> None:
    assert router().resolve(host, "dev").outcome == outcome


def test_svc_ns_of_a_configured_namespace_is_a_service_and_keeps_its_namespace() -> None:
    routes = LaneRouter(services={"orders": 8000}, namespaces=["shop"])
    assert routes.resolve("orders.shop").url == "http://orders.shop:8000"
    assert router().resolve("orders.shop.svc", "dev").host == "orders-of-dev.shop.svc"


def test_the_address_of_a_foreign_host_is_returned_unchanged() -> None:
    assert router().resolve("https://api.example.com/v1").url == "https://api.example.com/v1"


def test_a_lane_without_a_base_is_reached_and_others_are_an_error() -> None:
    assert router().resolve("only-lane", "dev").url == "http://only-lane-dev:3000"
    with pytest.raises(LaneUnavailableError):
        router().resolve("only-lane", "other")


@pytest.mark.parametrize(
    ("requested", "expected"), [(0, 8001), (8000, 8001), (9000, 9001), (8001, 8001), (7000, 7000)]
)
def test_trap_8_the_port_of_one_lane_is_never_applied_to_another(
    requested: int, expected: int
) -> None:
    assert router().resolve("orders", "dev", port=requested).port == expected
    assert router().resolve("orders", port=requested).port == (requested or 8000)


def test_trap_6_a_lane_whose_derived_name_is_another_services_base_is_ignored() -> None:
    routes = LaneRouter.from_document(
        {"services": {"a": {"lanes": ["b", "c"], "port": 1}, "a-b": {"lanes": [], "port": 2}}}
    )
    assert routes.resolve("a", "b").outcome == "base_fallback"
    assert routes.resolve("a", "c").host == "a-c"


def test_trap_7_a_lane_that_refused_is_absent_for_a_while() -> None:
    clock = Clock()
    routes = router(clock=clock)
    routes.mark_unreachable("orders", "dev")
    assert routes.resolve("orders", "dev").outcome == "base_fallback"
    assert routes.lanes("orders") == ()
    assert routes.resolve("users", "dev").outcome == "lane"
    clock.now += 0.5
    assert routes.resolve("orders", "dev").outcome == "lane"
    assert routes.lanes("orders") == ("dev",)


def absent_seconds(routes: LaneRouter, clock: Clock, lane: str = "dev") -> float:
    began = clock.now
    while routes.resolve("orders", lane).outcome == "base_fallback":
        clock.now += 0.25
    return clock.now - began


def test_trap_7_a_new_lane_that_dns_does_not_know_yet_is_tried_again_soon() -> None:
    """And one that keeps refusing ever more rarely."""
    clock = Clock()
    routes = router(clock=clock)
    waits = []
    for _ in range(9):
        routes.mark_unreachable("orders", "dev")
        waits.append(absent_seconds(routes, clock))
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_trap_7_requests_refused_together_count_once() -> None:
    clock = Clock()
    routes = router(clock=clock)
    for _ in range(100):
        routes.mark_unreachable("orders", "dev")
    assert absent_seconds(routes, clock) == 0.5


def test_trap_7_a_lane_that_was_reachable_for_long_starts_again_at_the_first_duration() -> None:
    clock = Clock()
    routes = router(clock=clock)
    for _ in range(5):
        routes.mark_unreachable("orders", "dev")
        absent_seconds(routes, clock)
    clock.now += 30
    routes.mark_unreachable("orders", "dev")
    assert absent_seconds(routes, clock) == 0.5


def test_classes_give_a_lane_its_mode() -> None:
    classes = LaneClasses(LaneClass("ppe-*", "strict"), LaneClass("d*"))
    routes = router(classes=classes)
    assert routes.resolve("orders", "different").outcome == "base_fallback"
    with pytest.raises(LaneUnavailableError):
        routes.resolve("orders", "ppe-one")


def test_closed_classes_refuse_every_other_lane() -> None:
    routes = router(classes=LaneClasses(LaneClass("dev"), otherwise="refuse"))
    assert routes.resolve("orders", "dev").outcome == "lane"
    assert routes.resolve("orders", "prod").outcome == "base"
    with pytest.raises(InvalidLaneError, match="a lane of one of the classes"):
        routes.resolve("orders", "absent")


def test_an_explanation_says_why_and_raises_nothing_for_a_strict_lane() -> None:
    decision = router("strict").explain("orders", "absent")
    assert decision.outcome == "strict_miss"
    assert decision.reason == "the service has no such lane, and the mode is strict"


def test_caches_are_bounded_whatever_is_looked_up() -> None:
    routes = router()
    for number in range(20_000):
        routes.resolve("orders", f"lane-{number}")
    assert 0 < routes.stats().cached_resolutions <= 8192
    for number in range(3000):
        routes.mark_unreachable("orders", f"lane-{number}")
    assert 0 < len(routes.stats().unreachable_lanes) <= 1024


def published(**target: object) -> LaneRouter:
    """A router that knows one base, `orders`, as described."""
    entry = {"lanes": [], "base": {"name": "orders", "port": 8000, **target}}
    return LaneRouter.from_document({"services": {"orders": entry}})


@pytest.mark.parametrize(
    ("target", "plain", "secure"),
    [
        ({}, 8000, 443),
        ({"ports": {"http": 8000}}, 8000, 443),
        ({"ports": {"http": 8000, "https": 8443}}, 8000, 8443),
        ({"ports": {"http": 8000, "https-web": 8443}}, 8000, 8443),
        ({"ports": {"https-admin": 9443, "https": 8443}}, 8000, 8443),
        ({"ports": {"web": 8443}, "app_protocols": {"web": "https"}}, 8000, 8443),
        ({"ports": {"web": 8443}, "app_protocols": {"web": "HTTPS"}}, 8000, 8443),
        ({"ports": {"https": 8443}, "app_protocols": {"https": "http"}}, 8000, 443),
        ({"ports": {"web": 8443}, "app_protocols": {"web": 5}}, 8000, 443),
        ({"ports": {"https": 0}, "app_protocols": "https"}, 8000, 443),
        # The main port speaks TLS: the other URL goes to a plain one if there is one.
        ({"port": 8443, "ports": {"https": 8443}}, 8443, 8443),
        ({"port": 8443, "ports": {"https": 8443, "http-web": 8080}}, 8080, 8443),
        ({"port": 9443, "ports": {"https-a": 8443, "https-b": 9443}}, 9443, 9443),
    ],
)
def test_the_scheme_chooses_the_port(target: dict[str, object], plain: int, secure: int) -> None:
    routes = published(**target)
    assert routes.resolve("orders").url == f"http://orders:{plain}"
    assert routes.resolve("orders", scheme="ws").url == f"ws://orders:{plain}"
    assert routes.resolve("orders", scheme="https").url == f"https://orders:{secure}"
    assert routes.base_url("orders", scheme="wss") == f"wss://orders:{secure}"
    assert routes.explain("orders", scheme="https").port == secure


def test_a_port_for_secure_websockets_is_preferred_to_that_for_https() -> None:
    routes = published(
        ports={"https": 8443, "push": 9443}, app_protocols={"push": "kubernetes.io/wss"}
    )
    assert routes.resolve("orders", scheme="wss").port == 9443
    assert routes.resolve("orders", scheme="https").port == 8443


def test_the_scheme_chooses_the_port_of_a_lane_and_of_a_service_known_statically() -> None:
    lanes = {"dev": {"name": "orders-dev", "port": 8001, "ports": {"https": 9443}, "ready": 1}}
    entry = {"lanes": ["dev"], "lane": lanes, "base": {"name": "orders", "port": 8000}}
    routes = LaneRouter.from_document({"services": {"orders": entry}}, services={"mail": 25})
    assert routes.resolve("orders", "dev", scheme="https").url == "https://orders-dev:9443"
    assert routes.resolve("orders", "dev").url == "http://orders-dev:8001"
    assert routes.resolve("mail", "dev", scheme="https").url == "https://mail:443"
    assert routes.resolve("mail", scheme="https", port=25).url == "https://mail:25"
    assert routes.resolve("www.example.com", scheme="https").url == "https://www.example.com:443"


@pytest.mark.parametrize(
    ("ports", "url", "outcome"),
    [
        ({"http": 8001}, "https://orders:8443", "base_fallback"),
        ({"http": 8001, "https": 9443}, "https://orders-dev:9443", "lane"),
        ({"web": 443}, "https://orders-dev:443", "lane"),
        ({}, "https://orders-dev:443", "lane"),
    ],
)
def test_a_lane_that_speaks_no_tls_is_absent_for_https_alone(
    ports: dict[str, int], url: str, outcome: Outcome
) -> None:
    base = {"name": "orders", "port": 8000, "ports": {"http": 8000, "https": 8443}}
    lanes = {"dev": {"name": "orders-dev", "port": 8001, "ports": ports}}
    document = {"services": {"orders": {"lanes": ["dev"], "base": base, "lane": lanes}}}
    routes = LaneRouter.from_document(document)
    resolution = routes.resolve("orders", "dev", scheme="https")
    assert (resolution.url, resolution.outcome, resolution.lane) == (url, outcome, "dev")
    assert routes.resolve("orders", "dev").outcome == "lane"
    strict = LaneRouter.from_document(document, mode="strict")
    reason = strict.explain("orders", "dev", scheme="https").reason
    assert ("no port for TLS" in reason) == (outcome == "base_fallback")
