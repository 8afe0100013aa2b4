import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lane_router.command import main
from lane_router.testing import FakeRouteRegistry

ROUTES = {
    "orders": {
        "lanes": ["dev"],
        "port": 8000,
        "lane": {"old": {"name": "orders-old", "port": 8000, "ready": 0}},
    }
}


@pytest.fixture
def registry() -> Iterator[FakeRouteRegistry]:
    with FakeRouteRegistry(ROUTES) as registry:
        yield registry


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    output = capsys.readouterr()
    return code, output.out + output.err


def test_the_table_is_printed(
    registry: FakeRouteRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(capsys, "table", "--url", registry.url)
    assert code == 0
    assert text.splitlines() == [
        "SERVICE  LANE    HOST        PORT  READY",
        "orders   (base)  orders      8000  yes",
        "orders   dev     orders-dev  8000  yes",
        "orders   old     orders-old  8000  no",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["orders", "dev"], 0, "http://orders-dev:8000  lane  x-lane: dev\n"),
        (["orders"], 0, "http://orders:8000  base  no lane\n"),
        (["orders", "x"], 0, "http://orders:8000  base_fallback  x-lane: x\n"),
        (["www.example.com", "x"], 1, "http://www.example.com:80  foreign  no lane\n"),
        (["orders", "x", "--mode", "strict"], 2, "the mode is strict"),
        (["orders", "X"], 2, "lane must be a DNS label"),
    ],
)
def test_a_resolution_is_printed(
    registry: FakeRouteRegistry,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    line: str,
) -> None:
    exit_code, text = run(capsys, "resolve", *arguments, "--url", registry.url)
    assert exit_code == code
    assert line in text


def test_an_explanation_names_the_reason(
    registry: FakeRouteRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(capsys, "explain", "orders", "old", "--mode", "strict", "--url", registry.url)
    assert code == 1
    assert "outcome  strict_miss" in text
    assert "reason   no instance is ready in the lane, and the mode is strict" in text
    assert run(capsys, "explain", "--url", registry.url)[0] == 2


def test_rules_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rules.json"
    rule = {"name": "beta", "lane": "dev", "match": {"on": "header:x-user", "equals": "7"}}
    path.write_text(json.dumps({"rules": [rule]}))
    code, text = run(capsys, "explain", "--rules", str(path), "--header", "X-User=7")
    assert (code, text) == (0, "RULE  VERDICT\nbeta  applies\nlane: dev\n")
    code, text = run(capsys, "explain", "--rules", str(path))
    assert (code, "the request does not match" in text) == (1, True)
    assert run(capsys, "explain", "--rules", str(path), "--query", "x")[0] == 2
    assert run(capsys, "explain", "--rules", str(tmp_path / "absent"))[0] == 2


def test_changes_are_printed_as_they_come(
    registry: FakeRouteRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    def change() -> None:
        registry.wait_for_requests(2)
        registry.publish({"orders": {"lanes": ["dev", "new"], "port": 8000}})

    thread = threading.Thread(target=change)
    thread.start()
    code, text = run(capsys, "watch", "--changes", "1", "--url", registry.url)
    thread.join()
    assert code == 0
    assert "- orders old orders-old 8000 no\n+ orders new orders-new 8000 yes\n" in text


def test_a_registry_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "table", "--url", "http://127.0.0.1:9", "--timeout", "0.2")
    assert code == 2
    assert "no route table from http://127.0.0.1:9" in text
    assert "check --url or LANE_ROUTER_URL" in text


def run_json(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, list[dict[str, object]]]:
    code, text = run(capsys, *arguments)
    return code, [json.loads(line) for line in text.splitlines()]


def test_area_and_verb_say_the_same_as_the_short_spellings(
    registry: FakeRouteRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    url = ("--url", registry.url)
    pairs = [
        (("table",), ("route", "list")),
        (("resolve", "orders", "dev"), ("route", "get", "orders", "--lane", "dev")),
        (("explain", "orders", "old"), ("route", "explain", "orders", "--lane", "old")),
    ]
    for short, long in pairs:
        assert run(capsys, *short, *url) == run(capsys, *long, *url)


@pytest.mark.parametrize("before", [True, False])
def test_json_is_understood_before_and_after_the_command(
    registry: FakeRouteRegistry, capsys: pytest.CaptureFixture[str], before: bool
) -> None:
    first, last = (["--json"], []) if before else ([], ["--json"])
    url = ("--url", registry.url)
    code, rows = run_json(capsys, *first, "route", "list", *url, *last)
    assert (code, len(rows)) == (0, 3)
    assert rows[0] == {
        "service": "orders",
        "lane": None,
        "host": "orders",
        "port": 8000,
        "ready": True,
    }
    code, (found,) = run_json(capsys, *first, "route", "get", "orders", "dev", *url, *last)
    assert code == 0
    assert found == {"url": "http://orders-dev:8000", "outcome": "lane", "lane": "dev"}
    code, (reason,) = run_json(capsys, *first, "route", "explain", "orders", "dev", *url, *last)
    assert (code, reason["outcome"], reason["port"]) == (0, "lane", 8000)


def test_rules_and_changes_are_printed_as_json(
    registry: FakeRouteRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rules.json"
    rule = {"name": "beta", "lane": "dev", "match": {"on": "header:x-user", "equals": "7"}}
    path.write_text(json.dumps({"rules": [rule]}))
    arguments = ("route", "explain", "--rules", str(path), "--json")
    verdict = {"rule": "beta", "verdict": "applies"}
    assert run_json(capsys, *arguments, "--header", "X-User=7") == (
        0,
        [{"lane": "dev", "rules": [verdict]}],
    )
    assert run_json(capsys, *arguments)[0] == 1

    def change() -> None:
        registry.wait_for_requests(2)
        registry.publish({"orders": {"lanes": ["dev", "new"], "port": 8000}})

    thread = threading.Thread(target=change)
    thread.start()
    code, changes = run_json(
        capsys, "route", "watch", "--changes", "1", "--json", "--url", registry.url
    )
    thread.join()
    assert code == 0
    assert [(each["change"], each["lane"]) for each in changes] == [
        ("removed", "old"),
        ("added", "new"),
    ]


def test_two_different_lanes_are_refused(
    registry: FakeRouteRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(capsys, "resolve", "orders", "a", "--lane", "b", "--url", registry.url)
    assert (code, "the lane is given twice" in text) == (2, True)


def test_what_is_in_a_rule_file_cannot_control_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    evil = "a\x1b]0;title\x07\r\n\u009b2Jb"
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"rules": [{"name": evil, "lane": "dev"}]}))
    _, verdicts = run(capsys, "explain", "--rules", str(rules))
    _, as_json = run(capsys, "--json", "explain", "--rules", str(rules))
    rules.write_text(json.dumps({"rules": [{"name": "a", evil: 1}]}))
    _, error = run(capsys, "explain", "--rules", str(rules))
    assert len(verdicts.splitlines()) == 3
    for text in (verdicts, as_json, error):
        assert "x1b]0;title" in text or r"\u001b]0;title" in text
        assert all(line.isprintable() for line in text.split("\n"))
