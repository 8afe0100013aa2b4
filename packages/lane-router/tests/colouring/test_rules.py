"""Colouring at the gateway: which request gets which lane, and why."""

import http.client
import json
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane_router import (
    ColouringMiddleware,
    ColouringRules,
    ConfigRules,
    GatewayRequest,
    LaneMiddleware,
    LaneWsgiMiddleware,
    RuleFile,
    RulesError,
    current_lane,
)
from microservice_core import InMemoryConfigCenter

NOON = 1_800_000_000.0


def rules(*documents: dict[str, Any], now: float = NOON) -> ColouringRules:
    return ColouringRules.parse({"rules": list(documents)}, wall_clock=lambda: now)


def rule(**fields: Any) -> dict[str, Any]:
    return {"name": "one", "lane": "dev", **fields}


REQUEST = GatewayRequest(
    "POST", "/api/orders", {"x-user": "42", "host": "shop"}, {"beta": "1"}, {"session": "abc"}
)


@pytest.mark.parametrize(
    "condition",
    [
        {"on": "header:X-User", "equals": "42"},
        {"on": "cookie:session", "exists": True},
        {"on": "cookie:other", "exists": False},
        {"on": "query:beta", "in": ["1", "2"]},
        {"on": "path", "prefix": "/api/"},
        {"on": "path", "suffix": "orders"},
        {"on": "path", "matches": "/api/[a-z]+"},
        {"on": "method", "equals": "POST"},
        {"not": {"on": "method", "equals": "GET"}},
        {"all": [{"on": "method", "equals": "POST"}, {"on": "path", "prefix": "/api"}]},
        {"any": [{"on": "method", "equals": "GET"}, {"on": "path", "prefix": "/api"}]},
    ],
)
def test_a_condition_matches_and_its_opposite_does_not(condition: dict[str, Any]) -> None:
    assert rules(rule(match=condition)).lane_for(REQUEST) == "dev"
    assert rules(rule(match={"not": condition})).lane_for(REQUEST) is None


@pytest.mark.parametrize(
    "condition",
    [
        {"on": "header:absent", "equals": ""},
        {"on": "header:absent", "prefix": ""},
        {"on": "path", "matches": "/api"},
        {"on": "header:x-user", "in": []},
        {"all": [{"on": "method", "equals": "POST"}, {"on": "path", "prefix": "/web"}]},
    ],
)
def test_a_condition_that_does_not_match(condition: dict[str, Any]) -> None:
    assert rules(rule(match=condition)).lane_for(REQUEST) is None


def test_a_value_that_is_too_long_matches_no_expression() -> None:
    long = GatewayRequest(headers={"x-user": "a" * 5000})
    assert rules(rule(match={"on": "header:x-user", "matches": "a+"})).lane_for(long) is None


def test_the_smallest_priority_wins_and_of_equals_the_first() -> None:
    chosen = rules(
        rule(name="late", lane="late", priority=200),
        rule(name="first", lane="first", priority=1),
        rule(name="second", lane="second", priority=1),
    )
    assert chosen.lane_for(REQUEST) == "first"


def test_an_explanation_says_which_rule_won_and_why_the_others_did_not() -> None:
    explanation = rules(
        rule(name="off", enabled=False, priority=1),
        rule(name="old", expires_at="2026-01-01T00:00:00Z", priority=2),
        rule(name="get", match={"on": "method", "equals": "GET"}, priority=3),
        rule(name="few", percentage=0, key="header:x-user", priority=4),
        rule(name="keyless", percentage=50, key="cookie:user", priority=5),
        rule(name="won", lane="test", priority=6),
        rule(name="never", priority=7),
    ).explain(REQUEST)
    assert (explanation.lane, explanation.rule) == ("test", "won")
    assert [(step.rule, step.reason) for step in explanation.steps] == [
        ("off", "it is switched off"),
        ("old", "it has expired"),
        ("get", "the request does not match"),
        ("few", "the key is not in the share of 0.00%"),
        ("keyless", "the request does not have the key that decides its share"),
        ("won", ""),
    ]
    assert rules().explain(REQUEST).lane is None


def test_a_lane_expires() -> None:
    document = rule(expires_at="2027-01-15T08:00:00+00:00")  # = NOON
    assert rules(document, now=NOON - 1).lane_for(REQUEST) == "dev"
    assert rules(document, now=NOON).lane_for(REQUEST) is None


def users_in_share(percentage: float, **fields: Any) -> set[int]:
    chosen = rules(rule(percentage=percentage, key="header:x-user", **fields))
    return {
        user
        for user in range(2000)
        if chosen.lane_for(GatewayRequest(headers={"x-user": str(user)})) == "dev"
    }


def test_a_share_is_stable_by_its_key_and_only_grows() -> None:
    ten, twenty = users_in_share(10), users_in_share(20)
    assert ten == users_in_share(10)
    assert ten < twenty
    assert 140 < len(ten) < 260
    assert 320 < len(twenty) < 480
    assert users_in_share(0) == set()
    assert len(users_in_share(100)) == 2000


@pytest.mark.parametrize(
    ("uptime", "share"), [(-5, 0.0), (0, 0.0), (50, 0.25), (100, 1.0), (500, 1.0)]
)
def test_warm_up_grows_with_uptime_by_its_curvature(uptime: float, share: float) -> None:
    warm_up = {"from": "2027-01-15T08:00:00Z", "seconds": 100, "curvature": 2}
    chosen = rules(rule(key="header:x-user", warm_up=warm_up), now=NOON + uptime)
    users = [GatewayRequest(headers={"x-user": str(user)}) for user in range(2000)]
    inside = sum(chosen.lane_for(user) == "dev" for user in users)
    assert abs(inside / 2000 - share) < 0.03


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "an object with a list `rules`"),
        ({"rules": {}}, "an object with a list `rules`"),
        ({"rules": [1]}, r"rules\[0\] must be an object, not 1"),
        ({"rules": [{}]}, r"rules\[0\]: name must be a text, not None"),
        ({"rules": [rule(colour=1)]}, "there is no field 'colour'"),
        ({"rules": [rule(lane="D")]}, "rule 'one': lane must be a lane name, not 'D'"),
        ({"rules": [rule(priority=1.5)]}, "priority must be a whole number"),
        ({"rules": [rule(percentage=101)]}, "percentage must be a number from 0 to 100, not 101"),
        ({"rules": [rule(percentage=10)]}, "key must be"),
        ({"rules": [rule(enabled="yes")]}, "enabled must be true or false"),
        ({"rules": [rule(expires_at="tomorrow")]}, "expires_at must be a time with its zone"),
        ({"rules": [rule(expires_at="2026-01-01T00:00:00")]}, "expires_at must be a time with its"),
        ({"rules": [rule(key="user")]}, "key must be 'header:NAME'"),
        ({"rules": [rule(warm_up=1, key="path")]}, "warm_up must be an object"),
        ({"rules": [rule(warm_up={"from": "2026-01-01T00:00:00Z", "seconds": 0}, key="path")]}, "warm_up.seconds must be"),
        ({"rules": [rule(match=[])]}, "match must be an object"),
        ({"rules": [rule(match={})]}, "match must have 'all', 'any', 'not', or 'on'"),
        ({"rules": [rule(match={"all": []})]}, "match.all must be a list of conditions"),
        ({"rules": [rule(match={"on": "host", "equals": "x"})]}, "match.on must be 'header:NAME'"),
        ({"rules": [rule(match={"on": "path", "equals": 1})]}, "match.equals must be a text"),
        ({"rules": [rule(match={"on": "path", "exists": 1})]}, "match.exists must be true or false"),
        ({"rules": [rule(match={"on": "path", "in": "x"})]}, "match.in must be a list of texts"),
        ({"rules": [rule(match={"on": "path", "like": "x"})]}, "there is no such operator"),
        ({"rules": [rule(match={"on": "path", "matches": "("})]}, "must be a regular expression"),
        ({"rules": [rule(), rule()]}, "two rules are called 'one'"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_named(document: Any, message: str) -> None:
    with pytest.raises(RulesError, match=message):
        ColouringRules.parse(document)


def test_conditions_nested_without_end_are_refused() -> None:
    condition: dict[str, Any] = {"on": "path", "equals": "/"}
    for _ in range(20):
        condition = {"not": condition}
    with pytest.raises(RulesError, match="nested deeper"):
        rules(rule(match=condition))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_rule_file_is_read_again_when_it_changed_and_a_broken_one_changes_nothing(
    tmp_path: Path,
) -> None:
    path, clock = tmp_path / "rules.toml", Clock()
    path.write_text('[[rules]]\nname = "a"\nlane = "dev"\nexpires_at = 2100-01-01T00:00:00Z\n')
    file = RuleFile(path, clock=clock)
    assert file.lane_for(REQUEST) == "dev"
    path.write_text('[[rules]]\nname = "a"\nlane = "test"\n')
    assert file.lane_for(REQUEST) == "dev"
    clock.now = 3.0
    assert file.lane_for(REQUEST) == "test"
    path.write_text("rules = 7")
    clock.now = 6.0
    assert file.lane_for(REQUEST) == "test"
    assert "an object with a list `rules`" in file.problem
    path.unlink()
    clock.now = 9.0
    assert file.explain(REQUEST).lane == "test"
    assert "No such file" in file.problem
    path.write_text('[[rules]]\nname = "a"\nlane = "good"\n')
    clock.now = 12.0
    assert (file.lane_for(REQUEST), file.problem) == ("good", "")


@pytest.mark.parametrize(
    ("name", "content"), [("a.json", "{"), ("a.toml", "["), ("a.json", "\xff")]
)
def test_a_rule_file_that_is_wrong_at_the_start_is_an_error(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(RulesError):
        RuleFile(tmp_path / name)
    with pytest.raises(RulesError, match="cannot be read"):
        RuleFile(tmp_path / "absent.json")


def test_a_rule_file_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(" " * (5 * 1024 * 1024))
    with pytest.raises(RulesError, match="at most 1048576 bytes"):
        RuleFile(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[" * 100_000, "the colouring rules, line 1: it must be nested at most 64 levels deep"),
        ('{"rules": [{"name": "a", "percentage": 1' + "0" * 5000 + "}]}", "at most 100 digits"),
        ('{"rules": [{"name": "a\\ud800"}]}', "half of a surrogate pair"),
        (json.dumps({"rules": [rule(match={"on": "path", "matches": "a{99999999999}"})]}), "256"),
        (json.dumps({"rules": [rule(match={"on": "path", "matches": "(" * 1000})]}), "deeper"),
        ("\xff", "it must be UTF-8"),
    ],
    ids=lambda value: value[-40:],
)
def test_rules_that_cannot_be_read_never_raise_into_a_request(
    tmp_path: Path, content: str, problem: str
) -> None:
    path, clock = tmp_path / "rules.json", Clock()
    path.write_text(json.dumps({"rules": [rule()]}))
    file = RuleFile(path, clock=clock)
    path.write_bytes(content.encode("latin-1"))
    clock.now = 3.0
    assert file.lane_for(REQUEST) == "dev"
    assert problem in file.problem


def test_an_error_shows_a_huge_value_shortened() -> None:
    for percentage in (10**5000, "9" * 100_000):
        with pytest.raises(RulesError, match="percentage must be a number") as caught:
            ColouringRules.parse({"rules": [rule(percentage=percentage)]})
        assert len(str(caught.value)) < 300


async def test_rules_from_the_configuration_center_follow_it() -> None:
    center = InMemoryConfigCenter()
    live = ConfigRules(center, "lanes.json")
    assert live.lane_for(REQUEST) is None
    for document, lane in (
        ({"rules": [rule()]}, "dev"),
        ({"rules": 7}, "dev"),
        ({"rules": [rule(lane="test")]}, "test"),
    ):
        await center.publish_config("lanes.json", json.dumps(document))
        async with _time_limit():
            while live.lane_for(REQUEST) != lane or bool(live.problem) != (document["rules"] == 7):
                await _yield_to_loop()
    await center.delete_config("lanes.json")
    async with _time_limit():
        while live.lane_for(REQUEST) is not None:
            await _yield_to_loop()
    live.close()
    live.close()
    await center.close()


def _time_limit() -> Any:
    import asyncio

    return asyncio.timeout(20)


async def _yield_to_loop() -> None:
    from anyio.lowlevel import checkpoint

    await checkpoint()


Message = MutableMapping[str, Any]


class App:
    def __init__(self) -> None:
        self.seen: list[tuple[str | None, list[tuple[bytes, bytes]]]] = []

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        self.seen.append((current_lane(), list(scope.get("headers", []))))


async def nothing() -> Message:
    return {}


async def ignore(message: Message) -> None:
    """Nothing."""


async def test_trap_11_clients_do_not_choose_their_lane_the_rules_do() -> None:
    app = App()
    edge = ColouringMiddleware(app, rules=rules(rule(match={"on": "cookie:beta", "equals": "1"})))
    forged = [(b"X-Lane", b"mine"), (b"baggage", b"lane=mine,user=7"), (b"baggage", b"lane=x")]
    await edge({"type": "http", "headers": [*forged, (b"cookie", b"beta=1")]}, nothing, ignore)
    await edge({"type": "http", "headers": forged}, nothing, ignore)
    await edge({"type": "lifespan"}, nothing, ignore)
    assert app.seen == [
        ("dev", [(b"baggage", b"user=7"), (b"cookie", b"beta=1"), (b"x-lane", b"dev")]),
        (None, [(b"baggage", b"user=7")]),
        (None, []),
    ]


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


def _say_lane(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(current_lane()).encode()]


@pytest.mark.parametrize("name", [b"x-lane", b"x_lane", b"X_Lane"])
@pytest.mark.parametrize("lane", [None, "beta"])
async def test_no_look_alike_of_the_header_reaches_a_wsgi_service(
    name: bytes, lane: str | None
) -> None:
    app = App()
    edge = ColouringMiddleware(app, rules=rules(*([rule(lane=lane)] if lane else [])))
    await edge({"type": "http", "headers": [(name, b"dev")]}, nothing, ignore)
    ((_, headers),) = app.seen
    wsgi = LaneWsgiMiddleware(_say_lane)
    with make_server("127.0.0.1", 0, wsgi, handler_class=_QuietHandler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        connection.putrequest("GET", "/")
        for key, value in headers:
            connection.putheader(key, value)
        connection.endheaders()
        assert connection.getresponse().read() == str(lane).encode()
        connection.close()
        thread.join()


async def test_a_header_of_ones_own_has_its_look_alikes_removed() -> None:
    app = App()
    edge = ColouringMiddleware(app, rules=rules(), header="x-my-lane")
    names = [b"x-my_lane", b"x-my-lane", b"X_My_Lane", b"x-my-lanes"]
    await edge({"type": "http", "headers": [(name, b"dev") for name in names]}, nothing, ignore)
    assert app.seen == [(None, [(b"x-my-lanes", b"dev")])]


async def test_a_trusted_request_chooses_for_itself() -> None:
    app = App()
    edge = ColouringMiddleware(
        LaneMiddleware(app), rules=rules(), trust=lambda request: "x-staff" in request.headers
    )
    await edge(
        {"type": "http", "headers": [(b"x-lane", b"mine"), (b"x-staff", b"1")]}, nothing, ignore
    )
    assert app.seen[0][0] == "mine"


def test_a_request_is_read_from_a_scope() -> None:
    scope = {
        "type": "http",
        "method": "PUT",
        "path": "/a",
        "query_string": b"x=1&x=2&y=%20&z",
        "headers": [(b"Cookie", b"a=1; b=2"), (b"x-a", b"1"), (b"x-a", b"2")],
    }
    request = GatewayRequest.from_scope(scope)
    assert request.query == {"x": "1", "y": " ", "z": ""}
    assert request.cookies == {"a": "1", "b": "2"}
    assert (request.method, request.path, request.headers["x-a"]) == ("PUT", "/a", "1")


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_whatever_a_stranger_sends_there_is_a_verdict(query: bytes, cookie: bytes) -> None:
    scope = {"query_string": query, "headers": [(b"cookie", cookie)]}
    chosen = rules(
        rule(match={"on": "cookie:a", "equals": "1"}),
        rule(name="q", match={"on": "query:a", "exists": True}),
    )
    assert chosen.lane_for(GatewayRequest.from_scope(scope)) in {None, "dev"}
